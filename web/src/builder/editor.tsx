/** The builder of one workflow: head, canvas, and the panel beside it. */
import { useNavigate } from "@tanstack/react-router";
import { useReactFlow } from "@xyflow/react";
import { useCallback, useEffect, useMemo, useState } from "react";
import { useQuery } from "urql";
import { useStore } from "zustand";
import { DraftFactsFragmentDoc, ProblemOfSpecFragmentDoc, RunPageDocument, type BuilderQuery } from "~api";
import { useMarks } from "~/canvas/marks";
import { FIT } from "~/canvas/run_canvas";
import { useNodeTypes, type NodeType } from "~/canvas/node_types";
import { builderRoute, type Place } from "~/routes";
import { ConnectionBanner } from "~/run/connection_banner";
import { StartDialog } from "~/run/start_dialog";
import { useLiveRun } from "~/run/use_live_run";
import { readFragment } from "~/shell/fragments";
import { download } from "~/shell/json_value";
import { BuilderCanvas, type Selection } from "./builder_canvas";
import { ConflictDialog } from "./conflict_dialog";
import { draftEdits } from "./draft_store";
import { copiedText, paste, readParts } from "./edits/clipboard";
import { connect, insertOnEdge } from "./edits/edges";
import { addNode, deleteParts, newNodeId } from "./edits/nodes";
import { placesOf } from "./edits/place";
import { renameNode } from "./edits/rename";
import { EditorHead } from "./editor_head";
import { expressionsOf } from "./expressions_of_types";
import { ImportDialog } from "./import_dialog";
import type { MenuItem } from "./menu";
import { Palette } from "./palette";
import { SidePanel } from "./side_panel";
import { positionOf, type Point, type SpecNode } from "./spec";
import { useArrange } from "./use_arrange";
import { useDraft } from "./use_draft";
import { useKeys } from "./use_clipboard";

type Workflow = NonNullable<BuilderQuery["workflow"]>;

/** Where a node from the palette goes. */
interface Adding {
  readonly at?: Point;
  readonly from?: { source: string; port: string | undefined };
  readonly edge?: string;
}

const NOTHING: Selection = { nodes: new Set(), edges: new Set() };

