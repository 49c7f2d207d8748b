/** A slider over the checkpoints of a run: the states and values as they stood, expressions there, and forks from there. */
import { useState } from "react";
import { useQuery } from "urql";
import { CheckpointValueDocument, ForkRunDocument } from "~api";
import { Dialog } from "~/shell/dialog";
import { JsonField } from "~/shell/json_field";
import { JsonValue } from "~/shell/json_value";
import { Loading } from "~/shell/notices";
import { newKey, useOperation } from "~/shell/operation";
import { failureOf } from "~/shell/problems";
import { indexOf, outputExpression, patchOf, positionText, type Position } from "./past";

interface TimeTravelProps {
  readonly runId: string;
  readonly positions: readonly Position[];
  readonly at: string | undefined;
  readonly onMove: (checkpointId: string | undefined) => void;
  readonly completedNodes: readonly string[];
  readonly onForked: (runId: string) => void;
}

export function TimeTravel({ runId, positions, at, onMove, completedNodes, onForked }: TimeTravelProps) {
  const [open, setOpen] = useState<"evaluate" | "fork">();
  if (positions.length === 0) return null;
  const index = indexOf(positions, at);
  const text = positionText(positions, index);
  return (
    <div className="time-travel" role="group" aria-label="Time travel">
      <input
        type="range"
        aria-label="Step of the run"
        aria-valuetext={text}
        min={0}
        max={positions.length}
        value={index}
        onChange={(event) => onMove(positions[Number(event.target.value)]?.id)}
      />
      <span className="grow truncate" role="status">{text}</span>
      {at !== undefined && (
        <>
          <button type="button" onClick={() => setOpen("evaluate")}>
            Evaluate
          </button>
          <button type="button" onClick={() => setOpen("fork")}>
            Fork from here
          </button>
          <button type="button" className="quiet" onClick={() => onMove(undefined)}>
            Now
          </button>
        </>
      )}
      {at !== undefined && open === "evaluate" && <EvaluateDialog runId={runId} at={at} title={text} onClose={() => setOpen(undefined)} />}
      {at !== undefined && open === "fork" && <ForkDialog runId={runId} at={at} title={text} nodes={completedNodes} onForked={onForked} onClose={() => setOpen(undefined)} />}
    </div>
  );
}

interface DialogProps {
  readonly runId: string;
  readonly at: string;
  readonly title: string;
  readonly onClose: () => void;
}

function EvaluateDialog({ runId, at, title, onClose }: DialogProps) {
  const [text, setText] = useState("");
  const [asked, setAsked] = useState<string>();
  return (
    <Dialog title={`Evaluate: ${title}`} onClose={onClose}>
      <form
        className="row"
        onSubmit={(event) => {
          event.preventDefault();
          setAsked(text);
        }}
      >
        <input className="mono grow" aria-label="Expression" placeholder="nodes.classify.output" value={text} onChange={(event) => setText(event.target.value)} />
        <button type="submit" className="primary" disabled={!text.trim()}>
          Evaluate
        </button>
      </form>
      {asked !== undefined && <Value runId={runId} at={at} expression={asked} name="value" />}
    </Dialog>
  );
}

/** The value of an expression at a checkpoint. */
function Value({ runId, at, expression, name }: { runId: string; at: string; expression: string; name: string }) {
  const [{ data, error }] = useQuery({ query: CheckpointValueDocument, variables: { id: runId, checkpointId: at, expression } });
  if (error) return <p className="field-error wrap" role="alert">{failureOf(error)}</p>;
  const result = data?.run?.checkpoint?.evaluate;
  if (!result) return <Loading what="the value" rows={1} />;
  if (result.errors.length === 0) return <JsonValue value={result.value} name={name} />;
  return (
    <>
      {result.errors.map(({ message }) => (
        <p key={message} className="field-error wrap" role="alert">
          {message}
        </p>
      ))}
    </>
  );
}

/** The output of a node as it stood, for the panel of the node. */
export function PastOutput({ runId, at, node }: { runId: string; at: string; node: string }) {
  return (
    <div className="past-output">
      <h3>Output at this step</h3>
      <Value runId={runId} at={at} expression={outputExpression(node)} name={`${node} output`} />
    </div>
  );
}

function ForkDialog({ runId, at, title, nodes, onForked, onClose }: DialogProps & { nodes: readonly string[]; onForked: (runId: string) => void }) {
  const [edited, setEdited] = useState<ReadonlyMap<string, string>>(new Map());
  const { send, problem, isBusy } = useOperation(ForkRunDocument, (data) => data.forkRun);
  const { patch, problem: unreadable } = patchOf(edited);
  const fork = async () => {
    const made = await send({ input: { checkpointId: at, idempotencyKey: newKey(), ...(patch && edited.size > 0 ? { patch } : {}) } });
    if (made?.run) onForked(made.run.id);
  };
  const free = nodes.filter((node) => !edited.has(node));
  return (
    <Dialog title={`Fork: ${title}`} onClose={onClose} wide>
      <p>A new run continues from here. The outputs that you change replace those of the run; this run stays as it is.</p>
      {[...edited.keys()].map((node) => (
        <EditedOutput key={node} runId={runId} at={at} node={node} text={edited.get(node)!} onChange={(text) => setEdited(new Map(edited).set(node, text))} />
      ))}
      {free.length > 0 && (
        <select aria-label="Change the output of" value="" onChange={(event) => setEdited(new Map(edited).set(event.target.value, ""))}>
          <option value="">Change the output of…</option>
          {free.map((node) => (
            <option key={node} value={node}>
              {node}
            </option>
          ))}
        </select>
      )}
      {(problem ?? unreadable) && <p className="field-error wrap" role="alert">{problem ?? unreadable}</p>}
      <div className="dialog-actions">
        <button type="button" className="primary" disabled={isBusy || unreadable !== undefined} onClick={() => void fork()}>
          Fork
        </button>
      </div>
    </Dialog>
  );
}

interface EditedOutputProps {
  readonly runId: string;
  readonly at: string;
  readonly node: string;
  readonly text: string;
  readonly onChange: (text: string) => void;
}

function EditedOutput({ runId, at, node, text, onChange }: EditedOutputProps) {
  return (
    <>
      <JsonField label={`Output of ${node}`} text={text} onChange={onChange} help="JSON. The output as it stood is below." />
      <Value runId={runId} at={at} expression={outputExpression(node)} name={`${node} output as it stood`} />
    </>
  );
}
