import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, afterEach, expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
const folder = mkdtempSync(join(tmpdir(), "polis-start-"));
const children: ChildProcess[] = [];

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill("SIGTERM");
    await once(child, "exit");
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Line = { readonly msg: string; readonly [field: string]: unknown };

type Launcher = "none" | "bin/polis.js" | "npm";

/** A `polis …` on a data folder of this test: cli/main.ts without a launcher, bin/polis.js, or that in a shell as npm has it. */
function polis(args: readonly string[], launcher: Launcher = "none") {
  const { PATH = "" } = process.env;
  const script = join(root, ...(launcher === "none" ? ["cli", "main.ts"] : ["bin", "polis.js"]));
  const [name = "", ...flags] = args;
  const command = [process.execPath, script, name, "--data", folder, ...flags];
  const env = { PATH, NODE_COMPILE_CACHE: join(root, "node_modules", ".cache", "compile") };
  // With something left to do, so that the shell stays.
  const inShell = ["-c", '"$@"; exit $?', "sh", ...command];
  const [program = "", ...rest] = launcher === "npm" ? ["sh", ...inShell] : command;
  const child = spawn(program, rest, {
    env: launcher === "npm" ? { ...env, npm_lifecycle_event: "start" } : env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  const lines: Line[] = [];
  let errors = "";
  child.stderr.on("data", (chunk) => (errors += chunk));
  createInterface(child.stdout).on("line", (line) => lines.push(JSON.parse(line)));
  const ended = once(child, "exit").then(([code, signal]: unknown[]) => code ?? signal);
  const said = (msg: string) =>
    expect
      .poll(() => lines.find((line) => line.msg === msg) ?? (child.exitCode === null ? undefined : errors), { timeout: 15_000 })
      .toMatchObject({ msg });
  return { child, lines, ended, said, errors: () => errors };
}

const httpOf = (lines: readonly Line[]) => String(lines.find(({ msg }) => msg === "ready")?.http);

test("says what runs and where, answers, and ends after a drain when it is told to", async () => {
  const { child, lines, ended, said } = polis(["start", "--port", "0"], "bin/polis.js");
  await said("ready");
  expect(lines.find(({ msg }) => msg === "ready")).toMatchObject({
    services: expect.arrayContaining(["orders", "gateway"]),
  });
  expect((await fetch(`${httpOf(lines)}/readyz`)).status).toBe(200);
  child.kill("SIGTERM");
  expect(await ended).toBe(0);
  expect(lines.at(-1)?.msg).toBe("stopped");
});

test("ends quietly when it is told to while it starts", async () => {
  const fresh = join(folder, "fresh");
  const { child, lines, ended, said } = polis(["start", "--port", "0", "--data", fresh]);
  await said("migrated");
  child.kill("SIGTERM");
  expect(await ended).toBe(0);
  expect(lines.at(-1)?.msg).toBe("stopped");
  expect(lines.filter(({ level, msg }) => level !== "info" || msg === "ready")).toEqual([]);
});

test.each([
  ["--port", "PORT", ["--port"]],
  ["--grpc-port", "GRPC_PORT", ["--port", "0", "--grpc-port"]],
])("tells that the port of %s is taken, and how to choose another", async (flag, variable, args) => {
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  const { port } = taken.address() as AddressInfo;
  const { ended, errors } = polis(["start", ...args, String(port)]);
  expect(await ended).toBe(1);
  expect(errors()).toContain(`polis: port ${port} of 127.0.0.1 is taken; choose another by ${flag} or ${variable}\n`);
  taken.close();
});

// An address for documentation alone (RFC 5737), and a name whose label is too long for anybody's to be asked for it.
const longLabel = "a".repeat(64);
test.each([
  ["HTTP", "192.0.2.1", "192.0.2.1 is no address of this machine", []],
  ["gRPC", "192.0.2.1", "192.0.2.1 is no address of this machine", ["--grpc-port", "0"]],
  ["HTTP", longLabel, `the host ${longLabel} isn't known`, []],
  ["gRPC", longLabel, `the host ${longLabel} isn't known`, ["--grpc-port", "0"]],
])("tells that %s can't listen on the host %s, and how to choose another", async (_, host, why, args) => {
  const { ended, errors } = polis(["start", "--port", "0", "--host", host, ...args]);
  expect(await ended).toBe(1);
  expect(errors()).toContain(`polis: ${why}; choose another by --host or HOST\n`);
});

test("tells a second Polis on its data folder that it is the second", async () => {
  const first = polis(["start", "--port", "0"]);
  await first.said("ready");
  const second = polis(["start", "--port", "0"]);
  expect(await second.ended).toBe(1);
  expect(second.errors()).toMatch(/^polis: .*folder/);
});

test("tells that its port is taken, and leaves no server behind", async () => {
  const first = polis(["start", "--port", "0"]);
  await first.said("ready");
  const port = new URL(httpOf(first.lines)).port;
  first.child.kill("SIGINT");
  expect(await first.ended).toBe(0);
  const { createServer } = await import("node:http");
  const holder = createServer().listen(Number(port), "127.0.0.1");
  await once(holder, "listening");
  const second = polis(["start", "--port", port]);
  expect(await second.ended).toBe(1);
  expect(second.errors()).toMatch(/EADDRINUSE/);
  holder.close();
});

test("lists the groups of the log, and drops one once nobody runs it", async () => {
  const run = (...args: string[]) => {
    const { PATH = "" } = process.env;
    return spawnSync(process.execPath, [join(root, "cli", "main.ts"), "groups", ...args, "--data", folder], {
      encoding: "utf8",
      env: { PATH },
    });
  };
  const running = polis(["start", "--port", "0"]);
  await running.said("ready");
  const group = "orders.on-payment-settled";
  expect(run("list").stdout).toMatch(/^orders\.on-payment-settled +lag \d+ {2}members 1$/m);
  expect(run("drop", group)).toMatchObject({ status: 1, stderr: `polis: group ${group} is being run; stop it first\n` });
  running.child.kill("SIGTERM");
  expect(await running.ended).toBe(0);
  expect(run("list", "--json").stdout).toMatch(/^\{"group":"orders\.on-payment-settled","members":0,"lag":"\d+"\}$/m);
  expect(run("drop", group)).toMatchObject({ status: 0, stdout: `${group} dropped\n` });
  expect(run("list").stdout).not.toContain(group);
  expect(run("drop", group)).toMatchObject({
    status: 1,
    stderr: `polis: there is no group '${group}'; there are payments.on-order-created\n`,
  });
}, 60_000);

test("ends when its launcher is killed", async () => {
  const { child, lines, said } = polis(["start", "--port", "0"], "bin/polis.js");
  await said("ready");
  child.kill("SIGKILL");
  await expect.poll(() => lines.at(-1)?.msg, { timeout: 10_000 }).toBe("stopped");
});

test("ends when npm is ended, whose signals stay in its shell", async () => {
  const { child, lines, said } = polis(["start", "--port", "0"], "npm");
  await said("ready");
  child.kill("SIGTERM");
  await expect.poll(() => lines.at(-1)?.msg, { timeout: 10_000 }).toBe("stopped");
});

test("migrates without serving", async () => {
  const { lines, ended } = polis(["migrate"]);
  expect(await ended).toBe(0);
  expect(lines.filter(({ msg }) => msg === "migrated").map(({ database }) => database)).toEqual(
    expect.arrayContaining(["polis_events", "polis_orders", "polis_accounts", "polis_payments"]),
  );
});
