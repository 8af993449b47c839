import type { EngineName } from "#platform/engines.testing.ts";

/** One measured figure: a line of the table, and with `--json` a line of JSON. */
export type Figure = {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What was measured beside it, in the same run and the same unit. */
  readonly beside: { readonly name: string; readonly value: number } | null;
  /** The median of `value / beside` of each pair of rounds. */
  readonly ratio: number | null;
  /** `ratio ≥ 1.5`, `value ≤ 8` */
  readonly goal: string | null;
  readonly met: boolean | null;
  /** Of how many rounds, or single operations, the value is the median. */
  readonly medianOf: number;
  /** CPU an operation, and what else helps to read the figure. */
  readonly note: string;
};

export type Goal =
  | { readonly of: "ratio" | "value"; readonly atLeast: number }
  | { readonly of: "ratio" | "value"; readonly atMost: number };

export type BenchContext = {
  /** What a bench starts is left here: it is ended after the bench, or when the bench is told to stop. */
  readonly parts: AsyncDisposableStack;
  readonly report: (figure: Figure) => void;
};

export type Bench = {
  readonly name: string;
  /** What it measures beside what, in one line. */
  readonly text: string;
  /** Without these it isn't run. */
  readonly needs?: readonly EngineName[];
  readonly run: (context: BenchContext) => Promise<void>;
};

/** A figure with what follows from its parts. */
export function figure(
  parts: Pick<Figure, "name" | "value" | "unit" | "medianOf"> & Partial<Pick<Figure, "beside" | "ratio" | "note">> & { goal?: Goal },
): Figure {
  const { name, value, unit, medianOf, beside = null, ratio = null, note = "", goal } = parts;
  const judged = goal?.of === "ratio" ? ratio : value;
  return {
    name,
    value,
    unit,
    beside,
    ratio,
    goal: goal === undefined ? null : goalText(goal),
    met: goal === undefined || judged === null ? null : isMet(goal, judged),
    medianOf,
    note,
  };
}

const isMet = (goal: Goal, judged: number): boolean => ("atLeast" in goal ? judged >= goal.atLeast : judged <= goal.atMost);

const goalText = (goal: Goal): string => `${goal.of} ${"atLeast" in goal ? `≥ ${goal.atLeast}` : `≤ ${goal.atMost}`}`;
