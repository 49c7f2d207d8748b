/** The problems of the draft, as the server sees them. A click goes to the node. */
import type { FieldProblem } from "@treadle/client";

export function ProblemList({ problems, onGo }: { problems: readonly FieldProblem[]; onGo: (problem: FieldProblem) => void }) {
  if (problems.length === 0) return <p className="faint">No problems. The draft can run.</p>;
  return (
    <ul className="problem-list">
      {problems.map((problem, index) => (
        <li key={`${problem.field} ${index}`}>
          <button type="button" className="quiet" onClick={() => onGo(problem)}>
            <span className={problem.severity === "ERROR" ? "mark is-error" : "mark is-warning"}>{problem.severity === "ERROR" ? "✕ Error" : "! Warning"}</span>
            <span className="wrap">
              {problem.nodeId && <strong>{problem.nodeId}: </strong>}
              {problem.message}
              {problem.line != null && ` (line ${problem.line}, column ${problem.column})`}
            </span>
          </button>
        </li>
      ))}
    </ul>
  );
}
