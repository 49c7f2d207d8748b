/** Chooses the type of a new node: search by name, category and description, by mouse or by keyboard. */
import { useMemo, useState } from "react";
import { TypeIcon } from "~/canvas/icons";
import type { NodeType, NodeTypes } from "~/canvas/node_types";
import { SearchDialog } from "~/shell/search_dialog";
import { hasWords } from "~/shell/words";

interface PaletteProps {
  readonly types: NodeTypes;
  readonly onPick: (type: NodeType) => void;
  readonly onClose: () => void;
}

/** Return the types that have all the words, those with the words in their names first. */
export function found(types: readonly NodeType[], search: string): NodeType[] {
  const names = ({ name, title }: NodeType) => `${name} ${title}`;
  const matching = types.filter((type) => hasWords(`${names(type)} ${type.category} ${type.description}`, search));
  const isNamed = (type: NodeType) => hasWords(names(type), search);
  return [...matching.filter(isNamed), ...matching.filter((type) => !isNamed(type))];
}

export function Palette({ types, onPick, onClose }: PaletteProps) {
  const [search, setSearch] = useState("");
  const shown = useMemo(() => found([...types.values()], search), [types, search]);
  return (
    <SearchDialog
      title="Add a node"
      searchLabel="Search node types"
      listLabel="Node types"
      placeholder="Search"
      search={search}
      onSearch={setSearch}
      items={shown}
      keyOf={(type) => type.name}
      row={(type) => <TypeRow type={type} />}
      empty="No node type has these words."
      onPick={onPick}
      onClose={onClose}
    />
  );
}

function TypeRow({ type }: { type: NodeType }) {
  return (
    <>
      <TypeIcon name={type.icon} />
      <span className="grow">
        <strong>{type.title}</strong> <span className="faint">{type.category}</span>
        <span className="palette-text">{type.problem ?? type.description}</span>
      </span>
    </>
  );
}
