/** Scales and shapes of a chart, without a library: bars that stand on each other, and lines with gaps. */

/** Return round marks from 0 to at least `max`: 1, 2 or 5 times a power of ten apart, at most five. */
export function ticks(max: number): number[] {
  if (!(max > 0)) return [0, 1];
  const rough = max / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough)!;
  const count = Math.ceil(max / step - 1e-9);
  return Array.from({ length: count + 1 }, (_, index) => Number((index * step).toPrecision(12)));
}

export interface Bar {
  readonly from: number;
  readonly to: number;
}

/** Return where each of the values stands when they are put on each other. */
export function stacked(values: readonly number[]): Bar[] {
  let top = 0;
  return values.map((value) => ({ from: top, to: (top += value) }));
}

/** Return the path of a line; null values are gaps. A point between two gaps is a short line. */
export function linePath(values: readonly (number | null)[], x: (index: number) => number, y: (value: number) => number): string {
  let isOpen = false;
  const parts = values.map((value, index) => {
    if (value === null) {
      isOpen = false;
      return "";
    }
    const point = `${round(x(index))} ${round(y(value))}`;
    const isAlone = !isOpen && (values[index + 1] ?? null) === null;
    const part = isOpen ? `L${point}` : `M${point}${isAlone ? "h0.01" : ""}`;
    isOpen = true;
    return part;
  });
  return parts.join("");
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
