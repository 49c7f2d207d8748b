/** Somebody else has saved: what differs, part by part, and which side to take. Nothing is lost by closing it. */
import { useMemo, useState } from "react";
import { Dialog } from "~/shell/dialog";
import { textOf } from "~/shell/json_value";
import type { Revision } from "./draft_store";
import { differences, keyOf, merge, type Difference, type Side } from "./edits/merge";
import type { Spec } from "./spec";

interface ConflictDialogProps {
  readonly base: Spec;
  readonly mine: Spec;
  readonly theirs: Revision;
  readonly onResolve: (spec: Spec) => void;
  readonly onClose: () => void;
}

const BY: Record<Difference["changedBy"], string> = { mine: "you changed it", theirs: "they changed it", both: "both changed it" };

export function ConflictDialog({ base, mine, theirs, onResolve, onClose }: ConflictDialogProps) {
  const found = useMemo(() => differences(base, mine, theirs.spec), [base, mine, theirs]);
  const [choices, setChoices] = useState<ReadonlyMap<string, Side>>(new Map());
  const sideOf = (one: Difference): Side => choices.get(keyOf(one)) ?? (one.changedBy === "theirs" ? "theirs" : "mine");
  const all = (side: Side) => setChoices(new Map(found.map((one) => [keyOf(one), side])));
  return (
    <Dialog title={`${theirs.updatedBy ?? "Somebody"} has saved revision ${theirs.revision} while you were editing`} onClose={onClose} wide>
      <p>Choose for each part. Parts that only one of you has changed keep the change by default.</p>
      <div className="row conflict-all">
        <button type="button" onClick={() => setChoices(new Map())}>
          Both
        </button>
        <button type="button" onClick={() => all("mine")}>
          All mine
        </button>
        <button type="button" onClick={() => all("theirs")}>
          All theirs
        </button>
      </div>
      {found.map((one) => (
        <fieldset key={keyOf(one)} className="conflict">
          <legend>
            {one.part} <strong>{one.id}</strong> <span className={one.changedBy === "both" ? "field-error" : "faint"}>{BY[one.changedBy]}</span>
          </legend>
          {(["mine", "theirs"] as const).map((side) => (
            <label key={side} className={sideOf(one) === side ? "side is-chosen" : "side"}>
              <span>
                <input type="radio" name={keyOf(one)} checked={sideOf(one) === side} onChange={() => setChoices(new Map(choices).set(keyOf(one), side))} /> {side === "mine" ? "Mine" : "Theirs"}
              </span>
              <pre className="text">{one[side] === undefined ? "(not there)" : textOf(one[side]).slice(0, 4000)}</pre>
            </label>
          ))}
        </fieldset>
      ))}
      <div className="dialog-actions">
        <button type="button" onClick={onClose}>
          Later
        </button>
        <button type="button" className="primary" onClick={() => onResolve(merge(base, mine, theirs.spec, new Map(found.map((one) => [keyOf(one), sideOf(one)]))))}>
          Save the merged draft
        </button>
      </div>
    </Dialog>
  );
}
