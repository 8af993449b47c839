import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { readSettings } from "#platform/config/settings.ts";
import { settingsTableOf } from "#platform/process/own-settings.ts";
import { type RunningProcess, startProcess } from "#platform/process/start-process.ts";
import type { ServiceDefinition } from "#platform/service.ts";
import { release } from "../../cli/release.ts";
import { orderPayments } from "../../systems/order-payments.ts";
import { processCpuUs } from "./cpu.ts";
import { benchLog } from "./log.ts";
import { nodeOptions } from "./node-options.ts";
import type { BenchServer } from "./server.ts";

const READY_TIMEOUT_MS = 30_000;

/** Polis in this process, to be called without HTTP: all services of order payments, or those given. `parts` stops it. */
export async function startPolis(
  server: Pick<BenchServer, "url" | "folder">,
  parts: AsyncDisposableStack,
  services: readonly ServiceDefinition[] = orderPayments.services,
  environment: Readonly<Record<string, string>> = {},
): Promise<RunningProcess> {
  const table = settingsTableOf(orderPayments.services, orderPayments.edges);
  const polis = await startProcess({
    services,
    edge: undefined,
    system: { title: "bench", services },
    settings: readSettings({ POSTGRES_URL: server.url, POLIS_DATA: server.folder, PORT: "0", MAILBOX_PORT: "0", ...environment }, table),
    environment: {},
    release,
    log: benchLog(),
    onLost(error) {
      throw error;
    },
  });
  parts.defer(() => polis.stop());
  return polis;
}

/** Polis in a process of its own, as `npm start` runs it. */
export type SpawnedPolis = { readonly url: string; cpuUs(): number | undefined };

/** The load comes from one address: it is counted as everybody's is, and not refused. */
const FAR_LIMITS = { LIMIT_PER_ADDRESS: "999999999/60s", LIMIT_PER_CALLER: "999999999/60s" };

/** Starts it with all services, or with those named, under more settings; `parts` stops it. */
export async function spawnPolis(
  server: BenchServer,
  parts: AsyncDisposableStack,
  services?: string,
  environment: Readonly<Record<string, string>> = {},
): Promise<SpawnedPolis> {
  const main = join(import.meta.dirname, "..", "..", "cli", "main.ts");
  // Settings of engines are for those benches alone that ask for them.
  const plain = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(POSTGRES|KAFKA|SCHEMA_REGISTRY)_/.test(name)));
  const args = [
    "start",
    "--no-demo",
    "--port",
    "0",
    ...(services === undefined ? ["--system", "order-payments"] : ["--services", services]),
  ];
  const child: ChildProcess = spawn(process.execPath, [...nodeOptions, main, ...args], {
    // The channel tells it when this process is gone.
    stdio: ["ignore", "pipe", "inherit", "ipc"],
    env: {
      ...plain,
      POSTGRES_URL: server.url,
      POLIS_DATA: server.folder,
      LOG_FORMAT: "json",
      LOG_LEVEL: "info",
      MAILBOX_PORT: "0",
      ...FAR_LIMITS,
      ...environment,
    },
  });
  parts.defer(() => ended(child, "SIGTERM"));
  const url = await new Promise<string>((resolve, reject) => {
    const late = setTimeout(() => reject(new Error("Polis isn't ready in time")), READY_TIMEOUT_MS);
    child.once("exit", (code) => reject(new Error(`Polis ended with ${code} before it was ready`)));
    createInterface({ input: child.stdout as Readable }).on("line", (text) => {
      const line = JSON.parse(text) as { msg?: string; http?: string; level?: string };
      if (line.level !== "info") console.error(text);
      if (line.msg !== "ready") return;
      clearTimeout(late);
      resolve(line.http ?? "");
    });
  });
  return { url, cpuUs: () => processCpuUs(child.pid ?? 0) };
}

/** Ends a child and waits for it. */
export async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((resolve) => child.once("exit", resolve));
  child.kill(signal);
  await exit;
}
