// Signs in at an OpenID Connect issuer from the studio, uses the API and a subscription, and signs out.
// Arguments: the address of the server, the path of the browser. Prints what it has seen as JSON.
import { chromium } from "playwright-core";

const [address, executablePath] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await (await browser.newContext()).newPage();
page.setDefaultTimeout(30_000);
const report = { authorization: null };

page.on("request", (request) => {
  const url = new URL(request.url());
  if (url.searchParams.has("code_challenge")) report.authorization = Object.fromEntries(url.searchParams);
});

/** Execute an operation as a script of the page does. */
const subject = () =>
  page.evaluate(async () => {
    const body = JSON.stringify({ query: "{ viewer { subject } }" });
    const response = await fetch("/graphql", { method: "POST", headers: { "content-type": "application/json" }, body });
    return [response.status, (await response.json()).data?.viewer.subject ?? null];
  });

/** Open a socket as a script of the page does, and return the type of the first answer. */
const socket = () =>
  page.evaluate(
    () =>
      new Promise((answered) => {
        const socket = new WebSocket(`${location.origin.replace("http", "ws")}/graphql`, "graphql-transport-ws");
        socket.onopen = () => socket.send('{"type": "connection_init"}');
        socket.onmessage = ({ data }) => answered(JSON.parse(data).type);
        socket.onclose = ({ code }) => answered(code);
      }),
  );

try {
  await page.goto(`${address}/runs`);
  const link = page.getByRole("link", { name: "Sign in with your account" });
  await link.waitFor();
  report.before = [await subject(), await socket()];
  await link.click();
  await page.locator("input[name=login]").fill("ada");
  await page.locator("input[name=password]").fill("x");
  await page.locator("button[type=submit]").click();
  await page.getByRole("button", { name: "Continue" }).click();
  await page.waitForURL(`${address}/**`);
  report.path = new URL(page.url()).pathname;
  report.after = [await subject(), await socket()];
  const cookies = await page.context().cookies(address);
  report.cookies = cookies.filter(({ name }) => name.startsWith("treadle")).map(({ name, httpOnly, sameSite }) => [name, httpOnly, sameSite]);
  report.readable = await page.evaluate(() => document.cookie.includes("treadle_session"));
} catch (failure) {
  report.failure = `${failure}\n${page.url()}\n${await page.content()}`;
} finally {
  await browser.close();
}
process.stdout.write(JSON.stringify(report));
