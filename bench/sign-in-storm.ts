import { strict as assert } from "node:assert";
import { request } from "undici";
import { type Bench, figure } from "./bench.ts";
import { authorizations, openHttpAccounts } from "./support/http-customers.ts";
import { spawnPolis } from "./support/polis.ts";
import { quantile } from "./support/repeat.ts";
import { median } from "./support/rounds.ts";
import { startServer } from "./support/server.ts";

const ROUNDS = 3;
/** An address may try three hundred times an hour. */
const ROUND_MS = 2_000;
/** So many sign in at once, again and again; more than are hashed at once. */
const STORM = 8;
const PASSWORD = "seven purple otters dance";

export const signInStorm: Bench = {
  name: "sign-in-storm",
  text: "other requests while many sign in: passwords are hashed beside the event loop",
  async run({ parts, report }) {
    const server = await startServer(parts);
    const unlimited = { LIMIT_PER_ADDRESS: "off", LIMIT_PER_CALLER: "off" };
    const polis = await spawnPolis(server, parts, undefined, unlimited);
    const [customer = ""] = await authorizations(server, parts, 1);
    await openHttpAccounts(polis.url, [customer]);
    const rounds: { readonly alone: number; readonly storm: number; readonly signIns: number }[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const alone = await p99OfReads(polis.url, customer);
      const stopping = new AbortController();
      const storm = startStorm(polis.url, stopping.signal);
      const beside = await p99OfReads(polis.url, customer);
      stopping.abort();
      rounds.push({ alone, storm: beside, signIns: (await storm) / (ROUND_MS / 1_000) });
    }
    const [alone, storm] = [median(rounds.map((one) => one.alone)), median(rounds.map((one) => one.storm))];
    report(
      figure({
        name: "GET /accounts p99 in a storm of sign-ins, to p99 alone",
        value: storm / alone,
        unit: "×",
        medianOf: ROUNDS,
        note: `${storm.toFixed(1)} to ${alone.toFixed(1)} ms; ${median(rounds.map((one) => one.signIns)).toFixed(0)} tries to sign in a second, of whom each is nobody we know`,
        goal: { of: "value", atMost: 2 },
      }),
    );
  },
};

/** Milliseconds. One reader, without a pause. */
async function p99OfReads(origin: string, authorization: string): Promise<number> {
  const times: number[] = [];
  const untilMs = performance.now() + ROUND_MS;
  while (performance.now() < untilMs) {
    const startedMs = performance.now();
    const { statusCode, body } = await request(`${origin}/accounts`, { headers: { authorization } });
    await body.dump();
    assert.equal(statusCode, 200);
    times.push(performance.now() - startedMs);
  }
  return quantile(times, 0.99);
}

/** Each at an account of its own, and from nowhere: what bounds them is how fast passwords are hashed. Gives how many there were. */
async function startStorm(origin: string, signal: AbortSignal): Promise<number> {
  let count = 0;
  const one = async (): Promise<void> => {
    while (!signal.aborted) {
      const email = `${crypto.randomUUID()}@example.com`;
      const headers = { "content-type": "application/json" };
      const { statusCode, body } = await request(`${origin}/auth/sign-in`, {
        method: "POST",
        headers,
        body: JSON.stringify({ email, password: PASSWORD }),
      });
      await body.dump();
      if (statusCode === 401) count += 1;
    }
  };
  await Promise.all(Array.from({ length: STORM }, one));
  return count;
}
