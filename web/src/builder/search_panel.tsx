/** Search and replace in the spec. A match leads to its node; a replacement is one edit. */
import { useDeferredValue, useMemo, useState } from "react";
import { occurrences, pathText, replace, search, type Match, type Query } from "./edits/search";
import type { Edit } from "./node_panel";
import type { Spec } from "./spec";

interface SearchPanelProps {
  readonly spec: Spec;
  readonly onEdit: Edit;
  readonly onGo: (node: string) => void;
}

const SHOWN = 200;

export function SearchPanel({ spec, onEdit, onGo }: SearchPanelProps) {
  const [query, setQuery] = useState<Query>({ text: "", isCaseSensitive: false });
  const [replacement, setReplacement] = useState("");
  const looked = useDeferredValue(query);
  const matches = useMemo(() => search(spec, looked), [spec, looked]);
  const total = matches.reduce((sum, { count }) => sum + count, 0);
  const change = (some: readonly Match[]) => onEdit((now) => replace(now, some, looked, replacement));
  return (
    <div className="node-panel">
      <input type="search" aria-label="Search the spec" placeholder="Search in texts and expressions" autoFocus value={query.text} onChange={(event) => setQuery({ ...query, text: event.target.value })} />
      <input aria-label="Replace by" placeholder="Replace by" value={replacement} onChange={(event) => setReplacement(event.target.value)} />
      <div className="row">
        <label className="row grow">
          <input type="checkbox" checked={query.isCaseSensitive} onChange={(event) => setQuery({ ...query, isCaseSensitive: event.target.checked })} /> Match case
        </label>
        <button type="button" disabled={matches.length === 0} onClick={() => change(matches)}>
          Replace all
        </button>
      </div>
      <p className="faint" role="status">
        {looked.text === "" ? "Ids of nodes are changed in their panel, with all references." : `${total} ${total === 1 ? "match" : "matches"} in ${matches.length} ${matches.length === 1 ? "text" : "texts"}`}
      </p>
      <ul className="match-list">
        {matches.slice(0, SHOWN).map((match) => (
          <MatchItem key={`${match.nodeId} ${match.edgeId} ${pathText(match.path)}`} match={match} query={looked} onGo={onGo} onReplace={() => change([match])} />
        ))}
      </ul>
      {matches.length > SHOWN && <p className="faint">{matches.length - SHOWN} more texts have it.</p>}
    </div>
  );
}

function MatchItem({ match, query, onGo, onReplace }: { match: Match; query: Query; onGo: (node: string) => void; onReplace: () => void }) {
  const { nodeId, edgeId, path, value } = match;
  const at = occurrences(value, query)[0] ?? 0;
  const start = Math.max(0, at - 24);
  return (
    <li>
      <div className="row">
        {nodeId === undefined ? (
          <strong className="grow truncate">{edgeId === undefined ? "Workflow" : `Edge ${edgeId}`}</strong>
        ) : (
          <button type="button" className="quiet grow truncate" onClick={() => onGo(nodeId)}>
            {nodeId}
          </button>
        )}
        <button type="button" className="quiet" onClick={onReplace} aria-label={`Replace in ${nodeId ?? edgeId ?? "the workflow"}, ${pathText(path)}`}>
          Replace
        </button>
      </div>
      <span className="field-kind">{pathText(path)}</span>
      <code className="wrap" dir="auto">
        {start > 0 && "…"}
        {value.slice(start, at)}
        <mark>{value.slice(at, at + query.text.length)}</mark>
        {value.slice(at + query.text.length, at + query.text.length + 60)}
      </code>
    </li>
  );
}
