/** The choice of one workflow, for filters and forms. */
import { useDeferredValue, useId, useState } from "react";
import { useQuery } from "urql";
import { WorkflowNamesDocument } from "~api";
import "~/forms/forms.css";
import "./workflows.css";

interface WorkflowChoiceProps {
  readonly value: string | undefined;
  readonly onChange: (workflowId: string | undefined) => void;
  /** What is shown if none is chosen. */
  readonly any?: string;
}

/** A select of the workflows whose names have a text, which is needed where there are more than a page of them. */
export function WorkflowChoice({ value, onChange, any = "choose one" }: WorkflowChoiceProps) {
  const id = useId();
  const [search, setSearch] = useState("");
  const deferred = useDeferredValue(search);
  const [{ data }] = useQuery({ query: WorkflowNamesDocument, variables: deferred ? { search: deferred } : {} });
  const workflows = data?.workflows?.nodes ?? [];
  const isElsewhere = value !== undefined && workflows.every((one) => one.id !== value);
  return (
    <div className="form-field">
      <label htmlFor={id}>Workflow</label>
      <div className="row workflow-choice">
        <input type="search" aria-label="Search workflows" placeholder="Search" value={search} onChange={(event) => setSearch(event.target.value)} />
        <select id={id} className="grow" value={value ?? ""} onChange={(event) => onChange(event.target.value || undefined)}>
          <option value="">{any}</option>
          {isElsewhere && <option value={value}>{value}</option>}
          {workflows.map((one) => (
            <option key={one.id} value={one.id}>
              {one.name}
            </option>
          ))}
        </select>
      </div>
    </div>
  );
}
