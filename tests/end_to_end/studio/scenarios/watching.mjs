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
