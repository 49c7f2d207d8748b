/** The states of a draft: undo and redo, gestures, saves, and what others save. */
import { expect, test } from "vitest";
import { createDraft, draftEdits, type DraftStore } from "./draft_store";
import { connect } from "./edits/edges";
import { addNode, deleteParts, moveNodes, setConfig, setMember } from "./edits/nodes";
import { renameNode } from "./edits/rename";
import { specOf, type Spec } from "./spec";

const first = specOf({ other: [1], nodes: [{ id: "a", type: "x", keep: { y: 1, x: 2 } }, { id: "b", type: "x" }], edges: [] });
const draftOf = () => createDraft({ spec: first, revision: 3 });
const edit = (store: DraftStore, change: (spec: Spec) => Spec, gesture?: string) => store.setState(draftEdits.edit(change, gesture));
const text = (store: DraftStore) => JSON.stringify(store.getState().history.present);

/** A seeded generator (mulberry32), so that a failure can be repeated. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

function someEdit(next: () => number, number: number): (spec: Spec) => Spec {
  const edits: ReadonlyArray<(spec: Spec) => Spec> = [
    (spec) => addNode(spec, { id: `n${number}`, type: "x", position: { x: number, y: 0 } }),
    (spec) => moveNodes(spec, new Map(spec.nodes.map(({ id }) => [id, { x: Math.floor(next() * 900), y: number }]))),
    (spec) => (spec.nodes.length < 2 ? spec : connect(spec, { source: spec.nodes[0]!.id, target: spec.nodes[spec.nodes.length - 1]!.id, port: `p${number}` })),
    (spec) => (spec.nodes[0] ? setConfig(spec, spec.nodes[0].id, { text: `{{ ${spec.nodes[0].id}.output }}`, number }) : spec),
    (spec) => (spec.nodes[0] ? renameNode(spec, spec.nodes[0].id, `r${number}`, () => false) : spec),
    (spec) => (spec.nodes.length > 2 ? deleteParts(spec, new Set([spec.nodes[1]!.id]), new Set()) : spec),
  ];
  return edits[Math.floor(next() * edits.length)]!;
}

test.each([1, 2, 3, 4, 5, 6, 7, 8])("undo of 30 mixed edits restores the spec byte for byte, and redo the result (seed %i)", (seed) => {
  const store = draftOf();
  const next = random(seed);
  const texts = [text(store)];
  for (let number = 0; number < 30; number += 1) {
    edit(store, someEdit(next, number));
    if (text(store) !== texts[texts.length - 1]) texts.push(text(store));
  }
  for (const before of texts.slice(0, -1).reverse()) {
    store.setState(draftEdits.undo());
    expect(text(store)).toBe(before);
  }
  expect(store.getState().history.present).toBe(first);
  expect(store.getState().saving.kind).toBe("saved");
  for (const after of texts.slice(1)) {
    store.setState(draftEdits.redo());
    expect(text(store)).toBe(after);
  }
});

test("the edits of one gesture are undone together, and the next gesture is its own step", () => {
  const store = draftOf();
  for (const label of ["n", "ne", "new"]) edit(store, (spec) => setMember(spec, "a", "label", label), "label a");
  edit(store, (spec) => setMember(spec, "b", "label", "b"), "label b");
  store.setState(draftEdits.undo());
  expect(store.getState().history.present.nodes[0]!.label).toBe("new");
  store.setState(draftEdits.undo());
  expect(store.getState().history.present).toBe(first);
});

test("an edit after an undo leaves nothing to redo", () => {
  const store = draftOf();
  edit(store, (spec) => setMember(spec, "a", "label", "1"));
  store.setState(draftEdits.undo());
  edit(store, (spec) => setMember(spec, "a", "label", "2"));
  store.setState(draftEdits.redo());
  expect(store.getState().history.present.nodes[0]!.label).toBe("2");
});

test("an edit during a save stays unsaved, and nothing that is typed is replaced", () => {
  const store = draftOf();
  edit(store, (spec) => setMember(spec, "a", "label", "1"));
  const sent = store.getState().history.present;
  store.setState(draftEdits.sending());
  edit(store, (spec) => setMember(spec, "a", "label", "2"));
  store.setState(draftEdits.accepted(sent, 4));
  expect(store.getState()).toMatchObject({ saving: { kind: "dirty" }, saved: { revision: 4 } });
  expect(store.getState().history.present.nodes[0]!.label).toBe("2");
});

test("a save whose response was lost is no conflict with oneself", () => {
  const store = draftOf();
  edit(store, (spec) => setMember(spec, "a", "label", "1"));
  store.setState(draftEdits.sending());
  store.setState(draftEdits.failed("away"));
  store.setState(draftEdits.refused({ spec: JSON.parse(text(store)) as Spec, revision: 4 }));
  expect(store.getState()).toMatchObject({ saving: { kind: "saved" }, saved: { revision: 4 } });
});

test("a save whose response was lost is no conflict with oneself, also after further edits and saves", () => {
  const store = draftOf();
  for (const label of ["1", "2", "3"]) {
    edit(store, (spec) => setMember(spec, "a", "label", label));
    store.setState(draftEdits.sending());
    store.setState(draftEdits.failed("away"));
  }
  store.setState(draftEdits.refused({ spec: setMember(first, "a", "label", "1"), revision: 4 }));
  expect(store.getState()).toMatchObject({ saving: { kind: "dirty" }, saved: { revision: 4 }, unanswered: [] });
  expect(store.getState().history.present.nodes[0]!.label).toBe("3");
  store.setState(draftEdits.refused({ spec: setMember(first, "a", "label", "2"), revision: 5 }));
  expect(store.getState().saving.kind).toBe("conflict");
});

test("what others save replaces nothing of mine: it is a conflict until someone merges", () => {
  const store = draftOf();
  edit(store, (spec) => setMember(spec, "a", "label", "mine"));
  const theirs = { spec: setMember(first, "b", "label", "theirs"), revision: 4 };
  store.setState(draftEdits.announced(theirs));
  expect(store.getState()).toMatchObject({ saving: { kind: "conflict" }, saved: { revision: 3 } });
  edit(store, (spec) => setMember(spec, "a", "note", "more"));
  expect(store.getState().saving.kind).toBe("conflict");
  store.setState(draftEdits.resolved(setMember(store.getState().history.present, "b", "label", "theirs"), theirs));
  expect(store.getState()).toMatchObject({ saving: { kind: "dirty" }, saved: { revision: 4 } });
  store.setState(draftEdits.undo());
  expect(store.getState().history.present.nodes[1]!.label).toBeUndefined();
});

test("without edits of mine, what others save is taken over, and an old announcement changes nothing", () => {
  const store = draftOf();
  const theirs = { spec: setMember(first, "b", "label", "theirs"), revision: 4 };
  store.setState(draftEdits.announced(theirs));
  expect(store.getState()).toMatchObject({ saving: { kind: "saved" }, history: { present: theirs.spec } });
  store.setState(draftEdits.announced({ spec: first, revision: 3 }));
  expect(store.getState().history.present).toBe(theirs.spec);
});
