// Plays scenarios in one browser, each in a context of its own. Reads the path of the browser from its arguments, and
// from each line of its input a request: {"scenario": …, "address": …, "facts": …}. Writes one line of JSON for each:
// {"report": …}. A scenario may ask for an act of the test by a line {"ask": …}; the next line of the input responds.
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";
import { Stage } from "./stage.mjs";
import * as building from "./scenarios/building.mjs";
import * as firstMinute from "./scenarios/first_minute.mjs";
import * as keptDraft from "./scenarios/kept_draft.mjs";
import * as operation from "./scenarios/operation.mjs";
import * as shell from "./scenarios/shell.mjs";
import * as watching from "./scenarios/watching.mjs";

/** Characters of a page in the report of a failure. */
const MAX_TEXT = 4000;
const scenarios = { ...building, ...firstMinute, ...keptDraft, ...operation, ...shell, ...watching };
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const write = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

async function ask(question) {
  write({ ask: question });
  return JSON.parse((await lines.next()).value);
}

async function perform(browser, { scenario, address, facts }) {
  const started = performance.now();
  const stage = await Stage.open(browser, address, ask);
  try {
    await scenarios[scenario](stage, facts ?? {});
  } catch (error) {
    const texts = await Promise.all(stage.context.pages().map(async (page) => (await page.locator("body").innerText()).slice(0, MAX_TEXT)));
    stage.report.failure = [error.stack, stage.page.url(), ...texts].join("\n-----\n");
    if (process.env.SHOTS) await stage.page.screenshot({ path: `${process.env.SHOTS}/failure_${scenario}.png` });
  }
  await stage.context.close();
  return { ...stage.report, seconds: (performance.now() - started) / 1000 };
}

const browser = await chromium.launch({ executablePath: process.argv[2], args: ["--no-sandbox"] });
for (let line = await lines.next(); !line.done; line = await lines.next()) write({ report: await perform(browser, JSON.parse(line.value)) });
await browser.close();
