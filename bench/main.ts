import { fork } from "node:child_process";
import { loadavg } from "node:os";
import { createInterface } from "node:readline";
import { missingEngines, skippedFor } from "#platform/engines.testing.ts";
import { parseCommandLine, runScript, UsageError } from "../cli/command.ts";
import type { Bench, Figure } from "./bench.ts";
import { cachedRead } from "./cached-read.ts";
import { callInProcess } from "./call-in-process.ts";
import { grpcUnary } from "./grpc-unary.ts";
import { httpInsert } from "./http-insert.ts";
import { kafka } from "./kafka.ts";
import { kv } from "./kv.ts";
import { kvRedis } from "./kv-redis.ts";
import { millionOrders } from "./million-orders.ts";
import { orderAlone } from "./order-alone.ts";
import { ordersFinished } from "./orders-finished.ts";
import { ordersHttp } from "./orders-http.ts";
import { postings } from "./postings.ts";
import { signInStorm } from "./sign-in-storm.ts";
import { nodeOptions } from "./support/node-options.ts";
import { heading, tableRow } from "./support/table.ts";
import { tasks } from "./tasks.ts";
import { tasksRabbitmq } from "./tasks-rabbitmq.ts";

const benches: readonly Bench[] = [
  ordersFinished,
  ordersHttp,
  orderAlone,
  postings,
  httpInsert,
  signInStorm,
  callInProcess,
  cachedRead,
  grpcUnary,
  kafka,
  tasks,
  tasksRabbitmq,
  kv,
  kvRedis,
  millionOrders,
];

const SIGNALS = ["SIGINT", "SIGTERM"] as const;
const STOPPED = 130;
/** Of one minute, as `uptime` has it. */
const QUIET_LOAD = 0.5;

const usage = `npm run bench -- [name…] [--json] [--list]

Measures, one bench after the other; all of them unless named. --json prints a figure a line. The exit code tells
whether everything ran, not whether the goals are met.

${benches.map(({ name, text }) => `  ${name.padEnd(18)}${text}`).join("\n")}`;

async function main(): Promise<number> {
  const { values, positionals } = parseCommandLine({
    args: process.argv.slice(2),
    allowPositionals: true,
    options: {
      json: { type: "boolean", default: false },
      list: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help || values.list) {
    console.log(usage);
    return 0;
  }
  for (const name of positionals) if (!benches.some((bench) => bench.name === name)) throw new UsageError(`there is no bench '${name}'`);
  const named = benches.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
  const chosen = named.filter(({ needs = [] }) => missingEngines(needs).length === 0);
  for (const { name, needs = [] } of named.filter((bench) => !chosen.includes(bench)))
    console.error(skippedFor(name, missingEngines(needs), `npm run bench -- ${name}`));
  const print = values.json ? (figure: Figure) => console.log(JSON.stringify(figure)) : (figure: Figure) => console.log(tableRow(figure));
  if (!values.json) console.log(heading);
  const [load = 0] = loadavg();
  if (load > QUIET_LOAD && process.send === undefined)
    console.error(`The machine is at work already (load ${load.toFixed(1)}): these figures are worth little.`);
  const [only] = chosen;
  if (chosen.length === 1 && only !== undefined) return runHere(only, print);
  let worst = 0;
  for (const bench of chosen) {
    const code = await runInChild(bench, print);
    worst = Math.max(worst, code);
    if (code === STOPPED) break;
  }
  return worst;
}

/** What it started is ended whatever happens, also when it is told to stop. */
async function runHere(bench: Bench, report: (figure: Figure) => void): Promise<number> {
  const parts = new AsyncDisposableStack();
  let ending: Promise<void> | undefined;
  const end = (): Promise<void> => {
    ending ??= parts.disposeAsync();
    return ending;
  };
  for (const signal of ["SIGINT", "SIGTERM", "disconnect"] as const)
    process.on(signal, () => void end().finally(() => process.exit(STOPPED)));
  try {
    await bench.run({ parts, report });
    return 0;
  } finally {
    await end();
  }
}

/** Each in a process of its own: what one has heated or littered, another doesn't meet. */
function runInChild(bench: Bench, report: (figure: Figure) => void): Promise<number> {
  const child = fork(import.meta.filename, [bench.name, "--json"], {
    stdio: ["ignore", "pipe", "inherit", "ipc"],
    execArgv: [...process.execArgv, ...nodeOptions],
  });
  if (child.stdout !== null) createInterface({ input: child.stdout }).on("line", (line) => report(JSON.parse(line)));
  const handOn = (): void => void child.kill("SIGTERM");
  for (const signal of SIGNALS) process.on(signal, handOn);
  return new Promise((resolve) => {
    child.once("close", (code) => {
      for (const signal of SIGNALS) process.off(signal, handOn);
      resolve(code ?? 1);
    });
  });
}

process.exitCode = await runScript(usage, main);
// A channel to whoever started this process, or a pool's idle socket, must not keep it.
process.exit();
