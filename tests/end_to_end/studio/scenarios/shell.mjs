// The frame of all views: the command palette, and the sign-in at an OpenID Connect issuer.

export async function commands({ page, workflow, open, check, report }) {
  const name = `Palette ${crypto.randomUUID()}`;
  const id = await workflow(name, { nodes: [{ id: "a", type: "transform", config: { output: 1 } }], edges: [] });
  await open("runs");
  await page.getByRole("heading", { name: "Runs" }).waitFor();
  const choose = async (text) => {
    await page.keyboard.press("Control+k");
    await page.getByRole("combobox", { name: "Search commands and workflows" }).fill(text);
    await page.getByRole("option", { name: text }).first().waitFor();
    await page.keyboard.press("Enter");
  };
  await choose("Dark");
  await page.waitForFunction(() => document.documentElement.dataset.theme === "dark");
  await choose("Secrets");
  await page.getByRole("heading", { name: "Secrets" }).waitFor();
  await choose(name);
  await page.locator('.react-flow__node[data-id="a"]').waitFor();
  report.isBuilder = page.url().includes(id);
  await page.reload();
  report.theme = await page.evaluate(() => document.documentElement.dataset.theme);
  await page.locator('.react-flow__node[data-id="a"]').waitFor();
  await page.keyboard.press("Control+k");
  await check("commands");
  await page.keyboard.press("Escape");
  await page.locator("dialog").waitFor({ state: "detached" });
  await page.keyboard.press("?");
  await page.getByRole("heading", { name: "Shortcuts" }).waitFor();
  await check("shortcuts");
}

/** Execute an operation as a script of the page does. */
const subject = (page) =>
  page.evaluate(async () => {
    const body = JSON.stringify({ query: "{ viewer { subject } }" });
    const response = await fetch("/graphql", { method: "POST", headers: { "content-type": "application/json" }, body });
    return [response.status, (await response.json()).data?.viewer.subject ?? null];
  });

/** Open a socket as a script of the page does, and return the type of the first message or the close code. */
const socket = (page) =>
  page.evaluate(
    () =>
      new Promise((resolve) => {
        const socket = new WebSocket(`${location.origin.replace("http", "ws")}/graphql`, "graphql-transport-ws");
        socket.onopen = () => socket.send('{"type": "connection_init"}');
        socket.onmessage = ({ data }) => resolve(JSON.parse(data).type);
        socket.onclose = ({ code }) => resolve(code);
      }),
  );

export async function signIn({ page, context, address, open, check, report }) {
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.searchParams.has("code_challenge")) report.authorization = Object.fromEntries(url.searchParams);
  });
  // The pages of the issuer ask for an icon, and for fonts of other hosts.
  const isMissing = ({ hostname, pathname }) => hostname !== "127.0.0.1" || pathname === "/favicon.ico";
  await page.route(isMissing, (route) => route.fulfill({ contentType: "text/css", body: "" }));
  await open("runs");
  const link = page.getByRole("link", { name: "Sign in with your account" });
  await link.waitFor();
  report.before = [await subject(page), await socket(page)];
  await check("sign-in");
  await link.click();
  await page.locator("input[name=login]").fill("ada");
  await page.locator("input[name=password]").fill("x");
  await page.locator("button[type=submit]").click();
  await page.getByRole("button", { name: "Continue" }).click();
  await page.waitForURL(`${address}**`);
  report.path = new URL(page.url()).pathname;
  report.after = [await subject(page), await socket(page)];
  const cookies = await context.cookies(address);
  report.cookies = cookies.filter(({ name }) => name.startsWith("treadle")).map(({ name, httpOnly, sameSite }) => [name, httpOnly, sameSite]);
  report.readable = await page.evaluate(() => document.cookie.includes("treadle_session"));
  // The browser reports each request without a session.
  report.errors = report.errors.filter((error) => !error.includes("status of 401"));
}
