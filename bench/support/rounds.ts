import { type Figure, figure, type Goal } from "../bench.ts";

/** What one round found. */
export type Round = {
  /** Operations a second, or what else the figure counts. */
  readonly value: number;
  /** CPU an operation, in µs: of Node and of the server of PostgreSQL. */
  readonly nodeUs?: number | undefined;
  readonly postgresUs?: number | undefined;
};

/**
 * Runs all sides in turn, A B A B …, so that what else happens on the machine meets them alike. One turn before the first is
 * a warm-up and isn't counted. `tidy` runs before each side.
 */
export async function alternate<S extends string>(
  sides: { readonly [K in S]: () => Promise<Round> },
  rounds: number,
  tidy: () => Promise<void> = async () => undefined,
): Promise<{ readonly [K in S]: Round[] }> {
  const names = Object.keys(sides) as S[];
  const found = Object.fromEntries(names.map((name) => [name, []])) as unknown as { [K in S]: Round[] };
  for (let round = -1; round < rounds; round++)
    for (const name of names) {
      await tidy();
      const result = await sides[name]();
      if (round >= 0) found[name].push(result);
    }
  return found;
}

/** The middle value; of an even number, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return ((sorted[Math.floor(middle)] ?? Number.NaN) + (sorted[Math.ceil(middle)] ?? Number.NaN)) / 2;
}

/** The figure of rounds that alternated with those `beside` them. */
export function ratioFigure(parts: {
  name: string;
  unit: string;
  rounds: readonly Round[];
  beside: { name: string; rounds: readonly Round[] };
  goal?: Goal;
  note?: string;
}): Figure {
  const { rounds, beside, note, goal, ...rest } = parts;
  const ratios = rounds.map(({ value }, i) => value / (beside.rounds[i]?.value ?? Number.NaN));
  const cpu = [cpuText("", rounds), cpuText(`${beside.name}: `, beside.rounds)];
  return figure({
    ...rest,
    value: median(rounds.map(({ value }) => value)),
    beside: { name: beside.name, value: median(beside.rounds.map(({ value }) => value)) },
    ratio: median(ratios),
    medianOf: rounds.length,
    note: [note, ...cpu].filter((text) => text !== undefined).join("; "),
    ...(goal === undefined ? {} : { goal }),
  });
}

function cpuText(whose: string, rounds: readonly Round[]): string | undefined {
  const of = (label: string, values: (number | undefined)[]): string[] =>
    values.some((value) => value === undefined) ? [] : [`${label} ${median(values as number[]).toFixed(0)}`];
  const both = [
    ...of(
      "Node",
      rounds.map(({ nodeUs }) => nodeUs),
    ),
    ...of(
      "PostgreSQL",
      rounds.map(({ postgresUs }) => postgresUs),
    ),
  ];
  return both.length === 0 ? undefined : `${whose}CPU µs an operation: ${both.join(", ")}`;
}
