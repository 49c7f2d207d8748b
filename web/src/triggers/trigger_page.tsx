/** One trigger: its fields, when it fires next, what it has fired, and why it did not. */
import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { useQuery } from "urql";
import {
  DeleteTriggerDocument, FireTriggerDocument, TriggerKindsDocument, TriggerPageDocument, TriggerRowFragmentDoc,
  UpdateTriggerDocument, type TriggerPageQuery,
} from "~api";
import { triggerRoute } from "~/routes";
import { Confirm } from "~/shell/confirm";
import { readFragment } from "~/shell/fragments";
import { Empty, Failure, Loading } from "~/shell/notices";
import { newKey, useOperation } from "~/shell/operation";
import { failureOf } from "~/shell/problems";
import { Time } from "~/shell/time";
import { TestButton } from "./test_result";
import { TriggerEvents } from "./trigger_events";
import { TriggerFields } from "./trigger_fields";
import { changesOf, inputsOf, isComplete, valuesOf } from "./trigger_values";
import "./triggers.css";

type Trigger = NonNullable<TriggerPageQuery["trigger"]>;

export function TriggerPage() {
  const { triggerId } = triggerRoute.useParams();
  const [{ data, error }, refetch] = useQuery({ query: TriggerPageDocument, variables: { id: triggerId } });
  if (error && !data) return <div className="view"><Failure title="The trigger could not be read" text={failureOf(error)} onRetry={() => refetch({ requestPolicy: "network-only" })} /></div>;
  if (!data) return <div className="view"><Loading what="the trigger" rows={6} /></div>;
  if (!data.trigger) return <div className="view"><Empty title="There is no such trigger"><p>It was deleted, or you may not see it.</p><Link to="/triggers">To the triggers</Link></Empty></div>;
  return <Content key={triggerId} trigger={data.trigger} onFired={() => refetch({ requestPolicy: "network-only" })} />;
}

function Content({ trigger, onFired }: { trigger: Trigger; onFired: () => void }) {
  const row = readFragment(TriggerRowFragmentDoc, trigger);
  const [fired, setFired] = useState<string>();
  return (
    <div className="view">
      <div className="view-head">
        <h1 dir="auto">{row.name}</h1>
        <Actions trigger={trigger} onFired={setFired} />
      </div>
      {fired && (
        <p role="status">
          It has started <Link to="/runs/$runId" params={{ runId: fired }}>a run</Link>.
        </p>
      )}
      <Warnings trigger={trigger} />
      <div className="trigger-columns">
        <section aria-label="Fields of the trigger" className="panel">
          <Fields trigger={trigger} />
        </section>
        <section aria-label="Times and history" className="panel">
          <Times trigger={trigger} />
          <TriggerEvents triggerId={trigger.id} onEvent={onFired} />
        </section>
      </div>
    </div>
  );
}

function Warnings({ trigger }: { trigger: Trigger }) {
  const { enabled, lastError, workflow } = readFragment(TriggerRowFragmentDoc, trigger);
  const isPublished = trigger.workflow.publishedVersion !== null;
  return (
    <>
      {!isPublished && (
        <p className="banner" role="status">
          It starts no run, because <Link to="/workflows/$workflowId" params={{ workflowId: workflow.id }}>{workflow.name}</Link> has no published version.
        </p>
      )}
      {!enabled && <p className="banner" role="status">It is off{trigger.failures > 0 ? ` after ${trigger.failures} failures in a row` : ""}. Events start no run.</p>}
      {lastError && <p className="banner is-failure wrap" role="status">The last firing started no run: {lastError}</p>}
    </>
  );
}

