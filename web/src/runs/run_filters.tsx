/** The filters of the list of runs. Each change is a change of the address. */
import { useEffect, useId, useState } from "react";
import type { RunSource } from "~api";
import type { RunsFilter } from "~/routes";
import { statusWord } from "~/shell/status";
import { WorkflowChoice } from "~/workflows/workflow_choice";
import { ACTIVE, SOURCES, STATUSES, TIMES } from "./run_filter";
import "~/forms/forms.css";

interface RunFiltersProps {
  readonly search: RunsFilter;
  readonly onChange: (name: keyof RunsFilter, value: string | undefined) => void;
}

const SOURCE_WORDS: Record<RunSource, string> = {
  MANUAL: "By hand",
  TRIGGER: "Trigger",
  AGENT: "Agent",
  RETRY: "Retry",
  FORK: "Fork",
  SUBWORKFLOW: "Child run",
};

export function sourceWord(source: RunSource): string {
  return SOURCE_WORDS[source];
}

const STATUS_OPTIONS: ReadonlyArray<readonly [string, string]> = [
  [ACTIVE.join(","), "Active"],
  ...STATUSES.map((status) => [status, statusWord(status)] as const),
];
const SOURCE_OPTIONS = SOURCES.map((source) => [source, SOURCE_WORDS[source]] as const);

export function RunFilters({ search, onChange }: RunFiltersProps) {
  return (
    <div className="run-filters" role="group" aria-label="Filters">
      <Choice label="Status" value={search.status} options={STATUS_OPTIONS} onChange={(value) => onChange("status", value)} />
      <Choice label="Source" value={search.source} options={SOURCE_OPTIONS} onChange={(value) => onChange("source", value)} />
      <Choice label="Started" value={search.since} options={TIMES} onChange={(value) => onChange("since", value)} />
      <Text label="Tag" value={search.tag} onChange={(value) => onChange("tag", value)} />
      <Text label="Search" value={search.search} onChange={(value) => onChange("search", value)} />
      <WorkflowChoice value={search.workflow} onChange={(value) => onChange("workflow", value)} any="all" />
    </div>
  );
}

interface ChoiceProps {
  readonly label: string;
  readonly value: string | undefined;
  readonly options: ReadonlyArray<readonly [string, string]>;
  readonly onChange: (value: string) => void;
}

function Choice({ label, value, options, onChange }: ChoiceProps) {
  const id = useId();
  const isOther = value !== undefined && options.every(([one]) => one !== value);
  return (
    <div className="form-field">
      <label htmlFor={id}>{label}</label>
      <select id={id} value={value ?? ""} onChange={(event) => onChange(event.target.value)}>
        <option value="">any</option>
        {isOther && <option value={value}>{value}</option>}
        {options.map(([one, title]) => (
          <option key={one} value={one}>
            {title}
          </option>
        ))}
      </select>
    </div>
  );
}

const PAUSE_MS = 300;

/** A text that changes the address a moment after the last key. */
function Text({ label, value, onChange }: { label: string; value: string | undefined; onChange: (value: string) => void }) {
  const id = useId();
  const [text, setText] = useState(value ?? "");
  useEffect(() => setText(value ?? ""), [value]);
  useEffect(() => {
    if (text.trim() === (value ?? "")) return undefined;
    const timer = setTimeout(() => onChange(text.trim()), PAUSE_MS);
    return () => clearTimeout(timer);
    // Only what is typed starts the pause again.
  }, [text]);
  return (
    <div className="form-field">
      <label htmlFor={id}>{label}</label>
      <input id={id} type="search" value={text} onChange={(event) => setText(event.target.value)} />
    </div>
  );
}
