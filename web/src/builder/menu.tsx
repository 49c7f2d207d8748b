/** A button with a menu after the ARIA pattern: arrow keys move, Escape and a click elsewhere close it. */
import { useEffect, useId, useRef, useState, type KeyboardEvent } from "react";

export interface MenuItem {
  readonly title: string;
  readonly help?: string;
  readonly isDisabled?: boolean;
  readonly onPick: () => void;
}

interface MenuProps {
  readonly title: string;
  readonly items: readonly MenuItem[];
  readonly isBusy?: boolean;
}

export function Menu({ title, items, isBusy }: MenuProps) {
  const [isOpen, open] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const id = useId();
  useEffect(() => {
    if (!isOpen) return undefined;
    root.current?.querySelector<HTMLElement>("[role=menuitem]:not([aria-disabled=true])")?.focus();
    const leave = (event: PointerEvent) => {
      if (!root.current?.contains(event.target as Node)) open(false);
    };
    document.addEventListener("pointerdown", leave);
    return () => document.removeEventListener("pointerdown", leave);
  }, [isOpen]);
  const close = () => {
    open(false);
    root.current?.querySelector<HTMLElement>("button")?.focus();
  };
  const onKey = (event: KeyboardEvent) => {
    if (!isOpen) return;
    event.stopPropagation();
    if (event.key === "Escape" || event.key === "Tab") return event.key === "Tab" ? open(false) : close();
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const all = [...(root.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
    all[(all.indexOf(document.activeElement as HTMLElement) + step + all.length) % all.length]?.focus();
  };
  return (
    <div className="menu" ref={root} onKeyDown={onKey}>
      <button type="button" aria-haspopup="menu" aria-expanded={isOpen} aria-controls={id} disabled={isBusy} onClick={() => open(!isOpen)}>
        {title} ▾
      </button>
      {isOpen && (
        <div className="menu-list" id={id} role="menu" aria-label={title}>
          {items.map(({ title: name, help, isDisabled, onPick }) => (
            <button
              key={name}
              type="button"
              role="menuitem"
              tabIndex={-1}
              aria-disabled={isDisabled === true}
              onClick={() => {
                if (isDisabled === true) return;
                close();
                onPick();
              }}
            >
              {name}
              {help !== undefined && <span className="faint">{help}</span>}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}
