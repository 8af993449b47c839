import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { chown, cp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { Client } from "pg";
import { afterAll, afterEach, describe, expect, test, vi } from "vitest";
import { findBinaries, prepareBinaries } from "#platform/postgres/binaries.ts";
import { wasCommitted } from "#platform/postgres/commit-outcome.ts";
import { testLog } from "#platform/postgres/database.testing.ts";
import { type EmbeddedPostgres, FolderTaken, startEmbeddedPostgres } from "#platform/postgres/embedded.ts";
import { isConnectionLost, OutcomeUnknown } from "#platform/postgres/errors.ts";
import { openDatabase } from "#platform/postgres/open-database.ts";
import { serverUser } from "#platform/postgres/server-user.ts";
import { Metrics } from "#platform/telemetry/metrics.ts";

const WAIT = { timeout: 15_000, interval: 20 };
const NOBODY = 65_534;
const isRoot = process.getuid?.() === 0;
const root = mkdtempSync(join(tmpdir(), "polis-embedded-"));
chmodSync(root, 0o755);
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** For tests that need no folder of their own. */
const shared = join(root, "shared");

const running: EmbeddedPostgres[] = [];
afterEach(async () => {
  for (const postgres of running.splice(0)) await postgres.stop();
});
const start = async (folder: string, onLost?: (error: Error) => void): Promise<EmbeddedPostgres> => {
  const postgres = await startEmbeddedPostgres({ folder, log: testLog, durable: false, ...(onLost === undefined ? {} : { onLost }) });
  running.push(postgres);
  return postgres;
};
const ask = async (postgres: EmbeddedPostgres, sql: string): Promise<unknown> => {
  const client = new Client(postgres.connection("postgres"));
  client.on("error", () => undefined);
  await client.connect();
  try {
    return (await client.query(sql)).rows[0]?.v;
  } finally {
    await client.end();
  }
};
const postmaster = (postgres: EmbeddedPostgres): number =>
  Number.parseInt(readFileSync(join(postgres.dataFolder, "postmaster.pid"), "utf8"), 10);
const open = (postgres: EmbeddedPostgres) =>
  openDatabase({ connection: postgres.connection("postgres"), name: "test", log: testLog, metrics: new Metrics() });

/** Another Polis: a process that starts the server on `folder`, says so, and stays. */
async function otherPolis(folder: string, as?: { uid: number; gid: number }): Promise<ChildProcess> {
  const script = `
    import { startEmbeddedPostgres } from ${JSON.stringify(import.meta.resolve("#platform/postgres/embedded.ts"))};
    const log = { error() {}, info() {}, warn() {} };
    const postgres = await startEmbeddedPostgres({ folder: ${JSON.stringify(folder)}, log, durable: false });
    process.once("SIGTERM", () => postgres.stop().then(() => process.exit(0)));
    console.log("ready");
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "pipe"], ...as });
  let output = "";
  child.stdout.on("data", (chunk) => (output += chunk));
  child.stderr.on("data", (chunk) => (output += chunk));
  await vi.waitFor(() => {
    if (child.exitCode !== null) throw new Error(output);
    expect(output).toContain("ready");
  }, WAIT);
  return child;
}
const gone = (child: ChildProcess): Promise<unknown> =>
  child.exitCode === null && child.signalCode === null ? new Promise((done) => child.once("exit", done)) : Promise.resolve();

test("a server starts on an empty folder, keeps its data, and starts again faster", async () => {
  const folder = join(root, "first");
  const first = await start(folder);
  await ask(first, "CREATE TABLE kept AS SELECT 42 AS v");
  expect(await ask(first, "SELECT current_setting('data_checksums') AS v")).toBe("on");
  expect(
    await ask(
      first,
      "SELECT datcollate || ' ' || datlocale || ' ' || pg_encoding_to_char(encoding) AS v FROM pg_database WHERE datname = 'postgres'",
    ),
  ).toBe("C C.UTF-8 UTF8");
  await first.stop();
  expect(existsSync(join(first.dataFolder, "postmaster.pid"))).toBe(false);
  const startedAtMs = performance.now();
  const second = await start(folder);
  expect(performance.now() - startedAtMs).toBeLessThan(3_000);
  expect(await ask(second, "SELECT v FROM kept")).toBe(42);
});

test("nobody else can read its password or reach its socket, and no TCP port is open", async () => {
  const postgres = await start(shared);
  expect(statSync(join(postgres.dataFolder, "polis-password")).mode & 0o777).toBe(0o600);
  const { host } = postgres.connection("postgres");
  expect(statSync(host ?? "").mode & 0o777).toBe(0o700);
  expect(await ask(postgres, "SELECT current_setting('listen_addresses') AS v")).toBe("");
  const stranger = new Client({ ...postgres.connection("postgres"), password: "guess" });
  await expect(stranger.connect()).rejects.toThrow("password");
});

test("by default it keeps what it promised, whatever happens", async () => {
  const postgres = await startEmbeddedPostgres({ folder: shared, log: testLog });
  running.push(postgres);
  expect(
    await ask(
      postgres,
      "SELECT string_agg(setting, ' ') AS v FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')",
    ),
  ).toBe("on on on");
});

test("a second Polis on the folder is told so, and the first goes on", async () => {
  const first = await start(shared);
  await expect(startEmbeddedPostgres({ folder: shared, log: testLog, durable: false })).rejects.toThrow(
    `Another Polis (polis ${process.pid}) runs on ${shared}`,
  );
  expect(await ask(first, "SELECT 1 AS v")).toBe(1);
});

test("of two that start at once on an empty folder one gets it", async () => {
  const folder = join(root, "at-once");
  const both = await Promise.allSettled([start(folder), start(folder)]);
  expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
  expect(both.find((one) => one.status === "rejected")?.reason).toBeInstanceOf(FolderTaken);
});

test("a server whose Polis was killed goes on, and the next Polis takes it over", async () => {
  const killed = await otherPolis(shared);
  const pid = Number.parseInt(readFileSync(join(shared, "postgres", "postmaster.pid"), "utf8"), 10);
  killed.kill("SIGKILL");
  await gone(killed);
  const next = await start(shared);
  expect(postmaster(next)).toBe(pid);
});

test("a server that is killed is started again, and databases work on", async () => {
  const postgres = await start(shared);
  const database = await open(postgres);
  await database.query({ text: "CREATE TABLE t (id integer)" });
  const pid = postmaster(postgres);
  process.kill(pid, "SIGKILL");
  await vi.waitFor(async () => expect((await database.query({ text: "SELECT 1 AS v" })).rows).toEqual([{ v: 1 }]), WAIT);
  await vi.waitFor(() => expect(postmaster(postgres)).not.toBe(pid), WAIT);
  // Again, since the watch must go on.
  await vi.waitFor(
    async () => expect(await ask(postgres, "SELECT count(*)::int AS v FROM pg_locks WHERE locktype = 'advisory'")).toBe(1),
    WAIT,
  );
  process.kill(postmaster(postgres), "SIGKILL");
  await vi.waitFor(async () => expect((await database.query({ text: "SELECT 1 AS v" })).rows).toEqual([{ v: 1 }]), WAIT);
  await database.close();
});

describe.runIf(process.platform === "linux")("a lock file doesn't hinder the start", () => {
  /** A process whose child has ended and is not asked for; gives the child's number. */
  async function parentOfAZombie(program: string): Promise<{ readonly pid: number; end(): void }> {
    const parent = spawn("sh", ["-c", `${program} <&3 & echo $!; exec sleep 60`], {
      ...serverUser(),
      stdio: ["ignore", "pipe", "ignore", "pipe"],
    });
    const [line] = (await once(parent.stdout as Readable, "data")) as [Buffer];
    const pid = Number(String(line));
    // A shell would ask for its child, and sleep doesn't: the child ends once that is its parent.
    await vi.waitFor(() => expect(readFileSync(`/proc/${parent.pid}/comm`, "utf8")).toBe("sleep\n"), WAIT);
    (parent.stdio[3] as Writable).end();
    await vi.waitFor(() => expect(readFileSync(`/proc/${pid}/stat`, "utf8")).toContain(") Z "), WAIT);
    return { pid, end: () => void parent.kill() };
  }

  async function startBeside(pid: number): Promise<void> {
    const postgres = await start(shared);
    const lock = join(postgres.dataFolder, "postmaster.pid");
    const text = readFileSync(lock, "utf8");
    await postgres.stop();
    const user = serverUser();
    writeFileSync(lock, text.replace(/^\d+/, String(pid)));
    if (user !== undefined) await chown(lock, user.uid, user.gid);
    const again = await start(shared);
    expect(await ask(again, "SELECT 1 AS v")).toBe(1);
    await again.stop();
  }

  test("where it names a process that isn't a server", async () => {
    const sleeper = spawn("sleep", ["60"], { ...serverUser() });
    await startBeside(sleeper.pid as number);
    expect(sleeper.exitCode ?? sleeper.signalCode).toBeNull();
    sleeper.kill();
  });

  test("where it names a server that has ended, and whose parent doesn't ask for it", async () => {
    const program = join(root, "postgres");
    symlinkSync("/bin/cat", program);
    const { pid, end } = await parentOfAZombie(program);
    await startBeside(pid);
    end();
  });
});

test("a Polis whose server was taken over by another is told", async () => {
  const lost = vi.fn();
  const first = await start(shared, lost);
  // The keeper's session ends, and its lock goes to a session of the test, as it would to another Polis.
  const other = new Client({ ...first.connection("postgres"), application_name: "polis other" });
  await other.connect();
  const { rows } = await other.query(
    "SELECT pid, (classid::bigint << 32 | objid::bigint) AS key FROM pg_locks WHERE locktype = 'advisory'",
  );
  const waiting = other.query("SELECT pg_advisory_lock($1)", [rows[0].key]);
  const queued = "SELECT count(*)::int AS v FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
  await vi.waitFor(async () => expect(await ask(first, queued)).toBe(1), WAIT);
  expect(await ask(first, `SELECT pg_terminate_backend(${rows[0].pid}) AS v`)).toBe(true);
  await waiting;
  await vi.waitFor(() => expect(lost).toHaveBeenCalledWith(expect.any(FolderTaken)), WAIT);
  await other.end();
  running.splice(0);
  const next = await start(shared);
  expect(await ask(next, "SELECT 1 AS v")).toBe(1);
});

test("what never happened isn't told as committed, however often the server crashes and whoever got its id", async () => {
  const postgres = await start(shared);
  const database = await open(postgres);
  const mark = "SELECT pg_current_xact_id()::text AS xid, pg_stat_get_bgwriter_stat_reset_time()::text AS epoch";
  type Mark = { xid: string; epoch: string };
  const told = (of: Mark): Promise<unknown> => wasCommitted(of, database.query).catch((error: unknown) => error);
  /** Kills a session in the middle of a transaction, and with it the server's memory; returns what the transaction was. */
  const crash = async (): Promise<Mark> => {
    let unfinished: Mark | undefined;
    await expect(
      database.transaction(async (tx) => {
        unfinished = (await tx.query<Mark>({ text: mark })).rows[0];
        const { rows } = await tx.query({ text: "SELECT pg_backend_pid() AS pid" });
        process.kill(rows[0]?.pid, "SIGKILL");
        await tx.query({ text: "SELECT pg_sleep(10)" });
      }),
    ).rejects.toSatisfy(isConnectionLost);
    await vi.waitFor(async () => expect((await database.query({ text: "SELECT 1 AS v" })).rows).toEqual([{ v: 1 }]), WAIT);
    return unfinished as Mark;
  };
  await database.query({ text: "CREATE TABLE crashed (id integer)" });
  /** Commits a write and waits for the disk. */
  const write = (): Promise<Mark> =>
    database.transaction(async (tx) => {
      await tx.query({ text: "SET LOCAL synchronous_commit = on" });
      await tx.query({ text: "INSERT INTO crashed VALUES (1)" });
      return (await tx.query<Mark>({ text: mark })).rows[0] as Mark;
    });
  const committed = await write();
  expect(await told(committed)).toBe(true);
  const unfinished = await crash();
  expect(await told(unfinished)).toBe(false);
  // Others write, until one of them has its id.
  const reused = await vi.waitFor(async () => {
    const other = await write();
    expect(BigInt(other.xid)).toBeGreaterThanOrEqual(BigInt(unfinished.xid));
    return other;
  }, WAIT);
  expect(reused.epoch).not.toBe(unfinished.epoch);
  expect(await told(reused)).toBe(true);
  expect(await told(unfinished)).not.toBe(true);
  await crash();
  expect(await told(unfinished)).toBeInstanceOf(OutcomeUnknown);
  expect(await told(committed)).toBeInstanceOf(OutcomeUnknown);
  await database.close();
});

test("Ctrl-C in the terminal doesn't reach the server", async () => {
  const postgres = await start(shared);
  const stat = readFileSync(`/proc/${postmaster(postgres)}/stat`, "utf8");
  const group = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[2]);
  expect(group).toBe(postmaster(postgres));
});

test("a folder whose path is too long for a socket works as any other", async () => {
  const folder = join(root, "long-".repeat(25));
  const first = await start(folder);
  const host = first.connection("postgres").host ?? "";
  expect(host.length).toBeLessThan(90);
  await first.stop();
  const second = await start(folder);
  expect(await ask(second, "SELECT 1 AS v")).toBe(1);
  await second.stop();
  rmSync(host, { recursive: true });
});

test.runIf(isRoot)("root's folder that the server's user can't reach leads to one that it can", async () => {
  const hidden = mkdtempSync(join(root, "hidden-"));
  chmodSync(hidden, 0o700);
  const folder = join(hidden, "data");
  const first = await start(folder);
  const link = join(folder, "postgres");
  expect(lstatSync(link).isSymbolicLink()).toBe(true);
  expect(first.dataFolder).toMatch(/^\/var\/lib\/polis\//);
  await ask(first, "CREATE TABLE kept AS SELECT 7 AS v");
  await first.stop();
  const second = await start(folder);
  expect(await ask(second, "SELECT v FROM kept")).toBe(7);
  await second.stop();
  rmSync(dirname(second.dataFolder), { recursive: true });
  await expect(start(folder)).rejects.toThrow("moved or deleted");
});

test.runIf(isRoot)("root's folder that only itself bars the server's user is opened to walk through, and stays where it is", async () => {
  const folder = join(root, "barred");
  mkdirSync(folder, { mode: 0o700 });
  const postgres = await start(folder);
  expect(postgres.dataFolder).toBe(join(folder, "postgres"));
  expect(statSync(folder).mode & 0o777).toBe(0o711);
});

test.runIf(isRoot)("a plain user's server runs as that user", async () => {
  const folder = join(root, "plain");
  mkdirSync(folder, { mode: 0o700 });
  await chown(folder, NOBODY, NOBODY);
  const child = await otherPolis(folder, { uid: NOBODY, gid: NOBODY });
  const pid = Number.parseInt(readFileSync(join(folder, "postgres", "postmaster.pid"), "utf8"), 10);
  expect(statSync(`/proc/${pid}`).uid).toBe(NOBODY);
  child.kill("SIGTERM");
  await gone(child);
  expect(existsSync(`/proc/${pid}`)).toBe(false);
  // And root may take the folder over.
  expect(await ask(await start(folder), "SELECT 1 AS v")).toBe(1);
});

test("the package's links are made where they are missing, by several at once, and in a copy where the package can't be written", async () => {
  const user = serverUser();
  const { postgres } = await findBinaries(user, root);
  const native = join(root, "package", "native");
  await cp(dirname(dirname(postgres)), native, {
    recursive: true,
    verbatimSymlinks: true,
    filter: (source) => !lstatSync(source).isSymbolicLink(),
  });
  const links = JSON.parse(readFileSync(join(native, "pg-symlinks.json"), "utf8")) as { target: string }[];
  const missing = (of: string): string[] => links.map(({ target }) => join(dirname(of), target)).filter((path) => !existsSync(path));
  expect(missing(native)).toHaveLength(links.length);
  await Promise.all(Array.from({ length: 4 }, () => prepareBinaries(native, join(root, "unused"), user)));
  expect(missing(native)).toEqual([]);
  expect(existsSync(join(root, "unused"))).toBe(false);
  if (!isRoot) return;
  chmodSync(join(root, "package"), 0o700);
  const copies = await Promise.all([prepareBinaries(native, join(root, "copy"), user), prepareBinaries(native, join(root, "copy"), user)]);
  expect(copies.map((copy) => copy.postgres)).toEqual(Array(2).fill(join(root, "copy", "native", "bin", "postgres")));
  expect(missing(join(root, "copy", "native"))).toEqual([]);
  const version = spawn(copies[0]?.postgres ?? "", ["--version"], { ...user, cwd: "/" });
  expect(await new Promise((done) => version.once("exit", done))).toBe(0);
});
