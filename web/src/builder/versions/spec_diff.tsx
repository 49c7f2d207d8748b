/** The differences of two specs, by node and field. Values are shown as text. */
import { DiffPartsFragmentDoc, type DiffChange, type DiffPartsFragment } from "~api";
import { readFragment, type FragmentType } from "~/shell/fragments";
import { textOf } from "~/shell/json_value";

interface SpecDiffProps {
  readonly diff: FragmentType<typeof DiffPartsFragmentDoc>;
  readonly onGo: (node: string) => void;
}

type Fields = DiffPartsFragment["nodes"][number]["fields"];

/** A mark and a word: a change never shows by colour alone. */
const CHANGES: Record<DiffChange, string> = { ADDED: "+ added", REMOVED: "− removed", MODIFIED: "~ changed" };
const SHOWN_CHARACTERS = 2000;
const DISPLAY: ReadonlySet<string> = new Set(["position", "x", "y"]);

function isPlace({ path }: Fields[number]): boolean {
  return DISPLAY.has(path.split(/[.[]/)[0]!);
}

/** Say how much differs, in one line. */
export function diffText({ nodes, edges, other }: Pick<DiffPartsFragment, "nodes" | "edges" | "other">): string {
  const moved = nodes.filter(({ change, fields }) => change === "MODIFIED" && fields.length > 0 && fields.every(isPlace)).length;
  const counts: ReadonlyArray<readonly [number, string]> = [
    [nodes.length - moved, "node"],
    [edges.length, "edge"],
    [other.length, "other field"],
  ];
  const parts = counts.flatMap(([count, name]) => (count === 0 ? [] : [`${count} ${name}${count === 1 ? "" : "s"}`]));
  if (moved > 0) parts.push(`${moved} moved`);
  return parts.length === 0 ? "No differences" : parts.join(", ");
}

export function SpecDiff({ diff, onGo }: SpecDiffProps) {
  const parts = readFragment(DiffPartsFragmentDoc, diff);
  return (
    <div className="spec-diff">
      <p className="faint" role="status">
        {diffText(parts)}
      </p>
      {parts.nodes.map(({ nodeId, previousId, change, fields }) => (
        <details key={nodeId} open={fields.length <= 6 && !fields.every(isPlace)}>
          <summary>
            <span className={`diff-mark is-${change.toLowerCase()}`}>{CHANGES[change]}</span> <strong className="wrap">{nodeId}</strong>
            {previousId != null && <span className="faint"> was {previousId}</span>}
          </summary>
          {change !== "REMOVED" && (
            <button type="button" className="quiet" onClick={() => onGo(nodeId)}>
              Show the node
            </button>
          )}
          <FieldList fields={fields} />
        </details>
      ))}
      {parts.edges.map(({ edgeId, change, fields }) => (
        <details key={edgeId}>
          <summary>
            <span className={`diff-mark is-${change.toLowerCase()}`}>{CHANGES[change]}</span> edge <span className="wrap">{edgeId}</span>
          </summary>
          <FieldList fields={fields} />
        </details>
      ))}
      <FieldList fields={parts.other} />
    </div>
  );
}

function FieldList({ fields }: { fields: Fields }) {
  return (
    <dl className="diff-fields">
      {fields.map(({ path, before, after }) => (
        <div key={path}>
          <dt className="mono">{path}</dt>
          <dd>
            {before !== null && before !== undefined && <Value kind="removed" value={before} />}
            {after !== null && after !== undefined && <Value kind="added" value={after} />}
          </dd>
        </div>
      ))}
    </dl>
  );
}

function Value({ kind, value }: { kind: "removed" | "added"; value: unknown }) {
  const text = textOf(value);
  const Tag = kind === "removed" ? "del" : "ins";
  return (
    <Tag className={`diff-value is-${kind}`} dir="auto">
      {text.slice(0, SHOWN_CHARACTERS)}
      {text.length > SHOWN_CHARACTERS && " …"}
    </Tag>
  );
}
