/** Statistics over time, of all runs or of one workflow. The period and the workflow are in the address. */
import { Link, useNavigate } from "@tanstack/react-router";
import { useQuery } from "urql";
import { NodeFiguresFragmentDoc, StatisticsDocument, StatsFiguresFragmentDoc, type NodeFiguresFragment, type StatisticsQuery } from "~api";
import { statisticsRoute } from "~/routes";
import { readFragment, type FragmentType } from "~/shell/fragments";
import { Empty, Failure, Loading } from "~/shell/notices";
import { failureOf } from "~/shell/problems";
import { ProjectChoice, useProjects } from "~/shell/projects";
import { durationText } from "~/shell/time";
import { WorkflowChoice } from "~/workflows/workflow_choice";
import { Chart } from "./chart";
import { PERIODS, periodOf, sinceOf } from "./period";
import "./stats.css";

type Stats = NonNullable<StatisticsQuery["stats"]>;

export function StatsPage() {
  const search = statisticsRoute.useSearch();
  const navigate = useNavigate();
  const { projects, projectId, setProject } = useProjects();
  const period = periodOf(search.period);
  const since = sinceOf(period, Date.now());
  const variables = { since, bucket: period.bucket, ...(projectId ? { projectId } : {}), ...(search.workflow ? { workflowId: search.workflow } : {}) };
  const [{ data, error }, refetch] = useQuery({ query: StatisticsDocument, variables });
  const stats = data?.stats;
  const show = (workflow: string | undefined) => void navigate({ to: "/statistics", search: { period: period.name, ...(workflow ? { workflow } : {}) } });
  return (
    <div className="view">
      <div className="view-head">
        <h1>Statistics</h1>
        <ProjectChoice projects={projects} value={projectId} onChange={setProject} />
        <nav className="row" aria-label="Period">
          {PERIODS.map(({ name, title }) => (
            <Link key={name} to="/statistics" search={{ ...search, period: name }} className="button" aria-current={name === period.name ? "true" : undefined}>
              {title}
            </Link>
          ))}
        </nav>
      </div>
      <div className="stats-workflow">
        <WorkflowChoice value={search.workflow} onChange={show} any="all" />
      </div>
      {error && !data && <Failure title="The statistics could not be read" text={failureOf(error)} onRetry={() => refetch({ requestPolicy: "network-only" })} />}
      {!data && !error && <Loading what="statistics" rows={6} />}
      {data && !stats && <Empty title="You may not see these statistics" />}
      {stats && <Figures stats={stats} />}
      {stats && <Charts stats={stats} isHourly={period.bucket === "HOUR"} />}
      {stats && <Lists stats={stats} workflow={search.workflow} since={since} />}
    </div>
  );
}

