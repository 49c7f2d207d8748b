/** A chart over time: stacked bars or lines, as plain SVG. The same figures are in a table for screen readers. */
import type { ReactNode } from "react";
import { linePath, stacked, ticks } from "./scale";

export interface Series {
  readonly title: string;
  /** The name of the token that gives the colour. */
  readonly token: string;
  readonly values: readonly (number | null)[];
  readonly dashed?: boolean;
}

interface ChartProps {
  readonly title: string;
  readonly labels: readonly string[];
  readonly series: readonly Series[];
  readonly kind: "bars" | "lines";
  readonly format: (value: number) => string;
}

const WIDTH = 560;
const HEIGHT = 170;
const LEFT = 62;
const BOTTOM = 20;
const TOP = 6;

export function Chart({ title, labels, series, kind, format }: ChartProps) {
  const count = labels.length;
  const totals = labels.map((_, index) => {
    const values = series.map(({ values: all }) => all[index] ?? 0);
    return kind === "bars" ? values.reduce((sum, value) => sum + value, 0) : Math.max(...values);
  });
  const marks = ticks(Math.max(0, ...totals));
  const top = marks.at(-1)!;
  const slot = (WIDTH - LEFT) / Math.max(count, 1);
  const x = (index: number) => LEFT + (index + 0.5) * slot;
  const y = (value: number) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
  return (
    <figure className="chart">
      <figcaption>
        <strong>{title}</strong>
        {series.length > 1 && series.map((one) => <Key key={one.title} series={one} />)}
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true">
        {marks.map((mark) => (
          <g key={mark} className="chart-mark">
            <line x1={LEFT} x2={WIDTH} y1={y(mark)} y2={y(mark)} />
            <text x={LEFT - 6} y={y(mark) + 4} textAnchor="end">
              {format(mark)}
            </text>
          </g>
        ))}
        {labels.map((label, index) => (
          <g key={label}>
            {kind === "bars" && <Bars index={index} series={series} x={x(index) - slot * 0.38} width={slot * 0.76} y={y} />}
            <rect className="chart-slot" x={LEFT + index * slot} y={TOP} width={slot} height={HEIGHT - TOP - BOTTOM}>
              <title>{`${label}\n${series.map((one) => `${one.title}: ${shown(one.values[index], format)}`).join("\n")}`}</title>
            </rect>
            {isLabelled(index, count) && (
              <text className="chart-label" x={x(index)} y={HEIGHT - 4} textAnchor="middle">
                {label}
              </text>
            )}
          </g>
        ))}
        {kind === "lines" && series.map((one) => <path key={one.title} className="chart-line" d={linePath(one.values, x, y)} style={{ stroke: `var(${one.token})` }} strokeDasharray={one.dashed ? "5 4" : undefined} />)}
      </svg>
      <Table title={title} labels={labels} series={series} format={format} />
    </figure>
  );
}

function isLabelled(index: number, count: number): boolean {
  return index % Math.ceil(count / 7) === 0;
}

function shown(value: number | null | undefined, format: (value: number) => string): string {
  return value === null || value === undefined ? "none" : format(value);
}

function Key({ series: { title, token, dashed } }: { series: Series }) {
  return (
    <span className="chart-key">
      <svg viewBox="0 0 16 8" aria-hidden="true">
        <line x1="0" x2="16" y1="4" y2="4" style={{ stroke: `var(${token})` }} strokeWidth="4" strokeDasharray={dashed ? "4 3" : undefined} />
      </svg>
      {title}
    </span>
  );
}

function Bars({ index, series, x, width, y }: { index: number; series: readonly Series[]; x: number; width: number; y: (value: number) => number }) {
  const bars = stacked(series.map(({ values }) => values[index] ?? 0));
  return (
    <>
      {bars.map(({ from, to }, place) =>
        to > from ? <rect key={series[place]!.title} x={x} width={width} y={y(to)} height={y(from) - y(to)} style={{ fill: `var(${series[place]!.token})` }} /> : null,
      )}
    </>
  );
}

function Table({ title, labels, series, format }: Omit<ChartProps, "kind">): ReactNode {
  return (
    <table className="visually-hidden">
      <caption>{title}</caption>
      <thead>
        <tr>
          <th scope="col">Time</th>
          {series.map((one) => (
            <th key={one.title} scope="col">
              {one.title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {labels.map((label, index) => (
          <tr key={label}>
            <th scope="row">{label}</th>
            {series.map((one) => (
              <td key={one.title}>{shown(one.values[index], format)}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
