/** An edge, with its condition, drawn by whether the run has taken it. */
import { BaseEdge, EdgeLabelRenderer, getBezierPath, type EdgeProps } from "@xyflow/react";
import { memo } from "react";
import { useEdgeMark } from "./marks";

export const StateEdge = memo(function StateEdge({ id, label, selected, markerEnd, ...place }: EdgeProps) {
  const state = useEdgeMark(id);
  const [path, x, y] = getBezierPath(place);
  const status = state?.status.toLowerCase();
  return (
    <>
      <BaseEdge id={id} path={path} {...(markerEnd ? { markerEnd } : {})} className={`edge ${status ? `is-${status}` : ""} ${selected ? "is-selected" : ""}`} />
      {(label || (state && state.visits > 1)) && (
        <EdgeLabelRenderer>
          <div className="edge-label" style={{ transform: `translate(-50%, -50%) translate(${x}px, ${y}px)` }}>
            {label && <code>{String(label).slice(0, 60)}</code>}
            {state && state.visits > 1 && <span>×{state.visits}</span>}
          </div>
        </EdgeLabelRenderer>
      )}
    </>
  );
});
