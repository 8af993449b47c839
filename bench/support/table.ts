import type { Figure } from "../bench.ts";

const columns = { name: 54, value: 22, beside: 42, ratio: 9, goal: 14, met: 6 };

export const heading = row({ name: "figure", value: "value", beside: "beside", ratio: "ratio", goal: "goal", met: "met" });

/** A figure as a line of the table, and below it what helps to read it. */
export function tableRow({ name, value, unit, beside, ratio, goal, met, medianOf, note }: Figure): string {
  const line = row({
    name,
    value: `${rounded(value)} ${unit}`,
    beside: beside === null ? "" : `${rounded(beside.value)} ${beside.name}`,
    ratio: ratio === null ? "" : `${ratio.toFixed(2)} ×`,
    goal: goal ?? "",
    met: met === null ? "" : met ? "yes" : "no",
  });
  return `${line}\n    median of ${medianOf}${note === "" ? "" : `; ${note}`}`;
}

function row(cells: { readonly [C in keyof typeof columns]: string }): string {
  const padded = Object.entries(columns).map(([column, width]) => cells[column as keyof typeof columns].padEnd(width));
  return padded.join(" ").trimEnd();
}

const rounded = (value: number): string => (value >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(3));