function Actions({ trigger, onFired }: { trigger: Trigger; onFired: (runId: string) => void }) {
  const { enabled, name } = readFragment(TriggerRowFragmentDoc, trigger);
  const [isDeleting, setDeleting] = useState(false);
  const fire = useOperation(FireTriggerDocument, (data) => data.runTrigger);
  const update = useOperation(UpdateTriggerDocument, (data) => data.updateTrigger);
  const fireNow = async () => {
    const made = await fire.send({ input: { id: trigger.id, idempotencyKey: newKey() } });
    if (made?.run) onFired(made.run.id);
  };
  return (
    <div className="row">
      {(fire.problem ?? update.problem) && <span className="field-error wrap" role="alert">{fire.problem ?? update.problem}</span>}
      <button type="button" className="primary" disabled={fire.isBusy} onClick={() => void fireNow()}>
        Fire now
      </button>
      <button type="button" disabled={update.isBusy} onClick={() => void update.send({ input: { id: trigger.id, enabled: !enabled, idempotencyKey: newKey() } })}>
        {enabled ? "Turn off" : "Turn on"}
      </button>
      <button type="button" className="danger" onClick={() => setDeleting(true)}>
        Delete
      </button>
      {isDeleting && <DeleteDialog id={trigger.id} name={name} onClose={() => setDeleting(false)} />}
    </div>
  );
}

function DeleteDialog({ id, name, onClose }: { id: string; name: string; onClose: () => void }) {
  const navigate = useNavigate();
  const { send, problem, isBusy } = useOperation(DeleteTriggerDocument, (data) => data.deleteTrigger);
  const confirm = async () => {
    if (await send({ input: { id, idempotencyKey: newKey() } })) await navigate({ to: "/triggers" });
  };
  return (
    <Confirm title="Delete this trigger?" action="Delete" problem={problem} isBusy={isBusy} onConfirm={() => void confirm()} onClose={onClose}>
      <p className="wrap">“{name}” and the history of its firings are deleted. The runs that it has started stay.</p>
    </Confirm>
  );
}

function Fields({ trigger }: { trigger: Trigger }) {
  const { kind: kindName, name } = readFragment(TriggerRowFragmentDoc, trigger);
  const stored = { name, config: trigger.config, inputs: trigger.inputs };
  const [{ data }] = useQuery({ query: TriggerKindsDocument, requestPolicy: "cache-first" });
  const [values, setValues] = useState(() => valuesOf(stored));
  const { send, problem, isBusy } = useOperation(UpdateTriggerDocument, (result) => result.updateTrigger);
  const kind = data?.triggerKinds?.find((one) => one.name === kindName);
  if (kind === undefined) return data ? <Empty title={`This server has no triggers of the kind ${kindName}`} /> : <Loading what="the form" />;
  const changes = changesOf(values, stored);
  const isChanged = Object.keys(changes).length > 0;
  const save = async () => {
    const saved = await send({ input: { id: trigger.id, ...changes, idempotencyKey: newKey() } });
    if (saved?.trigger) setValues(valuesOf({ ...saved.trigger, name: values.name }));
  };
  return (
    <>
      <h2>{kind.title}</h2>
      <TriggerFields kind={kind} values={values} onChange={setValues} />
      {problem && <p className="field-error wrap" role="alert">{problem}</p>}
      <div className="row">
        <button type="button" className="primary" disabled={isBusy || !isChanged || !isComplete(values)} onClick={() => void save()}>
          Save
        </button>
        <span className="faint" role="status">{isChanged ? "Not saved yet" : "Saved"}</span>
      </div>
      <TestButton input={() => ({ id: trigger.id, config: values.config, inputs: inputsOf(values) })} isReady={isComplete(values)} />
    </>
  );
}

function Times({ trigger }: { trigger: Trigger }) {
  const { nextTimes, webhookUrl, testWebhookUrl, createdBy } = trigger;
  return (
    <>
      {nextTimes.length > 0 && (
        <>
          <h2>Next times</h2>
          <ul className="plain-list">
            {nextTimes.map((at) => (
              <li key={at}>
                <Time at={at} />
              </li>
            ))}
          </ul>
        </>
      )}
      {webhookUrl && <Address title="Address" url={webhookUrl} />}
      {testWebhookUrl && <Address title="Address that runs the draft" url={testWebhookUrl} />}
      <p className="faint">Created by {createdBy}</p>
    </>
  );
}

function Address({ title, url }: { title: string; url: string }) {
  return (
    <div className="form-field">
      <h2>{title}</h2>
      <div className="row">
        <code className="wrap grow">{url}</code>
        <button type="button" className="quiet" onClick={() => void navigator.clipboard.writeText(url)}>
          Copy
        </button>
      </div>
    </div>
  );
}
