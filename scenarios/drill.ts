// `npm run drill -- [name…] [--rounds N] [--seed S] [--list]`: Polis under load and faults, and what was lost or doubled by it.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { missingEngines, skippedFor } from "#platform/engines.testing.ts";
import { parseCommandLine, runScript, UsageError } from "../cli/command.ts";
import { apart, away } from "./drills/apart.ts";
import { COUNTED } from "./drills/counts.ts";
import type { Drill, Stage } from "./drills/drill.ts";
import { engines } from "./drills/engines.ts";
import { kv } from "./drills/kv.ts";
import { kill, postgres } from "./drills/one-process.ts";
import { randomOf } from "./drills/random.ts";
import { replicas } from "./drills/replicas.ts";
import { tasks, tasksOverRabbit } from "./drills/tasks.ts";
import { two } from "./drills/two-processes.ts";

const drills: readonly Drill[] = [kill, postgres, two, apart, engines, replicas, tasks, tasksOverRabbit, kv, away];

/** So many rounds share a data folder: what one leaves, the next must live with. */
const ROUNDS_A_STAGE = 12;
const FINDINGS_SHOWN = 20;

type Tally = {
  readonly name: string;
  rounds: number;
  readonly counts: Record<(typeof COUNTED)[number], number>;
  lost: number;
  doubled: number;
  wrong: number;
  backMsMax: number;
};

const say = (line: string): void => void process.stdout.write(`${line}\n`);

const usage = `npm run drill -- [name…] [--rounds N] [--seed S] [--list]

Breaks Polis under load, one drill after the other, and compares what is left with what its customers remember; all
unless named. The exit code tells whether something was lost or doubled.

  --rounds N        rounds of each drill, 10 unless said
  --seed S          what chooses the faults; a new one unless said

${drills.map(({ name, text }) => `  ${name.padEnd(18)}${text}`).join("\n")}`;

type Plan = { readonly rounds: number; readonly seed: number };

async function main(): Promise<number> {
  const { values, positionals } = parseCommandLine({
    args: process.argv.slice(2),
    allowPositionals: true,
    options: {
      rounds: { type: "string", default: "10" },
      seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 31)) },
      list: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help || values.list) {
    say(usage);
    return 0;
  }
  for (const name of positionals) if (!drills.some((drill) => drill.name === name)) throw new UsageError(`there is no drill '${name}'`);
  const [rounds, seed] = [Number(values.rounds), Number(values.seed)];
  if (!Number.isSafeInteger(rounds) || rounds < 1) throw new UsageError("--rounds must be a number, 1 at the least");
  if (!Number.isSafeInteger(seed)) throw new UsageError("--seed must be a number");
  const chosen = drills.filter(({ name, onlyByName }) => (positionals.length === 0 ? onlyByName !== true : positionals.includes(name)));
  const able = chosen.filter(({ needs = [] }) => missingEngines(needs).length === 0);
  for (const { name, needs = [] } of chosen.filter((drill) => !able.includes(drill)))
    say(skippedFor(name, missingEngines(needs), `npm run drill -- ${name}`));
  const tallies: Tally[] = [];
  for (const drill of able) tallies.push(await run(drill, { rounds, seed }));
  return tallies.length === 0 ? 2 : report(tallies, seed);
}

/** Stops at the first round that finds something: its place stays as it is, to be looked at. */
async function run(drill: Drill, { rounds, seed }: Plan): Promise<Tally> {
  const counts = Object.fromEntries(COUNTED.map((column) => [column, 0])) as Tally["counts"];
  const tally = { name: drill.name, rounds: 0, counts, lost: 0, doubled: 0, wrong: 0, backMsMax: 0 };
  say(`${drill.name}: ${rounds} rounds, seed ${seed}`);
  while (tally.rounds < rounds) {
    const stage = await drill.openStage();
    let bad = false;
    try {
      do bad = !(await oneRound(stage, tally, { rounds, seed }));
      while (!bad && tally.rounds < rounds && tally.rounds % ROUNDS_A_STAGE !== 0);
    } catch (error) {
      bad = true;
      tally.wrong++;
      say(`  round ${tally.rounds}: ${error instanceof Error ? (error.stack ?? error.message) : error}${cause(error)}`);
    }
    const done = stage.counts();
    for (const column of COUNTED) tally.counts[column] += done[column] ?? 0;
    if (bad) await writeFile(join(stage.folder, "polis.log"), stage.said());
    await stage.close({ keep: bad });
    if (bad) {
      say(`  kept: ${stage.folder}, with what Polis said last in polis.log`);
      say(`  again: npm run drill -- ${drill.name} --seed ${seed} --rounds ${tally.rounds}`);
      break;
    }
  }
  return tally;
}

const cause = (error: unknown): string => (error instanceof Error && error.cause !== undefined ? `\n  because: ${error.cause}` : "");

/** True where nothing was found. A round's choices come from the seed and its number; the machine's timing doesn't. */
async function oneRound(stage: Stage, tally: Tally, { rounds, seed }: Plan): Promise<boolean> {
  tally.rounds++;
  const startedMs = performance.now();
  const { broken, backMs, findings } = await stage.round(randomOf(seed + tally.rounds));
  tally.lost += findings.lost.length;
  tally.doubled += findings.doubled.length;
  tally.wrong += findings.wrong.length;
  tally.backMsMax = Math.max(tally.backMsMax, backMs);
  const durationMs = performance.now() - startedMs;
  say(
    `  ${tally.rounds}/${rounds} ${broken}: back in ${(backMs / 1000).toFixed(1)} s, all checked after ${(durationMs / 1000).toFixed(1)} s`,
  );
  for (const kind of ["lost", "doubled", "wrong"] as const)
    for (const line of findings[kind].slice(0, FINDINGS_SHOWN)) say(`    ${kind}: ${line}`);
  return findings.lost.length + findings.doubled.length + findings.wrong.length === 0;
}

/** Returns the exit code. */
function report(tallies: readonly Tally[], seed: number): number {
  const heads = ["drill", "rounds", ...COUNTED, "back at most", "lost", "doubled", "wrong"];
  const lines = tallies.map((tally) =>
    [
      tally.name,
      tally.rounds,
      ...COUNTED.map((column) => tally.counts[column]),
      `${(tally.backMsMax / 1000).toFixed(1)} s`,
      tally.lost,
      tally.doubled,
      tally.wrong,
    ].map(String),
  );
  const widths = heads.map((head, column) => Math.max(head.length, ...lines.map((line) => (line[column] ?? "").length)));
  say("");
  for (const line of [heads, ...lines]) say(line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  "));
  const bad = tallies.some(({ lost, doubled, wrong }) => lost + doubled + wrong > 0);
  say(bad ? `\nFAILED, seed ${seed}` : "\nnothing lost, nothing doubled");
  return bad ? 1 : 0;
}

process.exitCode = await runScript(usage, main);
