/** Chooses the type of a new node: search by name, category and description, by mouse or by keyboard. */
import { useId, useMemo, useState, type KeyboardEvent } from "react";
import { TypeIcon } from "~/canvas/icons";
import type { NodeType, NodeTypes } from "~/canvas/node_types";
import { Dialog } from "~/shell/dialog";

interface PaletteProps {
  readonly types: NodeTypes;
  readonly onPick: (type: NodeType) => void;
  readonly onClose: () => void;
}

/** Return the types that have all the words, those with the words in their names first. */
export function found(types: readonly NodeType[], search: string): NodeType[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const names = ({ name, title }: NodeType) => `${name} ${title}`.toLowerCase();
  const text = (type: NodeType) => `${names(type)} ${type.category} ${type.description}`.toLowerCase();
  const matching = types.filter((type) => words.every((word) => text(type).includes(word)));
  const isNamed = (type: NodeType) => words.every((word) => names(type).includes(word));
  return [...matching.filter(isNamed), ...matching.filter((type) => !isNamed(type))];
}

export function Palette({ types, onPick, onClose }: PaletteProps) {
  const [search, setSearch] = useState("");
  const [index, setIndex] = useState(0);
  const list = useId();
  const shown = useMemo(() => found([...types.values()], search), [types, search]);
  const active = Math.min(index, shown.length - 1);
  const onKey = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) {
      event.preventDefault();
      setIndex((active + step + shown.length) % Math.max(1, shown.length));
    }
    const picked = shown[active];
    if (event.key === "Enter" && picked) {
      event.preventDefault();
      onPick(picked);
    }
  };
  return (
    <Dialog title="Add a node" onClose={onClose}>
      <input
        className="palette-search"
        type="search"
        role="combobox"
        aria-label="Search node types"
        aria-expanded="true"
        aria-controls={list}
        aria-activedescendant={shown[active] ? `${list}-${active}` : undefined}
        data-autofocus
        placeholder="Search"
        value={search}
        onKeyDown={onKey}
        onChange={(event) => {
          setSearch(event.target.value);
          setIndex(0);
        }}
      />
      {shown.length === 0 && <p className="faint">No node type has these words.</p>}
      <ul className="palette" id={list} role="listbox" aria-label="Node types">
        {shown.map((type, place) => (
          <li
            key={type.name}
            id={`${list}-${place}`}
            role="option"
            aria-selected={place === active}
            onClick={() => onPick(type)}
            ref={(item) => {
              if (place === active) item?.scrollIntoView({ block: "nearest" });
            }}
          >
            <TypeIcon name={type.icon} />
            <span className="grow">
              <strong>{type.title}</strong> <span className="faint">{type.category}</span>
              <span className="palette-text">{type.problem ?? type.description}</span>
            </span>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}
