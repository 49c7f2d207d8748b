/** The cards that React Flow shows: those of the spec, with what the canvas itself knows (sizes, selection, a drag). */
import { applyNodeChanges, type NodeChange } from "@xyflow/react";
import { useCallback, useEffect, useState } from "react";
import type { CardNode } from "./node_card";

/** Return the new cards with the sizes and the selection of the shown ones. Unchanged ones are the same objects. */
export function merged(shown: readonly CardNode[], cards: readonly CardNode[], selected?: ReadonlySet<string>): CardNode[] {
  const before = new Map(shown.map((card) => [card.id, card]));
  return cards.map((card) => {
    const last = before.get(card.id);
    const isSelected = selected ? selected.has(card.id) : (last?.selected ?? false);
    if (last === undefined) return isSelected ? { ...card, selected: true } : card;
    const isSame = last.data === card.data && last.position.x === card.position.x && last.position.y === card.position.y;
    if (isSame && (last.selected ?? false) === isSelected) return last;
    return { ...last, ...card, ...(last.measured ? { measured: last.measured } : {}), selected: isSelected };
  });
}

export function useCards(cards: readonly CardNode[], selected?: ReadonlySet<string>) {
  const [shown, setShown] = useState<CardNode[]>(() => merged([], cards, selected));
  useEffect(() => setShown((last) => merged(last, cards, selected)), [cards, selected]);
  const onChange = useCallback((changes: NodeChange<CardNode>[]) => setShown((last) => applyNodeChanges(changes, last)), []);
  return [shown, onChange] as const;
}
