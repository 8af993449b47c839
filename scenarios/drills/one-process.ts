import { setTimeout as sleep } from "node:timers/promises";
import { killPostgres, type PolisChild } from "../support/polis-child.ts";
import { until } from "../support/until.ts";
import { compare } from "./check.ts";
import { type Drill, type Stage, underLoad } from "./drill.ts";
import type { Random } from "./random.ts";
import { countsOf, openShop } from "./shop.ts";
import { type EmbeddedSite, embeddedSite } from "./site.ts";

/*
 * One Polis on its embedded PostgreSQL. What breaks it is chosen by chance, and so is when: while it serves, or while it is
 * still coming up.
 */

/** The process that runs at the moment; it changes with each restart. */
type Stand = { readonly site: EmbeddedSite; child: PolisChild; url: string | undefined; readonly said: string[] };

/** Breaks something and says what; whatever it ended, it has started again. */
type Fault = (stand: Stand, random: Random) => Promise<string>;

const ANSWERS_TIMEOUT_MS = 60_000;

const killed: Fault = async (stand) => {
  stand.child.signal("SIGKILL");
  await restart(stand);
  return "SIGKILL";
};

const killedWithPostgres: Fault = async (stand, random) => {
  const first = random.chance(0.5);
  if (first) await killPostgres(stand.site.postgresFolder);
  stand.child.signal("SIGKILL");
  if (!first) await killPostgres(stand.site.postgresFolder);
  await restart(stand);
  return first ? "SIGKILL of PostgreSQL, then of Polis" : "SIGKILL of Polis, then of PostgreSQL";
};

const frozen: Fault = async (stand, random) => {
  const frozenMs = random.pick([300, 1_000, 3_000, 6_500]);
  stand.child.signal("SIGSTOP");
  await sleep(frozenMs);
  stand.child.signal("SIGCONT");
  return `SIGSTOP for ${frozenMs} ms`;
};

const toldToStop: Fault = async (stand) => {
  stand.child.signal("SIGTERM");
  const how = await stand.child.ended;
  if (how !== 0) throw new Error(`polis was told to stop and ended with ${how}`);
  await restart(stand);
  return "SIGTERM";
};

const killedWhileStarting: Fault = async (stand, random) => {
  const afterMs = random.between(20, 1_500);
  stand.child.signal("SIGKILL");
  await begin(stand);
  await sleep(afterMs);
  const withPostgres = random.chance(0.5);
  stand.child.signal("SIGKILL");
  if (withPostgres) await killPostgres(stand.site.postgresFolder);
  await restart(stand);
  return `SIGKILL, and again ${afterMs} ms into the next start${withPostgres ? ", with PostgreSQL" : ""}`;
};

const postgresKilled: Fault = async (stand, random) => {
  const times = random.pick([1, 1, 2]);
  for (let time = 0; time < times; time++) {
    if (time > 0) await sleep(random.between(0, 1_500));
    await killPostgres(stand.site.postgresFolder);
  }
  return `SIGKILL of PostgreSQL${times > 1 ? `, ${times} times` : ""}`;
};

/** SIGKILL of Polis, in some rounds of its PostgreSQL as well, SIGSTOP, SIGTERM; at random moments under load. */
export const kill: Drill = {
  name: "kill",
  text: "one Polis killed, frozen or told to stop under load; in some rounds its PostgreSQL is killed with it",
  openStage: () => openStage([killed, killed, killed, killedWithPostgres, killedWithPostgres, frozen, toldToStop, killedWhileStarting]),
};

/** SIGKILL of PostgreSQL alone, with Polis alive. */
export const postgres: Drill = {
  name: "postgres",
  text: "PostgreSQL killed under load, once or twice; Polis stays alive and brings it back",
  openStage: () => openStage([postgresKilled]),
};

async function openStage(faults: readonly Fault[]): Promise<Stage> {
  const site = await embeddedSite();
  const stand: Stand = { site, child: site.start(), url: undefined, said: [] };
  stand.url = (await stand.child.ready).http;
  const shop = openShop(await site.identities());
  return {
    folder: site.folder,
    counts: () => countsOf(shop),
    async round(random) {
      const { broken, backMs } = await underLoad(
        shop,
        () => (stand.url === undefined ? [] : [stand.url]),
        random,
        async () => {
          const afterMs = random.between(50, 1_200);
          await sleep(afterMs);
          const startedMs = performance.now();
          const broken = `${await random.pick(faults)(stand, random)} after ${afterMs} ms`;
          await untilReady(stand);
          const backMs = performance.now() - startedMs;
          await sleep(random.between(50, 400));
          return { broken, backMs };
        },
      );
      return { broken, backMs, findings: await compare(shop, site.books, { ...(await stand.child.ready), secret: await site.secret() }) };
    },
    said: () => [...stand.said.slice(-2), stand.child.said()].join("\n--- the next process ---\n"),
    close: (options) => site.close(options),
  };
}

async function begin(stand: Stand): Promise<void> {
  stand.url = undefined;
  await stand.child.ended;
  stand.said.push(stand.child.said());
  stand.child = stand.site.start();
}

async function restart(stand: Stand): Promise<void> {
  await begin(stand);
  stand.url = (await stand.child.ready).http;
}

const untilReady = (stand: Stand): Promise<unknown> =>
  until("an answer of /readyz", async () => (await fetch(`${stand.url}/readyz`, { signal: AbortSignal.timeout(3_000) })).ok, {
    withinMs: ANSWERS_TIMEOUT_MS,
  });
