// What is typed is kept: over a quick change of the view, a lost response, a server that is away, and another tab.
import { forgetAborted, isSave, node as nodeOf, saved as savedIn } from "../stage.mjs";

export async function keptDraft({ page, report, open, tab }) {
  page.on("dialog", (dialog) => dialog.accept());
  const node = (id, shown = page) => nodeOf(shown, id);
  const label = (shown = page) => shown.locator("#node-label");
  const saved = (shown = page) => savedIn(shown);
  const conflict = (shown = page) => shown.getByText(/has saved revision/).count();
  /** Treat each save of the page in another way. */
  const saves = async (treat) => {
    await page.unroute("**/graphql");
    if (treat) await page.route("**/graphql", (route) => (isSave(route.request()) ? treat(route) : route.continue()));
  };

  await open("");
  await page.locator("button.card", { hasText: "Support triage" }).click();
  await node("start").click();
  const place = page.url();

  const response = page.waitForResponse((one) => isSave(one.request()));
  await label().fill("left at once");
  await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Runs" }).click();
  await (await response).finished();
  await page.getByRole("heading", { name: "Runs" }).waitFor();
  await page.goBack();
  await page.locator(".node-card").first().waitFor();
  await saved();
  report.afterLeaving = [await label().inputValue(), await conflict()];
  report.afterLeavingStored = await page.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith("treadle:unsaved")));
  await node("classify").click();
  await label().fill("second");
  await page.getByText("Not saved yet").waitFor();
  await saved();
  await page.goto(place);
  await saved();
  report.afterReload = await page.locator(".node-title").allInnerTexts();

  // The server saves, and its response is lost. The person types on.
  let lost;
  const isLost = new Promise((resolve) => (lost = resolve));
  await saves(async (route) => {
    await route.fetch();
    await route.abort();
    lost();
  });
  await label().fill("response lost");
  await isLost;
  await label().fill("response lost, typed on");
  await saves(undefined);
  await saved();
  report.afterLostResponse = [await label().inputValue(), await conflict()];

  // No save arrives, and the page is opened again.
  await saves((route) => route.abort());
  await label().fill("server away");
  await page.getByText("Not saved: it is tried again").waitFor();
  const other = await tab();
  await page.getByRole("button", { name: "Run", exact: true }).click();
  report.runWithoutSave = await page.getByRole("alert").innerText();
  await saves(undefined);
  await page.goto(place);
  await saved();
  report.afterServerAway = await label().inputValue();

  // Another tab with the same draft saves while edits of this one are unsaved.
  await other.goto(place);
  await saved(other);
  await saves((route) => route.abort());
  await node("classify").click();
  await node("reply", other).click();
  await label().fill("mine");
  await page.getByText("Not saved: it is tried again").waitFor();
  await label(other).fill("theirs");
  await other.getByText("Not saved yet").waitFor();
  await saved(other);
  await page.getByText(/has saved revision/).waitFor();
  // Tabs see what others store, and what they remove, a moment later.
  const isKept = () => Object.entries(localStorage).some(([key, text]) => key.startsWith("treadle:unsaved") && text.includes('"mine"'));
  report.keptBesideOtherTab = await (await page.waitForFunction(isKept)).jsonValue();
  await saves(undefined);
  await page.getByRole("button", { name: "Save the merged draft" }).click();
  await saved();
  await other.locator(".node-title", { hasText: "mine" }).waitFor();
  report.merged = await other.locator(".node-title").allInnerTexts();
  forgetAborted(report);
}
