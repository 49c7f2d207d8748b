// Watch a run: pause, step, answer, go back to an earlier state, and fork from there.
const HOSTILE = `<script>document.title='pwned'</script>`;
const ASKS = {
  nodes: [
    { id: "word", type: "transform", config: { output: { text: `one ${HOSTILE}` } } },
    { id: "ask", type: "human", config: { prompt: `Go on? ${HOSTILE}`, schema: { type: "object", properties: { go: { type: "boolean", title: "Go" } }, required: ["go"] } } },
    { id: "last", type: "transform", config: { output: "{{ word.output.text }}, {{ ask.output.go }}" } },
  ],
  edges: [{ source: "word", target: "ask" }, { source: "ask", target: "last" }],
};

export async function travel({ page, run, open, check, report }) {
  const first = await run(ASKS, {}, { options: { breakpoints: ["word"] } });
  await open(`runs/${first}`);
  await page.getByRole("button", { name: "Step", exact: true }).click();
  await page.locator('.react-flow__node[data-id="word"] [data-status=COMPLETED]').waitFor();
  report.afterStep = await page.locator('.react-flow__node[data-id="last"] .node-card').getAttribute("data-status");
  await page.getByRole("button", { name: "Resume" }).click();
  const answer = async () => {
    await page.getByRole("heading", { name: "ask asks" }).waitFor();
    await page.locator(".question").getByLabel("Go").first().check();
    await page.getByRole("button", { name: "Answer" }).click();
  };
  await answer();
  const completed = page.locator(".run-head .status.is-completed");
  await completed.waitFor();

  const slider = page.getByRole("slider", { name: "Step of the run" });
  await slider.focus();
  const last = page.locator('.react-flow__node[data-id="last"] .node-card');
  report.now = [await slider.getAttribute("aria-valuetext"), await last.getAttribute("data-status")];
  while (!(await slider.getAttribute("aria-valuetext")).endsWith("before ask")) await page.keyboard.press("ArrowLeft");
  await page.locator('.react-flow__node[data-id="last"] .node-card:not([data-status=COMPLETED])').waitFor();
  await page.locator('.react-flow__node[data-id="word"]').click();
  report.outputThere = JSON.parse(await page.getByLabel("word output", { exact: true }).first().innerText());
  await page.reload();
  await page.locator('.react-flow__node[data-id="last"] .node-card:not([data-status=COMPLETED])').waitFor();
  report.reloaded = await slider.getAttribute("aria-valuetext");
  await check("time travel");
  await page.getByRole("button", { name: "Evaluate" }).click();
  await page.getByLabel("Expression").fill("nodes.word.output.text | length");
  await page.locator("dialog").getByRole("button", { name: "Evaluate" }).click();
  report.evaluated = await page.getByLabel("value", { exact: true }).innerText();
  await page.keyboard.press("Escape");

  await page.getByRole("button", { name: "Fork from here" }).click();
  await page.getByLabel("Change the output of").selectOption("word");
  await page.getByLabel("Output of word").fill('{"text": "two"}');
  await check("fork");
  await page.getByRole("button", { name: "Fork", exact: true }).click();
  await page.waitForURL((url) => !url.pathname.endsWith(first));
  await answer();
  await completed.waitFor();
  await page.locator('.react-flow__node[data-id="last"]').click();
  report.forked = await page.getByLabel("last output", { exact: true }).innerText();
  report.title = await page.title();
}

const GREETS = {
  inputs: { type: "object", properties: { name: { type: "string", title: "Name" } }, required: ["name"] },
  nodes: [
    { id: "greet", type: "transform", label: "Greet", config: { output: "Dear {{ input.name }}" } },
    { id: "wait", type: "delay", config: { seconds: 0.05 } },
  ],
  edges: [{ source: "greet", target: "wait" }],
};

