/** Tries a trigger without a run, and shows what it would do. */
import { TestTriggerDocument, type TestTriggerInput } from "~api";
import { useState } from "react";
import { JsonValue } from "~/shell/json_value";
import { newKey, useOperation } from "~/shell/operation";

interface Outcome {
  readonly wouldFire: boolean;
  readonly inputs?: unknown;
}

export function TestButton({ input, isReady }: { input: () => TestTriggerInput; isReady: boolean }) {
  const { send, problem, isBusy } = useOperation(TestTriggerDocument, (data) => data.testTrigger);
  const [outcome, setOutcome] = useState<Outcome>();
  const test = async () => setOutcome(await send({ input: { ...input(), idempotencyKey: newKey() } }));
  return (
    <div className="trigger-test">
      <button type="button" disabled={isBusy || !isReady} onClick={() => void test()}>
        Test without a run
      </button>
      {problem && <p className="field-error wrap" role="alert">{problem}</p>}
      {outcome && (
        <div role="status">
          <p>{outcome.wouldFire ? "It would start a run with these inputs:" : "It would start no run."}</p>
          {outcome.wouldFire && <JsonValue value={outcome.inputs} name="inputs of the run" />}
        </div>
      )}
    </div>
  );
}
