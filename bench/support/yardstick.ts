import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { Client } from "pg";
import type { Round } from "./rounds.ts";
import { type BenchServer, connect } from "./server.ts";

/** TPC-B on the same server, whose transactions a second are what Polis is measured in. */
export type Yardstick = {
  readonly name: string;
  /** The best of 8 and 32 clients, each for `secondsEach`. */
  run(secondsEach: number): Promise<Round>;
};

const DATABASE = "yardstick";
const SCALE = 10;
const CLIENTS = [8, 32];
const ACCOUNTS_A_BRANCH = 100_000;
const TELLERS_A_BRANCH = 10;

const execute = promisify(execFile);

/** pgbench where it is installed; else a driver of ours, which says so in its name. */
export async function openYardstick(server: BenchServer, parts: AsyncDisposableStack): Promise<Yardstick> {
  const admin = await connect(server, "postgres", parts);
  await admin.query(`CREATE DATABASE ${DATABASE}`);
  const drive = (await hasPgbench()) ? await pgbench(server) : await ownDriver(server, parts);
  const run = async (secondsEach: number): Promise<Round> => {
    const rounds: Round[] = [];
    for (const clients of CLIENTS) {
      const usedUs = server.cpuUs();
      const { perSecond, transactions } = await drive.run(clients, secondsEach);
      const nowUs = server.cpuUs();
      rounds.push({
        value: perSecond,
        ...(usedUs === undefined || nowUs === undefined ? {} : { postgresUs: (nowUs - usedUs) / transactions }),
      });
    }
    return rounds.reduce((best, round) => (round.value > best.value ? round : best));
  };
  return { name: drive.name, run };
}

type Driver = { readonly name: string; run(clients: number, seconds: number): Promise<{ perSecond: number; transactions: number }> };

async function hasPgbench(): Promise<boolean> {
  try {
    await execute("pgbench", ["--version"]);
    return true;
  } catch {
    return false;
  }
}

async function pgbench(server: BenchServer): Promise<Driver> {
  const { host, port, user, password } = server.connection(DATABASE);
  const env = { ...process.env, PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: String(password) };
  await execute("pgbench", ["-i", "-s", String(SCALE), "-q", DATABASE], { env });
  return {
    name: "pgbench TPC-B",
    async run(clients, seconds) {
      const { stdout } = await execute("pgbench", ["-c", String(clients), "-j", "2", "-T", String(seconds), "-M", "prepared", DATABASE], {
        env,
      });
      return { perSecond: numberAfter(stdout, /tps = ([\d.]+)/), transactions: numberAfter(stdout, /actually processed: (\d+)/) };
    },
  };
}

function numberAfter(text: string, pattern: RegExp): number {
  const found = pattern.exec(text)?.[1];
  if (found === undefined) throw new Error(`pgbench said something else than expected:\n${text}`);
  return Number(found);
}

/** The same tables and the same statements as pgbench's own, by `pg`: slower than pgbench, for Node is at work as well. */
async function ownDriver(server: BenchServer, parts: AsyncDisposableStack): Promise<Driver> {
  const admin = await connect(server, DATABASE, parts);
  await admin.query(`
    CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88)) WITH (fillfactor = 100);
    CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84)) WITH (fillfactor = 100);
    CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84)) WITH (fillfactor = 100);
    CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
    INSERT INTO pgbench_branches SELECT n, 0, '' FROM generate_series(1, ${SCALE}) n;
    INSERT INTO pgbench_tellers SELECT n, (n - 1) / ${TELLERS_A_BRANCH} + 1, 0, '' FROM generate_series(1, ${SCALE * TELLERS_A_BRANCH}) n;
    INSERT INTO pgbench_accounts SELECT n, (n - 1) / ${ACCOUNTS_A_BRANCH} + 1, 0, '' FROM generate_series(1, ${SCALE * ACCOUNTS_A_BRANCH}) n;
  `);
  await admin.query("VACUUM ANALYZE");
  return {
    name: "TPC-B by our own driver",
    async run(clients, seconds) {
      const connections = await Promise.all(
        Array.from({ length: clients }, async () => {
          const client = new Client(server.connection(DATABASE));
          await client.connect();
          return client;
        }),
      );
      const startedMs = performance.now();
      const counts = await Promise.all(connections.map((client) => transactionsUntil(client, startedMs + seconds * 1000)));
      const elapsedS = (performance.now() - startedMs) / 1000;
      await Promise.all(connections.map((client) => client.end()));
      const transactions = counts.reduce((sum, count) => sum + count, 0);
      return { perSecond: transactions / elapsedS, transactions };
    },
  };
}

async function transactionsUntil(client: Client, endMs: number): Promise<number> {
  const upTo = (max: number): number => 1 + Math.floor(Math.random() * max);
  let done = 0;
  for (; performance.now() < endMs; done++) {
    const delta = upTo(10_001) - 5_001;
    const [aid, tid, bid] = [upTo(SCALE * ACCOUNTS_A_BRANCH), upTo(SCALE * TELLERS_A_BRANCH), upTo(SCALE)];
    await client.query("BEGIN");
    await client.query({
      name: "account",
      text: "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2",
      values: [delta, aid],
    });
    await client.query({ name: "balance", text: "SELECT abalance FROM pgbench_accounts WHERE aid = $1", values: [aid] });
    await client.query({
      name: "teller",
      text: "UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2",
      values: [delta, tid],
    });
    await client.query({
      name: "branch",
      text: "UPDATE pgbench_branches SET bbalance = bbalance + $1 WHERE bid = $2",
      values: [delta, bid],
    });
    await client.query({
      name: "history",
      text: "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP)",
      values: [tid, bid, aid, delta],
    });
    await client.query("END");
  }
  return done;
}
