/** The ports of a node: those of its type, and those that its config names. */
import type { SpecNode } from "../spec";

export interface TypePorts {
  readonly namedPorts: ReadonlyArray<{ readonly name: string; readonly isDefault: boolean; readonly isError: boolean }>;
  readonly portPaths: ReadonlyArray<{ readonly path: string; readonly isDefault: boolean }>;
}

export interface Port {
  readonly name: string;
  readonly isError: boolean;
}

/** Return the texts at a path like `cases[*].port`. */
function textsAt(value: unknown, path: readonly string[]): string[] {
  const [step, ...rest] = path;
  if (step === undefined) return typeof value === "string" && value !== "" ? [value] : [];
  const isList = step.endsWith("[*]");
  const member = (value as Record<string, unknown> | null | undefined)?.[isList ? step.slice(0, -3) : step];
  if (!isList) return textsAt(member, rest);
  return Array.isArray(member) ? member.flatMap((one) => textsAt(one, rest)) : [];
}

/** Return the ports to draw. None: the node leaves in one way only. The port `error` shows if it is used. */
export function portsOf(node: SpecNode, type: TypePorts | undefined, used: ReadonlySet<string>): readonly Port[] {
  if (type === undefined) return [...used].map((name) => ({ name, isError: name === "error" }));
  const fromConfig = type.portPaths.flatMap(({ path }) => textsAt(node.config, path.split(".")));
  const own = type.namedPorts.filter(({ isError }) => !isError).map(({ name }) => name);
  const names = [...new Set([...own, ...fromConfig])];
  const lost = [...used].filter((name) => !names.includes(name) && name !== "error");
  const hasError = node["onError"] === "branch" || used.has("error");
  return [...names, ...lost, ...(hasError ? ["error"] : [])].map((name) => ({ name, isError: name === "error" }));
}
