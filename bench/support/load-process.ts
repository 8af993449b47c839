// The load of HTTP, in a process of its own: so many connections, each with one request on its way.
import { randomUUID } from "node:crypto";
import { type Dispatcher, Pool } from "undici";
import { keepCalling } from "./calling.ts";
import { answerJobs } from "./child.ts";
import { anyOf } from "./customers.ts";

export type LoadJob = {
  readonly origin: string;
  readonly path: string;
  /** Whose requests they are, by what each sends as `Authorization`: each request is any of theirs. */
  readonly customers: readonly string[];
  readonly body: object;
  readonly connections: number;
  readonly until: { readonly count: number } | { readonly ms: number };
};

/** `startedMs` and `endedMs` are of the clock, since they are read in another process. */
export type LoadDone = { readonly count: number; readonly elapsedMs: number; readonly startedMs: number; readonly refused: number };

let pool: Pool | undefined;
let poolOf = "";

answerJobs<LoadJob, LoadDone>(
  async ({ origin, path, customers, body, connections, until }) => {
    const name = `${origin} ${connections}`;
    if (poolOf !== name) {
      await pool?.close();
      pool = new Pool(origin, { connections, pipelining: 1 });
      poolOf = name;
    }
    const text = JSON.stringify(body);
    let refused = 0;
    const startedMs = performance.timeOrigin + performance.now();
    const done = await keepCalling(connections, until, async () => {
      const headers = ["authorization", anyOf(customers), "idempotency-key", randomUUID(), "content-type", "application/json"];
      const status = await send(pool as Pool, { path, method: "POST", headers, body: text });
      if (status !== 201) refused += 1;
    });
    return { ...done, startedMs, refused };
  },
  async () => {
    await pool?.close();
  },
);

/** As little as a client can do: sends, reads the answer to its end, and looks at nothing but the status. */
const send = (to: Pool, request: Dispatcher.DispatchOptions): Promise<number> =>
  new Promise((resolve, reject) => {
    let status = 0;
    to.dispatch(request, {
      onRequestStart() {},
      onResponseStart(_controller, statusCode) {
        status = statusCode;
      },
      onResponseData() {},
      onResponseEnd() {
        resolve(status);
      },
      onResponseError(_controller, error) {
        reject(error);
      },
    });
  });
