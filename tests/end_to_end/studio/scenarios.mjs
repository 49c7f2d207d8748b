// Runs scenarios in one browser, each in a context of its own, and prints their reports as JSON, by name.
// Arguments: the address of the server, the path of the browser, and the names of the scenarios (default: all).
import AxeBuilder from "@axe-core/playwright";
import { chromium } from "playwright-core";
import * as operate from "./scenarios/operate.mjs";
import * as watch from "./scenarios/watch.mjs";

const [address, executablePath, ...names] = process.argv.slice(2);
const scenarios = { ...operate, ...watch };
const TIMEOUT_MS = 20_000;

/** Execute an operation of the API that has no errors. */
async function api(query, variables = {}) {
  const response = await fetch(new URL("graphql", address), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  if (errors) throw new Error(JSON.stringify(errors));
  return data;
}

/** Create a workflow, publish it, and return its id. */
async function publish(name, spec) {
  const created = await api("mutation ($input: CreateWorkflowInput!) { createWorkflow(input: $input) { workflow { id } errors { detail } } }", { input: { name, spec } });
  const { id } = created.createWorkflow.workflow;
  const version = await api("mutation ($input: CreateVersionInput!) { createVersion(input: $input) { errors { detail ... on ValidationProblem { errors { field message } } } } }", { input: { workflowId: id, publish: true } });
  if (version.createVersion.errors.length) throw new Error(JSON.stringify(version.createVersion.errors));
  return id;
}

/** Start a run of a spec, and return its id. */
async function run(spec, inputs = {}, rest = {}) {
  const { runAdhoc } = await api("mutation ($input: RunAdhocInput!) { runAdhoc(input: $input) { run { id } errors { detail ... on ValidationProblem { errors { field message } } } } }", { input: { spec, inputs, ...rest } });
  if (runAdhoc.errors.length) throw new Error(JSON.stringify(runAdhoc.errors));
  return runAdhoc.run.id;
}

async function perform(browser, scenario) {
  const started = performance.now();
  const context = await browser.newContext({ viewport: { width: 1280, height: 720 }, reducedMotion: "reduce" });
  context.setDefaultTimeout(TIMEOUT_MS);
  const page = await context.newPage();
  const report = { errors: [], faults: [] };
  page.on("pageerror", (error) => report.errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && report.errors.push(message.text()));
  const open = (path) => page.goto(new URL(path, address).href);
  const check = async (view) => {
    const { violations } = await new AxeBuilder({ page }).analyze();
    for (const { id, impact, nodes } of violations)
      if (["serious", "critical"].includes(impact)) report.faults.push(`${view}: ${id}: ${nodes[0].html}`);
    if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${view}.png` });
  };
  try {
    await scenario({ page, context, report, api, publish, run, open, check, address });
  } catch (error) {
    report.failure = `${error.stack}\n${page.url()}\n${await page.locator("body").innerText()}`;
    if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/failure_${scenario.name}.png` });
  }
  await context.close();
  return { ...report, seconds: (performance.now() - started) / 1000 };
}

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const reports = {};
for (const name of names.length ? names : Object.keys(scenarios)) reports[name] = await perform(browser, scenarios[name]);
await browser.close();
console.log(JSON.stringify(reports));
