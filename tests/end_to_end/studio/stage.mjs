// Runs scenarios in one browser, each in a context of its own, and prints their reports as JSON by name.
// Arguments of the script: the address of the server, the path of the browser, and the scenarios to run (all by default).
import AxeBuilder from "@axe-core/playwright";
import { chromium } from "playwright-core";

export const [address, executablePath, ...chosen] = process.argv.slice(2);
const TIMEOUT_MS = 30_000;
const AT_ONCE = 2;

/** Execute an operation of the API. */
export async function api(query, variables = {}) {
  const response = await fetch(new URL("graphql", address), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  if (errors) throw new Error(JSON.stringify(errors));
  return data;
}

/** Create a workflow with a spec, and return its id. */
export async function workflowOf(name, spec) {
  const created = await api("mutation ($input: CreateWorkflowInput!) { createWorkflow(input: $input) { workflow { id } errors { detail } } }", { input: { name, spec } });
  return created.createWorkflow.workflow.id;
}

export async function draftOf(id) {
  const { workflow } = await api("query ($id: ID!) { workflow(id: $id) { draft { spec revision } publishedVersion { number } versions(first: 10) { nodes { number status note } } } }", { id });
  return workflow;
}

/** What a scenario works with: a page, further tabs, and the checks that every view has to pass. */
class Stage {
  report = { faults: [], errors: [] };

  constructor(context) {
    this.context = context;
  }

  async tab(path = "") {
    const page = await this.context.newPage();
    page.on("pageerror", (error) => this.report.errors.push(error.message));
    page.on("console", (message) => message.type() === "error" && this.report.errors.push(message.text()));
    await page.goto(new URL(path, address).href);
    return page;
  }

  /** Open the builder of a workflow, and wait for its canvas. */
  async builder(id, search = "") {
    const page = await this.tab(`workflows/${id}${search}`);
    await page.locator(".node-card, .react-flow__pane").first().waitFor();
    await saved(page);
    return page;
  }

  async axe(page, view) {
    const { violations } = await new AxeBuilder({ page }).analyze();
    for (const { id, impact, nodes } of violations)
      if (["serious", "critical"].includes(impact)) this.report.faults.push(`${view}: ${id}: ${nodes[0].html}`);
  }
}

export const node = (page, id) => page.locator(`.react-flow__node[data-id="${id}"]`);
export const saved = (page) => page.getByText(/^Saved, revision/).waitFor();

/** Wait until an edit of the page is saved. */
export async function edited(page, edit) {
  const response = page.waitForResponse((one) => one.request().postData()?.includes("mutation SaveDraft") ?? false);
  await Promise.all([response, edit()]);
  await saved(page);
}

/** Choose an item of a menu of the builder. */
export async function pick(page, menu, item) {
  await page.getByRole("button", { name: menu }).click();
  await page.getByRole("menuitem", { name: item }).click();
}

/** Run one scenario in a context of its own, and return its report. */
async function perform(browser, scenario) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 720 }, reducedMotion: "reduce", permissions: ["clipboard-read", "clipboard-write"] });
  context.setDefaultTimeout(TIMEOUT_MS);
  const stage = new Stage(context);
  const started = performance.now();
  try {
    await scenario(stage, stage.report);
  } catch (error) {
    const texts = await Promise.all(context.pages().map((page) => page.locator("body").innerText()));
    stage.report.failure = `${error.stack}\n${texts.join("\n-----\n")}`;
  }
  stage.report.seconds = (performance.now() - started) / 1000;
  await context.close();
  return stage.report;
}

/** Run the first scenario alone, as it measures, and then two at a time, as each waits for saves most of its time. */
export async function run(scenarios) {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  const waiting = Object.entries(scenarios).filter(([name]) => chosen.length === 0 || chosen.includes(name));
  const reports = {};
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) reports[next[0]] = await perform(browser, next[1]);
  };
  const first = waiting.shift();
  if (first) reports[first[0]] = await perform(browser, first[1]);
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  await browser.close();
  console.log(JSON.stringify(reports));
}