export async function again({ page, publish, mutate, open, check, report }) {
  const workflowId = await publish("Greets", GREETS);
  const { run } = await mutate("runWorkflow", { workflowId, inputs: { name: "Ada" }, mode: "SYNC" }, "run { id }");
  await open(`runs/${run.id}?tab=nodes`);
  const bars = page.locator(".timeline-bar:not(.is-queued)");
  await bars.nth(1).waitFor();
  report.widths = await bars.evaluateAll((shown) => shown.every((bar) => bar.offsetWidth >= 3));
  report.order = await page.locator(".timeline-name").allInnerTexts();
  await check("timeline");
  await page.locator(".timeline-name", { hasText: "Greet" }).click();
  report.node = new URL(page.url()).searchParams.get("node");
  await page.getByRole("button", { name: "Run with other inputs…" }).click();
  const name = page.locator("dialog").getByLabel("Name");
  report.before = await name.inputValue();
  await name.fill("Grace");
  await check("run again");
  await page.locator("dialog").getByRole("button", { name: "Run" }).click();
  await page.waitForURL((url) => !url.pathname.endsWith(run.id));
  await page.locator(".run-head .status.is-completed").waitFor();
  await page.locator('.react-flow__node[data-id="greet"]').click();
  report.after = await page.getByLabel("greet output", { exact: true }).innerText();
}

export async function questions({ page, publish, mutate, open, check, report }) {
  const name = `Asks ${crypto.randomUUID()}`;
  const workflowId = await publish(name, ASKS);
  await open("questions");
  await page.getByRole("heading", { name: "Questions" }).waitFor();
  const { run } = await mutate("runWorkflow", { workflowId, mode: "SYNC" }, "run { id status }");
  const section = page.getByRole("region", { name: `Questions of ${name}` });
  await section.getByLabel("Go").first().check();
  await check("questions");
  await section.getByRole("button", { name: "Answer" }).click();
  await section.waitFor({ state: "detached" });
  await open(`runs/${run.id}`);
  await page.locator(".run-head .status.is-completed").waitFor();
  report.title = await page.title();
}

export async function stream({ page, open, check, report }, { runId }) {
  await open(`runs/${runId}?node=say`);
  const text = page.getByLabel("Streamed text");
  await text.waitFor();
  report.streamed = await text.innerText();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.locator(".run-head .status.is-cancelled").waitFor();
  report.afterCancel = await text.innerText();
  await page.reload();
  await page.locator(".run-head .status.is-cancelled").waitFor();
  report.afterReload = await text.innerText();
  await check("cancelled stream");
}

export async function reconnect({ page, ask, open, report }, { runId }) {
  await open(`runs/${runId}`);
  const status = (id) => page.locator(`.react-flow__node[data-id="${id}"] .node-card`).getAttribute("data-status");
  await page.locator('.react-flow__node[data-id="ask"] [data-status=WAITING]').waitFor();
  await ask("kill");
  await page.getByText("The connection is lost.").waitFor();
  report.shown = await status("ask");
  await ask("start");
  await page.getByText("The connection is lost.").waitFor({ state: "detached" });
  await ask("answer");
  await page.locator(".run-head .status.is-completed").waitFor();
  report.nodes = [await status("word"), await status("ask"), await status("last")];
  // The browser reports each request to a server that is away.
  report.errors = report.errors.filter((error) => !/ERR_CONNECTION|ERR_EMPTY_RESPONSE|WebSocket|Failed to fetch/.test(error));
}

export async function largeRun({ page, run, open, check, report }) {
  const nodes = Array.from({ length: 1000 }, (_, index) => ({ id: `n${index}`, type: "transform", config: { output: index } }));
  const edges = nodes.slice(1).map(({ id }, index) => ({ source: `n${Math.floor(index / 2)}`, target: id }));
  const id = await run({ nodes, edges });
  await open(`runs/${id}?tab=nodes`);
  await page.locator(".run-head .status.is-completed").waitFor();
  await page.locator(".timeline-bar.is-completed").nth(999).waitFor({ state: "attached" });
  report.rows = await page.locator(".timeline li").count();
  await page.locator(".timeline-name", { hasText: "n999" }).click();
  report.output = await page.getByLabel("n999 output", { exact: true }).innerText();
  await check("run of 1000 nodes");
}

export async function output({ page, run, open, report }) {
  const id = await run({ nodes: [{ id: "big", type: "transform", config: { output: "{{ input.letter * 8388000 }}" } }], edges: [] }, { letter: "x" });
  await open(`runs/${id}?node=big`);
  await page.locator(".run-head .status.is-completed, .run-head .status.is-failed").waitFor();
  const shown = page.getByLabel("big output", { exact: true });
  await shown.waitFor();
  report.folded = (await shown.innerText()).length;
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download" }).first().click()]);
  let bytes = 0;
  for await (const chunk of await download.createReadStream()) bytes += chunk.length;
  report.bytes = bytes;
}
