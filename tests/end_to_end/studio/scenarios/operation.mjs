// Run the place: triggers, secrets, statistics, and many runs at once.
const ECHO = { nodes: [{ id: "start", type: "start" }, { id: "end", type: "end", config: { output: "{{ input }}" } }], edges: [{ source: "start", target: "end" }] };
const WAITS = { nodes: [{ id: "pause", type: "delay", config: { seconds: 600 } }], edges: [] };
const HOSTILE = `<img src=x onerror="document.title='pwned'"><script>document.title='pwned'</script>`;

export async function trigger({ page, publish, open, check, report }) {
  await publish(`Echo ${HOSTILE}`, ECHO);
  await open("triggers?create=yes");
  const dialog = page.locator("dialog");
  await dialog.getByLabel("Workflow", { exact: true }).selectOption({ label: `Echo ${HOSTILE}` });
  await dialog.locator(".schema-form input").first().waitFor();
  await check("new trigger");
  await dialog.getByLabel("Name").fill(`Hourly ${HOSTILE}`);
  await dialog.getByLabel("Cron").fill("0 * * * *");
  await dialog.getByLabel("Inputs of the run").fill('{"hour": "{{ event.scheduledAt }}"}');
  await dialog.getByRole("button", { name: "Test without a run" }).click();
  report.tested = await dialog.getByRole("status").locator("pre").innerText();
  await dialog.getByRole("button", { name: "Create" }).click();
  await page.getByRole("heading", { name: /^Hourly/ }).waitFor();
  report.nextTimes = await page.getByRole("region", { name: "Times and history" }).getByRole("listitem").locator("time").count();
  await page.getByRole("button", { name: "Fire now" }).click();
  await page.getByText("It has started a run.").waitFor();
  await page.locator(".trigger-events .status.is-completed").waitFor();
  await check("trigger");
  await page.getByLabel("Name").fill("Every hour");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("heading", { name: "Every hour" }).waitFor();
  await page.getByRole("button", { name: "Turn off" }).click();
  await page.getByText("It is off. Events start no run.").waitFor();
  await page.reload();
  await page.getByText("It is off. Events start no run.").waitFor();
  report.savedName = await page.getByLabel("Name").inputValue();
  await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Triggers" }).click();
  await page.getByRole("cell", { name: /^Every hour/ }).waitFor();
  await check("triggers");
  report.title = await page.title();
}

export async function secret({ page, open, check, report }) {
  const value = "canary-5f1d7c";
  const seen = [];
  page.on("response", async (response) => seen.push(await response.text().catch(() => "")));
  await open("secrets");
  await page.getByRole("button", { name: "New secret" }).click();
  await page.locator("dialog").getByLabel("Name").fill("mail_key");
  await page.locator("dialog").getByLabel("Value").fill(value);
  await check("new secret");
  await page.getByRole("button", { name: "Create" }).click();
  await page.getByRole("cell", { name: "mail_key", exact: true }).waitFor();
  await page.getByRole("button", { name: "Set value of mail_key" }).click();
  await page.locator("dialog").getByLabel("Value").fill(`${value}-2`);
  await page.getByRole("button", { name: "Set", exact: true }).click();
  await page.locator("dialog").waitFor({ state: "detached" });
  await check("secrets");
  const kept = await page.evaluate(() => JSON.stringify([document.documentElement.outerHTML, { ...localStorage }, { ...sessionStorage }, location.href]));
  await page.reload();
  await page.getByRole("cell", { name: "mail_key", exact: true }).waitFor();
  report.isInPage = kept.includes(value) || (await page.content()).includes(value);
  report.isInResponses = seen.some((text) => text.includes(value));
  await page.getByRole("button", { name: "Delete mail_key" }).click();
  await page.locator("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByRole("cell", { name: "mail_key", exact: true }).waitFor({ state: "detached" });
}

export async function bulk({ page, api, publish, open, check, report }) {
  const tag = `bulk-${crypto.randomUUID()}`;
  const tags = [tag];
  const workflowId = await publish("Waits", WAITS);
  const start = "mutation ($input: RunWorkflowInput!) { runWorkflow(input: $input) { run { id } errors { detail } } }";
  for (let index = 0; index < 12; index += 1) await api(start, { input: { workflowId, options: { tags } } });
  await open(`runs?tag=${tag}`);
  await page.getByText("12 runs").waitFor();
  await api(start, { input: { workflowId, options: { tags } } });
  await page.getByText("13 runs").waitFor();
  await check("runs");
  await page.getByLabel("Status").selectOption({ label: "Active" });
  await page.getByRole("button", { name: "Cancel all…" }).click();
  report.question = await page.locator("dialog h2").innerText();
  await page.getByRole("button", { name: "Cancel them" }).click();
  await page.getByText("Cancelled 13 of 13").waitFor();
  await page.getByText("No run matches these filters").waitFor();
  await page.reload();
  await page.getByText("Cancelled 13 of 13").waitFor();
  await page.getByLabel("Status").selectOption({ label: "Cancelled" });
  await page.getByText("13 runs").waitFor();
  report.address = new URL(page.url()).search.replace(tag, "TAG");
  await page.getByRole("button", { name: "Retry all…" }).click();
  await page.getByRole("button", { name: "Retry them" }).click();
  await page.getByText("Retried 13 of 13").waitFor();
  await api("mutation ($input: BulkInput!) { cancelRuns(input: $input) { job { id } errors { detail } } }", { input: { filter: { tags } } });
}

export async function statistics({ page, api, publish, open, check, report }) {
  const workflowId = await publish("Counted", ECHO);
  const start = "mutation ($input: RunWorkflowInput!) { runWorkflow(input: $input) { run { status } errors { detail } } }";
  for (let index = 0; index < 3; index += 1) await api(start, { input: { workflowId, mode: "SYNC" } });
  await open(`statistics?workflow=${workflowId}&period=24h`);
  const completed = page.locator(".figures div", { hasText: "Completed" }).locator("dd");
  await completed.waitFor();
  report.completed = await completed.innerText();
  await check("statistics");
  await page.getByRole("link", { name: "30 days" }).click();
  await page.locator(".figures").waitFor();
  await page.reload();
  report.address = new URL(page.url()).search.replace(/wf_\w+/, "WF");
  report.current = await page.locator("[aria-label=Period] [aria-current]").allInnerTexts();
}
