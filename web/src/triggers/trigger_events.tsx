/** The firings of a trigger, newest first, as they come: the run of each, or why there is none. */
import { Link } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { useQuery, useSubscription } from "urql";
import { TriggerEventRowFragmentDoc, TriggerFiringsDocument, TriggerHistoryDocument, type TriggerEventStatus } from "~api";
import { readFragment, type FragmentType } from "~/shell/fragments";
import { JsonValue } from "~/shell/json_value";
import { Loading } from "~/shell/notices";
import { Status } from "~/shell/status";
import { Time } from "~/shell/time";

const WORDS: Record<TriggerEventStatus, string> = {
  FIRED: "Fired",
  DUPLICATE: "Came twice",
  SKIPPED: "Skipped",
  FAILED: "Failed",
  TEST: "Test",
};

export function TriggerEvents({ triggerId, onEvent }: { triggerId: string; onEvent: () => void }) {
  const [after, setAfter] = useState<string>();
  const [{ data }, refetch] = useQuery({ query: TriggerHistoryDocument, variables: { id: triggerId, ...(after ? { after } : {}) } });
  const [news] = useSubscription({ query: TriggerFiringsDocument, variables: { triggerId } });
  const latest = news.data?.triggerEvents.id;
  useEffect(() => {
    if (latest === undefined) return;
    refetch({ requestPolicy: "network-only" });
    onEvent();
    // Only a new event makes the history read again, and not a new function of the view.
  }, [latest]);
  const page = data?.trigger?.events;
  return (
    <>
      <h2>History</h2>
      {!page && <Loading what="the history" />}
      {page?.nodes.length === 0 && <p className="faint">It has not fired yet.</p>}
      <ol className="plain-list trigger-events">
        {page?.nodes.map((event) => (
          <Event key={event.id} event={event} />
        ))}
      </ol>
      {page?.pageInfo.hasNextPage && (
        <button type="button" onClick={() => setAfter(page.pageInfo.endCursor ?? undefined)}>
          Older
        </button>
      )}
    </>
  );
}

function Event({ event }: { event: FragmentType<typeof TriggerEventRowFragmentDoc> }) {
  const { at, status, error, run, payload, dedupeKey } = readFragment(TriggerEventRowFragmentDoc, event);
  return (
    <li>
      <div className="row">
        <Time at={at} />
        <strong className={`event-${status.toLowerCase()}`}>{WORDS[status]}</strong>
        {run && (
          <Link to="/runs/$runId" params={{ runId: run.id }}>
            <Status status={run.status} />
          </Link>
        )}
      </div>
      {error && <p className="wrap problem-text">{error}</p>}
      <details>
        <summary className="faint">Event {dedupeKey}</summary>
        <JsonValue value={payload} name="event" />
      </details>
    </li>
  );
}
