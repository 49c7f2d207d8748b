/** The inputs that a form of this browser tab begins with. */
const key = (workflowId: string) => `treadle:inputs:${workflowId}`;

export function rememberInputs(workflowId: string, inputs: unknown): void {
  sessionStorage.setItem(key(workflowId), JSON.stringify(inputs));
}

export function lastInputs(workflowId: string): unknown {
  const text = sessionStorage.getItem(key(workflowId));
  return text === null ? undefined : JSON.parse(text);
}
