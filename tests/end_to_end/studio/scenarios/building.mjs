// A person builds workflows.
import { edited, forgetAborted, isSave, node, pick, saved } from "../stage.mjs";

const transform = (id, output, more = {}) => ({ id, type: "transform", config: { output }, ...more });
const edgesOf = ({ draft }) => draft.spec.edges.map(({ source, target, port }) => [source, target, ...(port ? [port] : [])].join(" ")).sort();
const idsOf = ({ draft }) => draft.spec.nodes.map(({ id }) => id).sort();
const idOf = (page) => new URL(page.url()).pathname.split("/").pop();

/** Drag from the middle of one element to the middle of another one, or to a place of the page. */
async function drag(page, from, to) {
  const middle = async (target) => {
    if (!("boundingBox" in target)) return target;
    const { x, y, width, height } = await target.boundingBox();
    return { x: x + width / 2, y: y + height / 2 };
  };
  const [start, end] = [await middle(from), await middle(to)];
  await page.mouse.move(start.x, start.y);
  await page.mouse.down();
  await page.mouse.move((start.x + end.x) / 2, (start.y + end.y) / 2, { steps: 4 });
  await page.mouse.move(end.x, end.y, { steps: 4 });
  await page.mouse.up();
}

const source = (page, id) => node(page, id).locator(".react-flow__handle.source").last();
const target = (page, id) => node(page, id).locator(".react-flow__handle.target");

const edge = (from, to) => `.react-flow__edge[aria-label="Edge from ${from} to ${to}"]`;

async function add(page, search) {
  await page.getByRole("combobox", { name: "Search node types" }).fill(search);
  await page.locator("dialog").getByRole("option").first().click();
}

export async function large({ page, report, builder, workflow, readDraft }) {
  const nodes = Array.from({ length: 1000 }, (_, index) => transform(`n${index}`, index));
  const edges = nodes.slice(1).map(({ id }, index) => ({ source: `n${Math.floor(index / 2)}`, target: id }));
  const id = await workflow("Large", { nodes, edges });
  const empty = await workflow("Empty", { nodes: [transform("a", 1)], edges: [] });
  await builder(empty);
  await page.evaluate(() => performance.mark("begin"));
  await page.goto(page.url().replace(empty, id));
  await page.locator(".node-card").first().waitFor();
  report.openedMs = await page.evaluate(() => performance.now());
  await page.getByText(/^Saved, revision/).waitFor();
  await edited(page, () => pick(page, "Arrange", "Nodes without a place"));
  const { draft } = await readDraft(id);
  const places = draft.spec.nodes.map(({ position: { x, y } }) => `${x} ${y}`);
  report.places = new Set(places).size;
  await edited(page, () => page.getByRole("button", { name: "Undo" }).click());
  report.undone = (await readDraft(id)).draft.spec.nodes.filter(({ position }) => position === undefined).length;
}

export async function mouse({ page, report, open, check, readDraft }) {
  await open("");
  await page.getByRole("button", { name: "New workflow", exact: true }).click();
  await node(page, "start").waitFor();
  const { x, y } = await source(page, "start").boundingBox();
  await drag(page, source(page, "start"), { x: x + 60, y: y + 140 });
  await add(page, "transform");
  await node(page, "transform").waitFor();
  await page.getByLabel("Label", { exact: true }).fill("Greeting");
  await drag(page, source(page, "transform"), target(page, "end"));
  await page.locator(edge("transform", "end")).waitFor();
  await page.keyboard.press("Control+z");
  await page.locator(edge("transform", "end")).waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Redo" }).click();
  await page.locator(edge("start", "end")).click({ force: true });
  await page.keyboard.press("Delete");
  await page.locator(edge("transform", "end")).click({ force: true });
  await page.getByRole("button", { name: "Insert a node" }).click();
  await edited(page, () => add(page, "wait"));
  await check("builder");
  const draft = await readDraft(idOf(page));
  Object.assign(report, { nodes: idsOf(draft), edges: edgesOf(draft) });
}

