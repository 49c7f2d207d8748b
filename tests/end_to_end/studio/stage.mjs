// What a scenario works with: pages of a browser context, the API, and the checks that every view has to pass.
import AxeBuilder from "@axe-core/playwright";

const TIMEOUT_MS = 30_000;
const VIEWPORT = { width: 1280, height: 720 };
const WHY = "errors { detail ... on ValidationProblem { errors { field message } } }";

export class Stage {
  report = { faults: [], errors: [] };

  constructor(context, address, ask) {
    this.context = context;
    this.address = address;
    /** Ask the test to do something, and wait until it has. */
    this.ask = ask;
  }

  /** Open a stage in a context of its own, with one empty page. */
  static async open(browser, address, ask) {
    const permissions = ["clipboard-read", "clipboard-write"];
    const context = await browser.newContext({ viewport: VIEWPORT, reducedMotion: "reduce", permissions });
    context.setDefaultTimeout(TIMEOUT_MS);
    const stage = new Stage(context, address, ask);
    context.on("page", (page) => {
      page.on("pageerror", (error) => stage.report.errors.push(error.message));
      page.on("console", (message) => message.type() === "error" && stage.report.errors.push(message.text()));
    });
    stage.page = await context.newPage();
    return stage;
  }

  open = (path, page = this.page) => page.goto(new URL(path, this.address).href);

  /** Open an address in a further tab. */
  tab = async (path = "") => {
    const page = await this.context.newPage();
    await this.open(path, page);
    return page;
  };

  /** Open the builder of a workflow, and wait for its canvas. */
  builder = async (id, search = "", page = this.page) => {
    await this.open(`workflows/${id}${search}`, page);
    await page.locator(".node-card, .react-flow__pane").first().waitFor();
    await saved(page);
    return page;
  };

  /** Note the serious faults of accessibility of a view, and store its picture in the folder SHOTS. */
  check = async (view, page = this.page) => {
    const { violations } = await new AxeBuilder({ page }).analyze();
    for (const { id, impact, nodes } of violations)
      if (["serious", "critical"].includes(impact)) this.report.faults.push(`${view}: ${id}: ${nodes[0].html}`);
    await this.shoot(view, page);
  };

  /** Store the picture of a view in the folder SHOTS, in light and in dark. */
  shoot = async (view, page = this.page) => {
    if (!process.env.SHOTS) return;
    for (const colorScheme of ["dark", "light"]) {
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: `${process.env.SHOTS}/${view}_${colorScheme}.png` });
    }
  };

  /** Execute an operation of the API that has no errors. */
  api = async (query, variables = {}) => {
    const response = await fetch(new URL("graphql", this.address), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ query, variables }),
    });
    const { data, errors } = await response.json();
    if (errors) throw new Error(JSON.stringify(errors));
    return data;
  };

  /** Execute a mutation by its name, and return the selected part of its payload. */
  mutate = async (name, input, selection) => {
    const type = `${name[0].toUpperCase()}${name.slice(1)}Input!`;
    const data = await this.api(`mutation ($input: ${type}) { ${name}(input: $input) { ${selection} ${WHY} } }`, { input });
    if (data[name].errors.length) throw new Error(JSON.stringify(data[name].errors));
    return data[name];
  };

  /** Create a workflow with a spec, and return its id. */
  workflow = async (name, spec) => (await this.mutate("createWorkflow", { name, spec }, "workflow { id }")).workflow.id;

  /** Create a workflow, publish it, and return its id. */
  publish = async (name, spec) => {
    const workflowId = await this.workflow(name, spec);
    await this.mutate("createVersion", { workflowId, publish: true }, "version { id }");
    return workflowId;
  };

  /** Start a run of a spec, and return its id. */
  run = async (spec, inputs = {}, rest = {}) => (await this.mutate("runAdhoc", { spec, inputs, ...rest }, "run { id }")).run.id;

  readDraft = async (id) => {
    const query = "query ($id: ID!) { workflow(id: $id) { draft { spec revision } publishedVersion { number } versions(first: 10) { nodes { number status note } } } }";
    return (await this.api(query, { id })).workflow;
  };
}

export const node = (page, id) => page.locator(`.react-flow__node[data-id="${id}"]`);
export const saved = (page) => page.getByText(/^Saved, revision/).waitFor();
export const isSave = (request) => request.postData()?.includes("mutation SaveDraft") ?? false;

/** Wait until an edit of the page is saved. */
export async function edited(page, edit) {
  const response = page.waitForResponse((one) => isSave(one.request()));
  await Promise.all([response, edit()]);
  await saved(page);
}

/** Remove the errors that the browser reports for aborted requests. */
export function forgetAborted(report) {
  report.errors = report.errors.filter((error) => !error.includes("net::ERR_FAILED"));
}

/** Choose an item of a menu of the builder. */
export async function pick(page, menu, item) {
  await page.getByRole("button", { name: menu }).click();
  await page.getByRole("menuitem", { name: item }).click();
}
