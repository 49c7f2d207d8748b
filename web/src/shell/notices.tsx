/** The designed empty, loading and error states of a view. */
import type { ReactNode } from "react";

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="notice">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** Keeps the place of what is being read, so that nothing jumps. */
export function Loading({ what, rows = 4 }: { what: string; rows?: number }) {
  return (
    <div className="loading" role="status" aria-label={`Loading ${what}`}>
      {Array.from({ length: rows }, (_, index) => (
        <div key={index} className="loading-row" />
      ))}
    </div>
  );
}

export function Failure({ title, text, onRetry }: { title: string; text: string; onRetry?: () => void }) {
  return (
    <div className="notice is-failure" role="alert">
      <h2>{title}</h2>
      <p className="wrap">{text}</p>
      {onRetry && (
        <button type="button" onClick={onRetry}>
          Try again
        </button>
      )}
    </div>
  );
}
