/** The node types of the server, by name. */
import { useMemo } from "react";
import { useQuery } from "urql";
import { NodeTypesDocument, type NodeTypesQuery } from "~api";

export type NodeType = NonNullable<NodeTypesQuery["nodeTypes"]>[number];
export type NodeTypes = ReadonlyMap<string, NodeType>;

const NONE: NodeTypes = new Map();

export function useNodeTypes(): NodeTypes {
  const [{ data }] = useQuery({ query: NodeTypesDocument, requestPolicy: "cache-first" });
  return useMemo(() => (data?.nodeTypes ? new Map(data.nodeTypes.map((type) => [type.name, type])) : NONE), [data]);
}
