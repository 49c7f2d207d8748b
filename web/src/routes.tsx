/** The addresses of the studio. Views are loaded when they are opened. `web/site.py` lists their first parts. */
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, Link } from "@tanstack/react-router";
import { Empty } from "~/shell/notices";
import { Shell } from "~/shell/shell";

/** What of a builder or a run is open. */
export interface Place {
  readonly node?: string;
  readonly tab?: string;
  readonly run?: string;
  /** The number or the id of a version. */
  readonly version?: string;
}

/** Which runs are listed; `since` and `until` are times or periods such as `24h`. */
export const RUN_FILTERS = ["status", "workflow", "source", "since", "until", "tag", "code", "search", "trigger", "after", "job"] as const;
export type RunsFilter = { readonly [Name in (typeof RUN_FILTERS)[number]]?: string };

function texts<Name extends string>(search: Record<string, unknown>, names: readonly Name[]): { [Key in Name]?: string } {
  const found = names.filter((name) => typeof search[name] === "string");
  return Object.fromEntries(found.map((name) => [name, search[name]])) as { [Key in Name]?: string };
}

const root = createRootRoute({ component: Shell, notFoundComponent: NothingHere });
const home = createRoute({
  getParentRoute: () => root,
  path: "/",
  component: lazyRouteComponent(() => import("~/workflows/home"), "Home"),
});
const workflows = createRoute({
  getParentRoute: () => root,
  path: "/workflows",
  component: lazyRouteComponent(() => import("~/workflows/home"), "Home"),
});
export const builderRoute = createRoute({
  getParentRoute: () => root,
  path: "/workflows/$workflowId",
  validateSearch: (search): Place => texts(search, ["node", "tab", "run", "version"]),
  component: lazyRouteComponent(() => import("~/builder/builder"), "Builder"),
});
export const runsRoute = createRoute({
  getParentRoute: () => root,
  path: "/runs",
  validateSearch: (search): RunsFilter => texts(search, RUN_FILTERS),
  component: lazyRouteComponent(() => import("~/runs/run_list"), "RunList"),
});
export const runRoute = createRoute({
  getParentRoute: () => root,
  path: "/runs/$runId",
  validateSearch: (search): Pick<Place, "node" | "tab"> & { readonly at?: string } => texts(search, ["node", "tab", "at"]),
  component: lazyRouteComponent(() => import("~/run/run_page"), "RunPage"),
});

export const triggersRoute = createRoute({
  getParentRoute: () => root,
  path: "/triggers",
  validateSearch: (search): { readonly after?: string; readonly create?: string; readonly workflow?: string } => texts(search, ["after", "create", "workflow"]),
  component: lazyRouteComponent(() => import("~/triggers/trigger_list"), "TriggerList"),
});
export const triggerRoute = createRoute({
  getParentRoute: () => root,
  path: "/triggers/$triggerId",
  component: lazyRouteComponent(() => import("~/triggers/trigger_page"), "TriggerPage"),
});
export const questionsRoute = createRoute({
  getParentRoute: () => root,
  path: "/questions",
  validateSearch: (search): { readonly after?: string } => texts(search, ["after"]),
  component: lazyRouteComponent(() => import("~/questions/questions_page"), "QuestionsPage"),
});
const secrets = createRoute({
  getParentRoute: () => root,
  path: "/secrets",
  component: lazyRouteComponent(() => import("~/secrets/secrets_page"), "SecretsPage"),
});
export const statisticsRoute = createRoute({
  getParentRoute: () => root,
  path: "/statistics",
  validateSearch: (search): { readonly period?: string; readonly workflow?: string } => texts(search, ["period", "workflow"]),
  component: lazyRouteComponent(() => import("~/stats/stats_page"), "StatsPage"),
});

/** Members of an address are texts: the router's own way writes the text `2` as `%222%22`. */
const parseSearch = (search: string) => Object.fromEntries(new URLSearchParams(search));
const stringifySearch = (search: Record<string, unknown>) => {
  const members = Object.entries(search).filter((member): member is [string, string] => typeof member[1] === "string");
  return members.length === 0 ? "" : `?${new URLSearchParams(members)}`;
};

export const router = createRouter({
  parseSearch,
  stringifySearch,
  routeTree: root.addChildren([home, workflows, builderRoute, runsRoute, runRoute, questionsRoute, triggersRoute, triggerRoute, secrets, statisticsRoute]),
  basepath: new URL(document.baseURI).pathname,
  defaultPreload: "intent",
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}

function NothingHere() {
  return (
    <div className="view">
      <Empty title="There is nothing at this address">
        <Link to="/">To the workflows</Link>
      </Empty>
    </div>
  );
}
