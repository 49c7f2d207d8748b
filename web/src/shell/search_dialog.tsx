/** A dialog that finds one of many items by words, and chooses it by mouse or by keyboard. */
import { useId, useState, type KeyboardEvent, type ReactNode } from "react";
import { Dialog } from "./dialog";
import "./search_dialog.css";

interface SearchDialogProps<Item> {
  readonly title: string;
  readonly searchLabel: string;
  readonly listLabel: string;
  readonly placeholder: string;
  readonly search: string;
  readonly onSearch: (search: string) => void;
  readonly items: readonly Item[];
  readonly keyOf: (item: Item) => string;
  /** The content of the row of an item. */
  readonly row: (item: Item) => ReactNode;
  /** The text for no items. */
  readonly empty: string;
  readonly onPick: (item: Item) => void;
  readonly onClose: () => void;
}

export function SearchDialog<Item>({ title, searchLabel, listLabel, placeholder, search, onSearch, items, keyOf, row, empty, onPick, onClose }: SearchDialogProps<Item>) {
  const [index, setIndex] = useState(0);
  const list = useId();
  const active = Math.min(index, items.length - 1);
  const onKey = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) {
      event.preventDefault();
      setIndex((active + step + items.length) % Math.max(1, items.length));
    }
    const picked = items[active];
    if (event.key === "Enter" && picked !== undefined) {
      event.preventDefault();
      onPick(picked);
    }
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <input
        className="search-words"
        type="search"
        role="combobox"
        aria-label={searchLabel}
        aria-expanded="true"
        aria-controls={list}
        aria-activedescendant={active >= 0 ? `${list}-${active}` : undefined}
        data-autofocus
        placeholder={placeholder}
        value={search}
        onKeyDown={onKey}
        onChange={(event) => {
          onSearch(event.target.value);
          setIndex(0);
        }}
      />
      {items.length === 0 && <p className="faint">{empty}</p>}
      <ul className="search-items" id={list} role="listbox" aria-label={listLabel}>
        {items.map((item, place) => (
          <li
            key={keyOf(item)}
            id={`${list}-${place}`}
            role="option"
            aria-selected={place === active}
            onClick={() => onPick(item)}
            ref={(shown) => {
              if (place === active) shown?.scrollIntoView({ block: "nearest" });
            }}
          >
            {row(item)}
          </li>
        ))}
      </ul>
    </Dialog>
  );
}
