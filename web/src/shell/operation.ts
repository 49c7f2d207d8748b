/** A mutation of a view: whether it is under way, and why it was refused. */
import { useState } from "react";
import { useMutation, type AnyVariables, type TypedDocumentNode } from "urql";
import type { ProblemPartsFragmentDoc } from "~api";
import type { FragmentType } from "./fragments";
import { failureOf, refusalOf } from "./problems";

interface Payload {
  readonly errors: ReadonlyArray<FragmentType<typeof ProblemPartsFragmentDoc>>;
}

export interface Operation<Variables, Result> {
  /** Send the mutation. Resolves to its payload, or to undefined if nothing was changed. */
  readonly send: (variables: Variables) => Promise<Result | undefined>;
  readonly problem: string | undefined;
  readonly isBusy: boolean;
}

/** Use a mutation whose payload `payloadOf` finds in its data. */
export function useOperation<Data, Variables extends AnyVariables, Result extends Payload>(
  document: TypedDocumentNode<Data, Variables>,
  payloadOf: (data: Data) => Result | null | undefined,
): Operation<Variables, Result> {
  const [problem, setProblem] = useState<string>();
  const [{ fetching: isBusy }, mutate] = useMutation(document);
  const send = async (variables: Variables) => {
    const { data, error } = await mutate(variables);
    const payload = data === undefined ? undefined : (payloadOf(data) ?? undefined);
    const refusal = error ? failureOf(error) : refusalOf(payload?.errors);
    setProblem(refusal);
    return refusal === undefined ? payload : undefined;
  };
  return { send, problem, isBusy };
}

/** A key that makes a repeat of the same request change nothing. */
export function newKey(): string {
  return crypto.randomUUID();
}
