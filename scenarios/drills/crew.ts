import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { urlOf } from "#platform/postgres/connection-url.testing.ts";
import { ensureDatabase } from "#platform/postgres/create-database.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "#platform/postgres/embedded.ts";
import { type MigrationSet, migrate } from "#platform/postgres/migrate.ts";
import { createLog } from "#platform/telemetry/create-log.ts";
import { release } from "../../cli/release.ts";
import { killPostgres, type PolisChild, startScript } from "../support/polis-child.ts";
import type { Random } from "./random.ts";

/** Processes of one script, beside each other on one database. */
export type Crew = {
  readonly folder: string;
  readonly postgres: EmbeddedPostgres;
  /** What each of them is given, and DATABASE_URL. */
  readonly environment: Readonly<Record<string, string>>;
  /** Those that run at the moment: one that was ended has another in its place. */
  readonly children: PolisChild[];
  start(): PolisChild;
  /** What those said that have ended. */
  readonly past: string[];
  said(): string;
  close(options: { readonly keep: boolean }): Promise<void>;
};

/** Breaks something, repairs it, and says what it was. */
export type Fault<Place extends Crew = Crew> = (place: Place, random: Random) => Promise<string>;

const PROCESSES = 3;
/** Longer than a worker's lease, and shorter. */
const FROZEN_MS = [300, 1_000, 5_000];
const STARTS_MAX = 10;
const STOPS_WITHIN_MS = 30_000;

/** @param script beside this file; says that it is ready as `startScript` wants it */
export async function openCrew(options: {
  readonly script: string;
  readonly database: string;
  readonly migrations: readonly MigrationSet[];
  readonly environment: Readonly<Record<string, string>>;
}): Promise<Crew> {
  const folder = await mkdtemp(join(tmpdir(), "polis-drill-"));
  const log = await createLog({ level: "fatal", format: "json" });
  const postgres = await startEmbeddedPostgres({ folder, log, settings: { max_connections: "200" } });
  await ensureDatabase(postgres.connection("postgres"), options.database);
  await migrate({ connection: postgres.connection(options.database), sets: options.migrations, release, log });
  const environment = { ...options.environment, DATABASE_URL: urlOf(postgres.connection(options.database)) };
  const children: PolisChild[] = [];
  const past: string[] = [];
  return {
    folder,
    postgres,
    environment,
    children,
    start: () => startScript([join(import.meta.dirname, options.script)], environment),
    past,
    said: () => [...past.slice(-3), ...children.map((child) => child.said())].join("\n--- another process ---\n"),
    async close({ keep }) {
      for (const child of children) {
        child.signal("SIGKILL");
        await child.ended;
      }
      await postgres.stop();
      if (!keep) await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Starts all of them; resolves when they are ready. */
export async function startAll({ children, start }: Crew): Promise<void> {
  children.push(...Array.from({ length: PROCESSES }, start));
  await Promise.all(children.map(({ ready }) => ready));
}

/** Starts another in the place of one that ends, as a supervisor would: a process doesn't start while PostgreSQL is coming back. */
export async function startAgain(crew: Crew, i: number): Promise<void> {
  await crew.children[i]?.ended;
  crew.past.push(crew.children[i]?.said() ?? "");
  for (let starts = 1; ; starts += 1) {
    const child = crew.start();
    crew.children[i] = child;
    const failure = await child.ready.then(
      () => undefined,
      (error: unknown) => error,
    );
    if (failure === undefined) return;
    if (starts === STARTS_MAX) throw failure;
    await sleep(200);
  }
}

export const killed: Fault = async (crew, random) => {
  const count = random.between(1, PROCESSES + 1);
  const victims = crew.children.slice(0, count);
  for (const victim of victims) victim.signal("SIGKILL");
  await sleep(random.between(0, 2_500));
  for (const i of victims.keys()) await startAgain(crew, i);
  return `SIGKILL of ${count} of ${PROCESSES}`;
};

/** @param before what is to be done before it goes on */
export const frozenUntil =
  <Place extends Crew>(before: (place: Place) => void): Fault<Place> =>
  async (place, random) => {
    const [victim] = place.children;
    const frozenMs = random.pick(FROZEN_MS);
    victim?.signal("SIGSTOP");
    await sleep(frozenMs);
    before(place);
    victim?.signal("SIGCONT");
    return `SIGSTOP of one for ${frozenMs} ms`;
  };

export const frozen: Fault = frozenUntil(() => undefined);

export const toldToStop: Fault = async (crew) => {
  const [victim] = crew.children as [PolisChild];
  victim.signal("SIGTERM");
  const how = await Promise.race([victim.ended, sleep(STOPS_WITHIN_MS, "nothing yet", { ref: false })]);
  if (how !== 0) throw new Error(`a process was told to stop and ended with ${how}`);
  await startAgain(crew, 0);
  return "SIGTERM of one";
};

export const postgresKilled: Fault = async ({ postgres }) => {
  await killPostgres(postgres.dataFolder);
  return "SIGKILL of PostgreSQL";
};

export const both =
  <Place extends Crew>(one: Fault<Place>, other: Fault<Place>): Fault<Place> =>
  async (place, random) =>
    (await Promise.all([one(place, random), other(place, random)])).join(", and ");
