/** The layout engine, in a web worker. This module is loaded when something is laid out for the first time. */
import ELK from "elkjs/lib/elk-api.js";
import Engine from "elkjs/lib/elk-worker.min.js?worker";
import type { LaidOut, LayoutGraph } from "./edits/layout";

const elk = new ELK({ workerFactory: () => new Engine() });

export async function layout(graph: LayoutGraph): Promise<LaidOut> {
  return (await elk.layout(graph as never)) as LaidOut;
}