export function Editor({ workflow }: { workflow: Workflow }) {
  const place = builderRoute.useSearch();
  const navigate = useNavigate();
  const types = useNodeTypes();
  const isExpression = useMemo(() => expressionsOf(types), [types]);
  const facts = readFragment(DraftFactsFragmentDoc, workflow.draft);
  const problems = readFragment(ProblemOfSpecFragmentDoc, facts.problems);
  const { store, draft, spec, edit, undo, redo, flush } = useDraft(workflow.id, workflow.draft.spec, facts.revision);
  const marks = useMarks();
  const live = useLiveRun(place.run, marks);
  const runStatus = useStore(live, (state) => state.status);
  const [{ data: run }, readRun] = useQuery({ query: RunPageDocument, variables: { id: place.run ?? "" }, pause: place.run === undefined });
  useEffect(() => {
    if (runStatus !== undefined) readRun({ requestPolicy: "network-only" });
  }, [runStatus, readRun]);
  useEffect(() => marks.setState({ problems: new Map(problems.flatMap((one) => (one.nodeId == null ? [] : [[one.nodeId, one]]))) }), [marks, problems]);

  const [selection, setSelection] = useState<Selection>(() => (place.node === undefined ? NOTHING : { nodes: new Set([place.node]), edges: new Set() }));
  const [adding, setAdding] = useState<Adding>();
  const [isStarting, setStarting] = useState(false);
  const [isConflictOpen, openConflict] = useState(true);
  const [notice, setNotice] = useState<string>();
  const [isImporting, setImporting] = useState(false);
  const { setCenter, getViewport, fitView } = useReactFlow();
  const { arrange, isBusy: isArranging, problem: arrangeProblem } = useArrange(store, types, edit);

  const show = useCallback((change: Place) => void navigate({ to: "/workflows/$workflowId", params: { workflowId: workflow.id }, search: change, replace: true }), [navigate, workflow.id]);
  const select = useCallback(
    (next: Selection) => {
      setSelection(next);
      const [only] = next.nodes;
      const { node: _, ...rest } = place;
      show(next.nodes.size === 1 && only !== undefined ? { ...rest, node: only } : rest);
    },
    [show, place],
  );
  const go = (id: string) => {
    select({ nodes: new Set([id]), edges: new Set() });
    const at = placesOf(spec).get(id);
    if (at) void setCenter(at.x + 84, at.y + 30, { zoom: Math.max(0.8, getViewport().zoom), duration: 200 });
  };
  const add = (type: NodeType) => {
    const id = newNodeId(spec, type.name);
    const at = adding?.at ?? beside(placesOf(spec), [...selection.nodes][0]);
    const node: SpecNode = { id, type: type.name, position: { x: at.x, y: at.y }, config: {} };
    const from = adding?.from ?? (selection.nodes.size === 1 && adding?.at === undefined ? { source: [...selection.nodes][0]!, port: undefined } : undefined);
    const { edge } = adding ?? {};
    edit((now) => {
      if (edge !== undefined) return insertOnEdge(now, edge, { id, type: type.name, config: {} });
      const added = addNode(now, node);
      return from === undefined || now.nodes.find((one) => one.id === from.source)?.type === "end" ? added : connect(added, { source: from.source, target: id, port: from.port });
    });
    setAdding(undefined);
    select({ nodes: new Set([id]), edges: new Set() });
  };
  const pasteText = (text: string) => {
    const read = readParts(text);
    if ("refusal" in read) return setNotice(read.refusal);
    setNotice(undefined);
    const { spec: pasted, ids } = paste(spec, read.parts, isExpression);
    edit(() => pasted);
    select({ nodes: ids, edges: new Set() });
  };
  const rename = (from: string, to: string) => {
    edit((now) => renameNode(now, from, to, isExpression));
    select({ nodes: new Set([to]), edges: new Set() });
  };
  const remove = (nodes: ReadonlySet<string>, edges: ReadonlySet<string>) => {
    edit((now) => deleteParts(now, nodes, edges));
    select(NOTHING);
  };
  const duplicate = () => selection.nodes.size > 0 && pasteText(copiedText(spec, selection.nodes));
  useKeys({
    spec,
    selection,
    edit,
    undo,
    redo,
    save: () => void flush(),
    add: () => setAdding({}),
    duplicate,
    selectAll: () => select({ nodes: new Set(spec.nodes.map(({ id }) => id)), edges: new Set() }),
    pasteText,
    search: () => show({ ...place, tab: "search" }),
  });
  const unplaced = spec.nodes.some((node) => positionOf(node) === undefined);
  const arrangeAll = async () => {
    await arrange({ kind: "all" });
    requestAnimationFrame(() => void fitView({ ...FIT, duration: 200 }));
  };
  const arrangements: MenuItem[] = [
    { title: "Nodes without a place", help: "Nodes that you have placed stay", isDisabled: !unplaced, onPick: () => void arrange({ kind: "unplaced" }) },
    { title: "The selected nodes", isDisabled: selection.nodes.size < 2, onPick: () => void arrange({ kind: "chosen", ids: selection.nodes }) },
    { title: "All nodes", help: "Also those that you have placed", isDisabled: spec.nodes.length === 0, onPick: () => void arrangeAll() },
  ];
  const more: MenuItem[] = [
    { title: "Search and replace", help: "Mod+F", onPick: () => show({ ...place, tab: "search" }) },
    { title: "Versions", onPick: () => show({ ...place, tab: "versions" }) },
    { title: "Copy the link", help: "To what is shown now", onPick: () => void navigator.clipboard.writeText(location.href) },
    { title: "Export as a file", onPick: () => download(`${workflow.name || "workflow"}.json`, JSON.stringify(spec, null, 2)) },
    { title: "Import a file …", onPick: () => setImporting(true) },
  ];
  const start = async () => {
    await flush();
    const { saving: end } = store.getState();
    setNotice(end.kind === "failed" ? `The draft is not saved, so it cannot be run: ${end.reason}` : undefined);
    if (end.kind === "conflict") openConflict(true);
    if (end.kind === "saved") setStarting(true);
  };
  const { saving } = draft;
  return (
    <div className="builder">
      <EditorHead
        workflow={workflow}
        draft={draft}
        problems={problems}
        onAdd={() => setAdding({})}
        onUndo={undo}
        onRedo={redo}
        onRun={() => void start()}
        onConflict={() => openConflict(true)}
        onProblems={() => show({ ...place, tab: "problems" })}
        onVersions={() => show({ ...place, tab: "versions" })}
        arrange={arrangements}
        isArranging={isArranging}
        more={more}
      />
      <div>
        {notice && (
          <div className="banner is-failure" role="alert">
            <span className="grow">{notice}</span>
            <button type="button" className="quiet" onClick={() => setNotice(undefined)}>
              Close
            </button>
          </div>
        )}
        {arrangeProblem && <div className="banner is-failure" role="alert">{arrangeProblem}</div>}
        {saving.kind === "failed" && saving.isRefused === true && (
          <div className="banner is-failure" role="status">
            <span className="grow wrap">The server does not save the draft: {saving.reason} Your edits are kept in this browser.</span>
            <button type="button" className="quiet" onClick={() => download(`${workflow.name || "workflow"}.json`, JSON.stringify(spec, null, 2))}>
              Download the draft
            </button>
          </div>
        )}
        <ConnectionBanner live={live} />
      </div>
      <div className="run-body">
        <BuilderCanvas spec={spec} types={types} marks={marks} selection={selection} onSelect={select} onEdit={edit} onDropped={(from, at) => setAdding({ from, at })} />
        <SidePanel
          spec={spec}
          types={types}
          problems={problems}
          selection={selection}
          place={place}
          run={run?.run ?? undefined}
          live={live}
          onEdit={edit}
          onRename={rename}
          onRemove={remove}
          onDuplicate={duplicate}
          onInsert={(edge) => setAdding({ edge })}
          onShow={show}
          onGo={go}
          versions={{ workflowId: workflow.id, draftId: workflow.draft.id, store, isSaved: saving.kind === "saved", revision: draft.saved.revision, flush }}
        />
      </div>
      {adding && <Palette types={types} onPick={add} onClose={() => setAdding(undefined)} />}
      {isImporting && (
        <ImportDialog
          onClose={() => setImporting(false)}
          onReplace={(imported) => {
            edit(() => imported);
            select(NOTHING);
            setImporting(false);
          }}
          onAdd={(text) => {
            pasteText(text);
            setImporting(false);
          }}
        />
      )}
      {isStarting && (
        <StartDialog
          workflowId={workflow.id}
          inputSchema={facts.inputSchema}
          target={{ draftRevision: draft.saved.revision }}
          initial={workflow.runs.nodes[0]?.inputs}
          onClose={() => setStarting(false)}
          onStarted={(runId) => {
            setStarting(false);
            setSelection(NOTHING);
            show({ run: runId, tab: "run" });
          }}
        />
      )}
      {saving.kind === "conflict" && isConflictOpen && (
        <ConflictDialog
          base={draft.saved.spec}
          mine={spec}
          theirs={saving.theirs}
          onClose={() => openConflict(false)}
          onResolve={(merged) => store.setState(draftEdits.resolved(merged, saving.theirs))}
        />
      )}
    </div>
  );
}

/** A place for a new node: beside the selected one, else beside the last one. */
function beside(places: ReadonlyMap<string, Point>, id: string | undefined): Point {
  const last = (id === undefined ? undefined : places.get(id)) ?? [...places.values()].sort((a, b) => b.x - a.x)[0] ?? { x: -220, y: 0 };
  const at = { x: last.x + 220, y: last.y };
  while ([...places.values()].some(({ x, y }) => Math.abs(x - at.x) < 170 && Math.abs(y - at.y) < 70)) at.y += 96;
  return at;
}
