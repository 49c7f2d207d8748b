/** Charts: marks are round, bars stand on each other, and lines have gaps where there were no runs. */
import { expect, test } from "vitest";
import { PERIODS, periodOf, sinceOf } from "./period";
import { linePath, stacked, ticks } from "./scale";

test.each([
  [0, [0, 1]],
  [1, [0, 0.5, 1]],
  [7, [0, 2, 4, 6, 8]],
  [100, [0, 50, 100]],
  [0.003, [0, 0.001, 0.002, 0.003]],
  [1234, [0, 500, 1000, 1500]],
])("the marks up to %d are %o", (max, marks) => expect(ticks(max)).toEqual(marks));

test("marks always reach the value, and there are at most six of them", () => {
  for (let max = 0.0007; max < 1e9; max *= 1.37) {
    const marks = ticks(max);
    expect(marks.at(-1)).toBeGreaterThanOrEqual(max * (1 - 1e-9));
    expect(marks.length).toBeLessThanOrEqual(6);
  }
});

test("bars stand on each other", () => expect(stacked([3, 0, 2])).toEqual([{ from: 0, to: 3 }, { from: 3, to: 3 }, { from: 3, to: 5 }]));

test("a line has gaps, and a single value is seen", () => {
  const path = linePath([1, 2, null, 3, null], (index) => index, (value) => value);
  expect(path).toBe("M0 1L1 2M3 3h0.01");
});

test("a period begins at a full hour, and an unknown one is the usual one", () => {
  const now = Date.UTC(2026, 0, 2, 10, 59);
  expect(sinceOf(PERIODS[0]!, now)).toBe("2026-01-01T10:00:00.000Z");
  expect(periodOf("no such").name).toBe("7d");
});
