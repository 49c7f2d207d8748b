/** Cut, copy and paste on the canvas, and the keys of the builder. Fields keep theirs. */
import { useEffect, useRef } from "react";
import { copiedText } from "./edits/clipboard";
import { deleteParts } from "./edits/nodes";
import type { Selection } from "./builder_canvas";
import type { Spec } from "./spec";

interface Keys {
  readonly spec: Spec;
  readonly selection: Selection;
  readonly edit: (change: (spec: Spec) => Spec) => void;
  readonly undo: () => void;
  readonly redo: () => void;
  readonly save: () => void;
  readonly add: () => void;
  readonly duplicate: () => void;
  readonly selectAll: () => void;
  readonly pasteText: (text: string) => void;
  readonly search: () => void;
}

function isField(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return target.closest("input, textarea, select, dialog, [contenteditable='true']") !== null;
}

/** Whether the person has selected text of the page, which is what is copied then. */
function hasText(): boolean {
  return (getSelection()?.toString() ?? "") !== "";
}

export function useKeys(keys: Keys): void {
  const latest = useRef(keys);
  useEffect(() => void (latest.current = keys));
  useEffect(() => {
    const stop = new AbortController();
    const { signal } = stop;
    const copy = (event: ClipboardEvent) => {
      const { spec, selection, edit } = latest.current;
      if (isField(event.target) || hasText() || selection.nodes.size === 0) return;
      event.preventDefault();
      event.clipboardData?.setData("text/plain", copiedText(spec, selection.nodes));
      if (event.type === "cut") edit((now) => deleteParts(now, selection.nodes, selection.edges));
    };
    document.addEventListener("copy", copy, { signal });
    document.addEventListener("cut", copy, { signal });
    document.addEventListener(
      "paste",
      (event) => {
        if (isField(event.target)) return;
        event.preventDefault();
        latest.current.pasteText(event.clipboardData?.getData("text/plain") ?? "");
      },
      { signal },
    );
    document.addEventListener("keydown", (event) => press(event, latest.current), { signal });
    return () => stop.abort();
  }, []);
}

function press(event: KeyboardEvent, keys: Keys): void {
  const mod = event.metaKey || event.ctrlKey;
  const key = event.key.toLowerCase();
  if (mod && key === "s") return act(event, keys.save);
  if (mod && key === "f") return act(event, keys.search);
  if (isField(event.target)) return;
  if (mod && key === "z") return act(event, event.shiftKey ? keys.redo : keys.undo);
  if (mod && key === "y") return act(event, keys.redo);
  if (mod && key === "d") return act(event, keys.duplicate);
  if (mod && key === "a") return act(event, keys.selectAll);
  if (!mod && key === "/") return act(event, keys.add);
}

function act(event: KeyboardEvent, action: () => void): void {
  event.preventDefault();
  action();
}
