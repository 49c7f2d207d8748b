// The first minute of a new user: choose a template, run it, watch it, and reload.
export async function firstMinute({ page, report, open, check }) {
  const statuses = () => page.locator(".node-card").evaluateAll((cards) => cards.map((card) => card.dataset.status).sort());
  await open("");
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
}
