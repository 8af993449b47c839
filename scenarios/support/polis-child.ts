import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { isRunning } from "#platform/postgres/is-running.ts";

const ours = join(import.meta.dirname, "..", "..");
const LINES_KEPT = 300;
const ERRORS_KEPT = 100;

/** A `polis start` of its own process, without its launcher, so that a signal reaches just it. */
export type PolisChild = {
  readonly pid: number;
  /** Its URLs, once it runs; rejects with what it said when it ends before. */
  readonly ready: Promise<{ readonly http: string; readonly grpc: string }>;
  /** Its exit code, or the signal that ended it. */
  readonly ended: Promise<number | string>;
  isRunning(): boolean;
  signal(signal: "SIGKILL" | "SIGSTOP" | "SIGCONT" | "SIGTERM"): void;
  /** What went wrong, first; then what it said last. */
  said(): string;
};

/** The load of a drill, and the questions of a test, come from one address. */
export const WITHOUT_LIMITS = { LIMIT_PER_ADDRESS: "off", LIMIT_PER_CALLER: "off" };

/** Starts it, from another checkout where `root` says so; `environment` is all that it gets. It ends by itself when this process does. */
export const startPolisChild = (args: readonly string[], environment: Readonly<Record<string, string>>, root = ours): PolisChild =>
  startScript([join(root, "cli", "main.ts"), "start", "--no-demo", "--port", "0", "--grpc-port", "0", ...args], {
    ...WITHOUT_LIMITS,
    ...environment,
  });

/** Starts a script that says `"msg":"ready"` as `polis start` does. */
export function startScript(args: readonly string[], environment: Readonly<Record<string, string>>): PolisChild {
  const { PATH = "", HOME = "" } = process.env;
  const child: ChildProcess = spawn(process.execPath, args, {
    env: { PATH, HOME, NODE_COMPILE_CACHE: join(ours, "node_modules", ".cache", "compile"), ...environment },
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  });
  const lines: string[] = [];
  const errors: string[] = [];
  const { promise: ready, resolve, reject } = Promise.withResolvers<{ http: string; grpc: string }>();
  const keep = (line: string): void => {
    lines.push(line);
    if (lines.length > LINES_KEPT) lines.shift();
    if (/"level":"(error|fatal)"|^[^{]/.test(line) && errors.length < ERRORS_KEPT) errors.push(line);
  };
  for (const stream of [child.stdout, child.stderr]) {
    if (stream === null) continue;
    createInterface(stream).on("line", (line) => {
      keep(line);
      if (line.includes('"msg":"ready"')) resolve(JSON.parse(line));
    });
  }
  const ended = once(child, "close").then(([code, signal]: unknown[]) => (code ?? signal) as number | string);
  ended.then((how) => reject(new Error(`polis ended with ${how} before it was ready:\n${lines.slice(-20).join("\n")}`)), reject);
  ready.catch(() => undefined);
  return {
    pid: child.pid as number,
    ready,
    ended,
    isRunning: () => child.exitCode === null && child.signalCode === null,
    signal: (signal) => void child.kill(signal),
    said: () => [...errors, "", ...lines].join("\n"),
  };
}

/** The process of the PostgreSQL whose data folder this is; undefined where none runs. */
export async function postmasterPid(dataFolder: string): Promise<number | undefined> {
  const text = await readFile(join(dataFolder, "postmaster.pid"), "utf8").catch(() => "");
  const pid = Number.parseInt(text, 10);
  return Number.isNaN(pid) || !isRunning(pid) ? undefined : pid;
}

/** Ends a PostgreSQL as a crash would: what was handed to the kernel is kept, what stood in its memory is not. */
export async function killPostgres(dataFolder: string): Promise<boolean> {
  const pid = await postmasterPid(dataFolder);
  return pid !== undefined && signalled(pid, "SIGKILL");
}

/** Signals a process; false where there is none any more. */
export function signalled(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw error;
  }
}