export async function keyboard({ page, report, open, readDraft }) {
  await open("");
  const key = (name) => page.keyboard.press(name);
  /** Go on with Tab until the element with this name has the focus. */
  const tabTo = async (name) => {
    for (let presses = 0; presses < 120; presses += 1) {
      const focused = await page.evaluate(() => {
        const { ariaLabel, innerText, labels, id } = document.activeElement;
        return [ariaLabel, labels?.[0]?.innerText, innerText, id].filter(Boolean).map((text) => text.trim().split("\n")[0].trim());
      });
      if (focused.includes(name)) return;
      await key("Tab");
    }
    throw new Error(`Tab does not reach “${name}”`);
  };
  await page.getByRole("button", { name: "New workflow", exact: true }).waitFor();
  await tabTo("New workflow");
  await key("Enter");
  await node(page, "start").waitFor();
  await tabTo("start, Start");
  await key("Enter");
  await key("/");
  await page.getByRole("combobox", { name: "Search node types" }).waitFor();
  await page.keyboard.type("transform");
  await key("Enter");
  await node(page, "transform").waitFor();
  await tabTo("Label");
  await page.keyboard.type("By keyboard");
  await tabTo("Node to connect to");
  await page.keyboard.type("end");
  await tabTo("Connect");
  await key("Enter");
  await page.locator(edge("transform", "end")).waitFor();
  await tabTo("Output");
  await page.keyboard.type("{{ input }}");
  await tabTo("By keyboard, Transform");
  await key("Enter");
  const before = (await node(page, "transform").boundingBox()).y;
  await edited(page, () => key("ArrowDown"));
  report.moved = (await node(page, "transform").boundingBox()).y - before;
  await tabTo("Run");
  await key("Enter");
  await page.locator("dialog").getByLabel("Inputs as JSON").waitFor();
  await tabTo("Inputs as JSON");
  await key("Control+a");
  await page.keyboard.type('{"by": "keyboard"}');
  await page.locator("dialog").getByRole("button", { name: "Run" }).focus();
  await key("Enter");
  await page.getByRole("tab", { name: /Completed/ }).waitFor();
  report.edges = edgesOf(await readDraft(idOf(page)));
}

const conflictWith = (side) => async ({ page, report, builder, check, workflow, readDraft, mutate }) => {
  const id = await workflow("Conflict", { nodes: [transform("a", 1), transform("b", 2), transform("c", 3)], edges: [] });
  await builder(id);
  await page.route("**/graphql", (route) => (isSave(route.request()) ? route.abort() : route.continue()));
  await node(page, "a").click();
  await page.locator("#node-label").fill("mine a");
  await node(page, "b").click();
  await page.locator("#node-label").fill("mine b");
  await page.getByText("Not saved: it is tried again").waitFor();
  const theirs = { nodes: [transform("a", 1), transform("b", 2, { label: "theirs b" }), transform("c", 3, { label: "theirs c" })], edges: [] };
  await mutate("saveDraft", { workflowId: id, spec: theirs, expectedRevision: 1 }, "draft { revision }");
  await page.getByRole("button", { name: side, exact: true }).click();
  await check("conflict");
  await page.unroute("**/graphql");
  await page.getByRole("button", { name: "Save the merged draft" }).click();
  await saved(page);
  forgetAborted(report);
  report.taken = (await readDraft(id)).draft.spec.nodes.map(({ label }) => label ?? "none");
};

export const [conflictMine, conflictTheirs, conflictBoth] = ["All mine", "All theirs", "Both"].map(conflictWith);

export async function paste({ page, context, report, builder, workflow, readDraft }) {
  const spec = { nodes: [transform("a", 1, { note: { kept: true } }), transform("b", "{{ a.output }}")], edges: [{ source: "a", target: "b", condition: "a.output" }] };
  const [from, to] = [await workflow("From", spec), await workflow("To", spec)];
  await builder(from);
  await page.locator(".react-flow__pane").click({ position: { x: 5, y: 5 } });
  await page.keyboard.press("Control+a");
  await page.keyboard.press("Control+c");
  const other = await builder(to, "", await context.newPage());
  await other.locator(".react-flow__pane").click({ position: { x: 5, y: 5 } });
  await edited(other, () => other.keyboard.press("Control+v"));
  const { draft } = await readDraft(to);
  report.nodes = draft.spec.nodes.slice(2).map(({ id, config, note }) => [id, config.output, note ?? null]);
  report.edges = draft.spec.edges.map(({ source, target, condition }) => [source, target, condition].join(" "));
  await other.evaluate(() => navigator.clipboard.writeText("no nodes"));
  await other.keyboard.press("Control+v");
  report.refusal = await other.getByRole("alert").innerText();
}

export async function versions({ page, report, builder, check, workflow, readDraft }) {
  const id = await workflow("Versions", { nodes: [transform("a", "first"), transform("b", 2)], edges: [{ source: "a", target: "b" }] });
  await builder(id);
  await page.getByRole("button", { name: "Publish …" }).click();
  await page.getByLabel("What is new").fill("the first one");
  await page.getByRole("button", { name: "Publish the draft" }).click();
  await page.getByRole("button", { name: /Version 1 ✓ published/ }).waitFor();
  report.same = await page.locator(".spec-diff [role=status]").innerText();
  await node(page, "b").click();
  await page.getByRole("tab", { name: "Node" }).click();
  await edited(page, () => page.locator("#node-label").fill("changed"));
  await edited(page, () => pick(page, "Arrange", "All nodes"));
  await node(page, "a").click();
  await page.getByRole("button", { name: "As JSON" }).click();
  await edited(page, () => page.getByLabel("Config as JSON").fill('{"output": "second"}'));
  await page.getByRole("button", { name: /Publish changes since 1/ }).click();
  await page.locator(".spec-diff .diff-value").first().waitFor();
  report.beyond = await page.locator(".spec-diff").first().innerText();
  await check("versions");
  await page.getByRole("button", { name: "Publish the draft" }).click();
  await page.getByRole("button", { name: /Version 2 ✓ published/ }).click();
  await page.locator(".version-body .spec-diff").waitFor();
  report.link = new URL(page.url()).search;
  await page.reload();
  await page.locator(".version-body .spec-diff").waitFor();
  report.reloaded = await page.locator(".version-body .diff-value").allInnerTexts();
  await page.getByRole("button", { name: /Version 1 archived/ }).click();
  await page.locator(".version-body").getByRole("button", { name: "Publish", exact: true }).click();
  await page.getByRole("button", { name: /Version 1 ✓ published/ }).waitFor();
  await page.getByRole("button", { name: "Restore into the draft" }).click();
  await page.getByText("No differences").waitFor();
  await page.getByRole("button", { name: "Archive", exact: true }).click();
  await page.getByRole("button", { name: /Version 1 archived/ }).waitFor();
  const { draft, publishedVersion, versions } = await readDraft(id);
  Object.assign(report, { draft: draft.spec.nodes[0].config.output, published: publishedVersion, versions: versions.nodes });
}