function Figures({ stats }: { stats: FragmentType<typeof StatsFiguresFragmentDoc> }) {
  const figures = readFragment(StatsFiguresFragmentDoc, stats);
  const facts: ReadonlyArray<readonly [string, string]> = [
    ["Completed", count(figures.completed)],
    ["Failed", count(figures.failed)],
    ["Cancelled", count(figures.cancelled)],
    ["Active now", count(figures.active)],
    ["Success rate", figures.successRate == null ? "none" : `${(figures.successRate * 100).toFixed(1)} %`],
    ["Half take at most", duration(figures.p50Ms)],
    ["95 % take at most", duration(figures.p95Ms)],
    ["95 % wait at most", duration(figures.queueP95Ms)],
    ["Cost", cost(figures.costUsd)],
    ["Tokens", `${count(figures.inputTokens)} in, ${count(figures.outputTokens)} out`],
  ];
  return (
    <dl className="figures">
      {facts.map(([title, value]) => (
        <div key={title}>
          <dt>{title}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

const day = new Intl.DateTimeFormat("en", { month: "short", day: "numeric", timeZone: "UTC" });
const hour = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: "UTC" });
const count = (value: number) => value.toLocaleString("en");
const duration = (ms: number | null) => (ms == null ? "none" : durationText(ms));
const cost = (usd: number) => `$${usd >= 1 || usd === 0 ? usd.toFixed(2) : usd.toPrecision(2)}`;

function Charts({ stats: { series }, isHourly }: { stats: Stats; isHourly: boolean }) {
  const labels = series.map(({ start }) => (isHourly ? hour : day).format(new Date(start)));
  return (
    <div className="charts">
      <Chart
        title="Runs"
        kind="bars"
        labels={labels}
        format={count}
        series={[
          { title: "Completed", token: "--completed", values: series.map(({ completed }) => completed) },
          { title: "Cancelled", token: "--cancelled", values: series.map(({ cancelled }) => cancelled) },
          { title: "Failed", token: "--failed", values: series.map(({ failed }) => failed) },
        ]}
      />
      <Chart
        title="Duration"
        kind="lines"
        labels={labels}
        format={durationText}
        series={[
          { title: "50 %", token: "--accent", values: series.map(({ p50Ms }) => p50Ms) },
          { title: "95 %", token: "--waiting", values: series.map(({ p95Ms }) => p95Ms), dashed: true },
        ]}
      />
      <Chart title="Cost" kind="bars" labels={labels} format={cost} series={[{ title: "Cost", token: "--accent", values: series.map(({ costUsd }) => costUsd) }]} />
    </div>
  );
}

function Lists({ stats, workflow, since }: { stats: Stats; workflow: string | undefined; since: string }) {
  const slowest = readFragment(NodeFiguresFragmentDoc, stats.slowestNodes);
  const failing = readFragment(NodeFiguresFragmentDoc, stats.failingNodes).filter(({ failed }) => failed > 0);
  return (
    <>
      {workflow === undefined && <p className="faint">Choose a workflow to see its slowest and most failing nodes.</p>}
      <div className="charts">
        {slowest.length > 0 && <NodeList title="Slowest nodes" nodes={slowest} workflow={workflow} />}
        {failing.length > 0 && <NodeList title="Nodes that fail most" nodes={failing} workflow={workflow} />}
        {stats.failuresByCode.length > 0 && (
          <section>
            <h2>Failures by code</h2>
            <table className="list">
              <thead>
                <tr>
                  <th scope="col">Code</th>
                  <th scope="col" className="number">Runs</th>
                </tr>
              </thead>
              <tbody>
                {stats.failuresByCode.map(({ code, count: runs }) => (
                  <tr key={code}>
                    <td>
                      <Link to="/runs" search={{ status: "FAILED", code, since, ...(workflow ? { workflow } : {}) }}>
                        {code}
                      </Link>
                    </td>
                    <td className="number">{count(runs)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </section>
        )}
      </div>
    </>
  );
}

function NodeList({ title, nodes, workflow }: { title: string; nodes: readonly NodeFiguresFragment[]; workflow: string | undefined }) {
  return (
    <section>
      <h2>{title}</h2>
      <table className="list">
        <thead>
          <tr>
            <th scope="col">Node</th>
            <th scope="col" className="number">Runs</th>
            <th scope="col" className="number">Failed</th>
            <th scope="col" className="number">50 %</th>
            <th scope="col" className="number">95 %</th>
          </tr>
        </thead>
        <tbody>
          {nodes.map(({ nodeId, type, runs, failed, p50Ms, p95Ms }) => (
            <tr key={nodeId}>
              <td>
                {workflow ? (
                  <Link to="/workflows/$workflowId" params={{ workflowId: workflow }} search={{ node: nodeId }}>
                    {nodeId}
                  </Link>
                ) : (
                  nodeId
                )}{" "}
                <span className="faint">{type}</span>
              </td>
              <td className="number">{count(runs)}</td>
              <td className="number">{count(failed)}</td>
              <td className="number">{duration(p50Ms)}</td>
              <td className="number">{duration(p95Ms)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
