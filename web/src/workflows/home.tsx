/** The first view: the workflows, and the templates to begin with. */
import { useNavigate } from "@tanstack/react-router";
import { useDeferredValue, useState } from "react";
import { useMutation, useQuery } from "urql";
import { CreateWorkflowDocument, HomeDocument, TemplateCardFragmentDoc, WorkflowRowFragmentDoc } from "~api";
import { readFragment, type FragmentType } from "~/shell/fragments";
import { Empty, Failure, Loading } from "~/shell/notices";
import { failureOf, refusalOf } from "~/shell/problems";
import { rememberInputs } from "~/run/last_inputs";
import { TemplateCard } from "./template_card";
import { WorkflowRow } from "./workflow_row";

export function Home() {
  const [search, setSearch] = useState("");
  const deferred = useDeferredValue(search);
  const [{ data, error }, refetch] = useQuery({ query: HomeDocument, variables: deferred ? { search: deferred } : {} });
  const { create, problem } = useCreate();
  const workflows = data?.workflows?.nodes;
  return (
    <div className="view">
      <div className="view-head">
        <h1>Workflows</h1>
        <label htmlFor="search" className="visually-hidden">
          Search
        </label>
        <input id="search" type="search" placeholder="Search" value={search} onChange={(event) => setSearch(event.target.value)} />
        <button type="button" className="primary" onClick={() => void create({ name: "New workflow" })}>
          New workflow
        </button>
      </div>
      {problem && <Failure title="The workflow was not created" text={problem} />}
      {error && !data && <Failure title="The workflows could not be read" text={failureOf(error)} onRetry={() => refetch({ requestPolicy: "network-only" })} />}
      {!data && !error && <Loading what="workflows" />}
      {workflows && workflows.length > 0 && <WorkflowTable rows={workflows} />}
      {workflows?.length === 0 && (
        <div className="section">
          <Empty title={search ? `No workflow has “${search}” in its name` : "No workflow yet"}>
            <p>{search ? "Search for another word." : "Choose a template below, press Run, and watch its nodes change."}</p>
          </Empty>
        </div>
      )}
      {data?.templates && (
        <section className="section">
          <h2>Templates</h2>
          <div className="card-grid">
            {data.templates.map((template) => (
              <TemplateCard
                key={template.name}
                template={template}
                onChoose={() => {
                  const { title, exampleInputs } = readFragment(TemplateCardFragmentDoc, template);
                  void create({ name: title, template: template.name }, exampleInputs);
                }}
              />
            ))}
          </div>
        </section>
      )}
    </div>
  );
}

type Rows = ReadonlyArray<{ readonly id: string } & FragmentType<typeof WorkflowRowFragmentDoc>>;

function WorkflowTable({ rows }: { rows: Rows }) {
  return (
    <section className="section">
      <table className="list">
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">Last run</th>
            <th scope="col" className="optional">Published</th>
            <th scope="col" className="optional">Changed</th>
            <th scope="col"><span className="visually-hidden">Actions</span></th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <WorkflowRow key={row.id} workflow={row} />
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** Create a workflow and open it. */
function useCreate() {
  const navigate = useNavigate();
  const [problem, setProblem] = useState<string>();
  const [, mutate] = useMutation(CreateWorkflowDocument);
  const create = async (input: { name: string; template?: string }, exampleInputs?: unknown) => {
    const { data, error } = await mutate({ input });
    const refusal = error ? failureOf(error) : refusalOf(data?.createWorkflow?.errors);
    const id = data?.createWorkflow?.workflow?.id;
    setProblem(refusal);
    if (id === undefined) return;
    if (exampleInputs !== undefined) rememberInputs(id, exampleInputs);
    await navigate({ to: "/workflows/$workflowId", params: { workflowId: id } });
  };
  return { create, problem };
}