export async function search({ page, report, builder, check, workflow, readDraft }) {
  const spec = { nodes: [transform("ada", "Dear Ada"), transform("b", "{{ ada.output }} and Ada")], edges: [{ source: "ada", target: "b", condition: "input.to == 'Ada'" }] };
  const id = await workflow("Search", spec);
  await builder(id);
  await page.keyboard.press("Control+f");
  await page.getByLabel("Search the spec").fill("Ada");
  await page.getByLabel("Match case").check();
  await page.getByText("3 matches in 3 texts").waitFor();
  await page.getByLabel("Replace by").fill("Grace");
  await check("search");
  await edited(page, () => page.getByRole("button", { name: "Replace in ada, config.output" }).click());
  await edited(page, () => page.getByRole("button", { name: "Replace all" }).click());
  const { draft } = await readDraft(id);
  report.texts = [...draft.spec.nodes.map(({ config }) => config.output), draft.spec.edges[0].condition, draft.spec.nodes[0].id];
  await page.getByLabel("Search the spec").fill("Grace");
  await page.getByRole("button", { name: "b", exact: true }).click();
  report.selected = new URL(page.url()).searchParams.get("node");
}

export async function files({ page, report, builder, check, workflow }) {
  const long = "x".repeat(10_240);
  const spec = {
    nodes: [
      { id: "html", type: "transform", label: "<img src=x onerror=document.title='hacked'><script>document.title='hacked'</script>", config: { output: "<b>{{ input }}</b>" } },
      { id: "long", type: "transform", label: long, config: { output: long } },
      { id: "rtl", type: "transform", label: "שלום עולם", config: { output: "مرحبا" } },
      { id: "strange", type: "no_such_type", config: { any: [1] } },
      ...["stack1", "stack2"].map((id) => transform(id, id, { position: { x: 0, y: 0 } })),
    ],
    edges: [["html", "long"], ["long", "html"], ["long", "rtl"], ["rtl", "strange"], ["strange", "strange"]].map(([source, target]) => ({ source, target })),
    future: { kept: true },
  };
  const id = await workflow("Files", { nodes: [transform("old", 1)], edges: [] });
  await builder(id);
  await pick(page, "More", "Import a file …");
  await page.getByLabel("Or its text").fill('{"nodes": 7}');
  report.refusal = await page.locator("dialog").getByRole("alert").innerText();
  await page.getByLabel("File").setInputFiles({ name: "spec.json", mimeType: "application/json", buffer: Buffer.from(JSON.stringify(spec)) });
  await page.getByText("6 nodes, 5 edges.").waitFor();
  await check("import");
  await edited(page, () => page.getByRole("button", { name: "Replace the draft" }).click());
  // Only what is visible is drawn, and a node at the edge of the canvas moves when it is clicked.
  await page.getByRole("button", { name: "Fit View" }).click();
  await node(page, "html").click();
  await node(page, "strange").click();
  await page.getByText("This server has no node type “no_such_type”").waitFor();
  await check("hostile draft");
  report.title = await page.title();
  report.widths = await page.locator(".node-card").evaluateAll((cards) => [...new Set(cards.map((card) => card.offsetWidth))]);
  const [exported] = await Promise.all([page.waitForEvent("download"), pick(page, "More", "Export as a file")]);
  const chunks = [];
  for await (const chunk of await exported.createReadStream()) chunks.push(chunk);
  const file = JSON.parse(Buffer.concat(chunks).toString());
  report.same = JSON.stringify(file.nodes) === JSON.stringify(spec.nodes) && file.future.kept;
  report.file = exported.suggestedFilename();
}

export async function deleted({ page, report, builder, workflow, mutate }) {
  const id = await workflow("Deleted", { nodes: [transform("a", 1)], edges: [] });
  await builder(id, "?node=a");
  await mutate("deleteWorkflow", { id }, "deletedId");
  await page.locator("#node-label").fill("typed after that");
  await page.getByText("The server does not save the draft").waitFor();
  report.label = await page.locator("#node-label").inputValue();
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download the draft" }).click()]);
  report.file = download.suggestedFilename();
  report.notice = await page.locator(".banner").innerText();
}
