/** How far a bulk job is, until it has ended. The job is in the address, so a reload shows it again. */
import { useEffect } from "react";
import { useQuery } from "urql";
import { BulkJobProgressDocument, BulkProgressFragmentDoc } from "~api";
import { readFragment } from "~/shell/fragments";

const POLL_MS = 500;

export function BulkProgress({ jobId, onClose, onEnd }: { jobId: string; onClose: () => void; onEnd: () => void }) {
  const [{ data, fetching, error }, refetch] = useQuery({ query: BulkJobProgressDocument, variables: { id: jobId } });
  const job = readFragment(BulkProgressFragmentDoc, data?.bulkJob);
  const isEnded = job?.finishedAt != null;
  useEffect(() => {
    if (fetching || isEnded || data?.bulkJob === null) return undefined;
    const timer = setTimeout(() => refetch({ requestPolicy: "network-only" }), POLL_MS);
    return () => clearTimeout(timer);
  }, [fetching, isEnded, data, error, refetch]);
  useEffect(() => {
    if (isEnded) onEnd();
    // The end comes once, whatever functions the view passes on.
  }, [isEnded]);
  if (!job) return data ? <p className="banner">There is no such job any more.</p> : null;
  const word = job.action === "CANCEL" ? "Cancelled" : job.action === "RETRY" ? "Retried" : "Deleted";
  return (
    <div className="banner bulk-progress" role="status">
      <span>
        {word} {job.done.toLocaleString("en")} of {job.matched.toLocaleString("en")}
        {job.failed > 0 && `, ${job.failed.toLocaleString("en")} could not be changed`}
      </span>
      {!isEnded && <progress max={Math.max(1, job.matched)} value={job.done + job.failed} aria-label="Progress of the job" />}
      {job.lastError && <span className="wrap grow">{job.lastError}</span>}
      {isEnded && (
        <button type="button" className="quiet" onClick={onClose}>
          Close
        </button>
      )}
    </div>
  );
}
