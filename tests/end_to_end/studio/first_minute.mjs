// The first minute of a new user: choose a template, run it, watch it, and reload. Prints a report as JSON.
// Arguments: the address of the server, and the path of the browser.
import AxeBuilder from "@axe-core/playwright";
import { chromium } from "playwright-core";

const [address, executablePath] = process.argv.slice(2);
const report = { faults: [], errors: [] };
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const context = await browser.newContext({ viewport: { width: 1280, height: 720 }, reducedMotion: "reduce" });
const page = await context.newPage();
page.setDefaultTimeout(30_000);
page.on("pageerror", (error) => report.errors.push(error.message));
page.on("console", (message) => message.type() === "error" && report.errors.push(message.text()));

async function check(view) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  for (const { id, impact, nodes } of violations)
    if (["serious", "critical"].includes(impact)) report.faults.push(`${view}: ${id}: ${nodes[0].html}`);
}

const statuses = () => page.locator(".node-card").evaluateAll((cards) => cards.map((card) => card.dataset.status).sort());

try {
  await page.goto(address);
  await page.locator("button.card", { hasText: "Support triage" }).waitFor();
  await check("home");
  await page.locator("button.card", { hasText: "Support triage" }).click();
  await page.locator(".node-card").first().waitFor();
  await check("builder");
  report.nodes = await page.locator(".node-card").count();
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await page.locator("dialog .schema-form").waitFor();
  await check("start");
  await page.locator("dialog").getByRole("button", { name: "Run" }).click();
  await page.getByRole("tab", { name: /Completed/ }).waitFor();
  report.live = await statuses();
  await check("builder with run");
  await page.getByRole("link", { name: "Open the run" }).click();
  await page.locator(".run-head .status.is-completed").waitFor();
  await check("run");
  report.path = new URL(page.url()).pathname.replace(/run_\w+/, "RUN");
  await page.reload();
  await page.locator(".run-head .status.is-completed").waitFor();
  await page.locator(".node-card[data-status=COMPLETED]").first().waitFor();
  report.reloaded = await statuses();
} catch (error) {
  report.failure = `${error.message}\n${await page.locator("body").innerText()}`;
} finally {
  await browser.close();
}
console.log(JSON.stringify(report));
