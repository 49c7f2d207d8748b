/** What a failed operation means, in one sentence for people. */
import type { CombinedError } from "urql";
import { ProblemPartsFragmentDoc } from "~api";
import { readFragment, type FragmentType } from "./fragments";

type Problems = ReadonlyArray<FragmentType<typeof ProblemPartsFragmentDoc>>;

/** Return the sentence of a refused mutation; undefined if it was not refused. */
export function refusalOf(problems: Problems | null | undefined): string | undefined {
  const first = readFragment(ProblemPartsFragmentDoc, problems)?.[0];
  if (first === undefined) return undefined;
  const errors = "errors" in first ? first.errors : [];
  const fields = errors.map(({ field, message }) => (field ? `${field}: ${message}` : message));
  return fields.length > 0 ? fields.join("\n") : first.detail;
}

/** Return the sentence of an operation that has no result. */
export function failureOf(error: CombinedError): string {
  if (error.networkError) return "The server does not respond. Check that it runs, and try again.";
  return error.graphQLErrors.map(({ message }) => message).join("\n");
}
