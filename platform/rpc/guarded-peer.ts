import { setTimeout as sleep } from "node:timers/promises";
import type { DescMethod } from "@bufbuild/protobuf";
import { methodOptions } from "#platform/contract/method-options.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { Circuit, type Entry, type Refusal } from "#platform/rpc/circuit.ts";
import type { Call, Transport } from "#platform/rpc/transport.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

const RETRY_PAUSE_MS = 50;
/** A call with less time than this that has no answer tells of its caller's haste. */
const FAIR_TIME_MS = 1_000;

const refusals: Record<Refusal["why"], string> = {
  away: "The service can't be reached.",
  busy: "The service has too much to do; try again later.",
};

/**
 * The way to a peer that is spared what is in vain: while it is away, or has more under way than it can answer, calls fail at once
 * and say when to come again. What didn't reach it is sent again where that is safe: by the contract's idempotency, which for a
 * KEYED method needs the key.
 */
export function guardedPeer(
  transport: Transport,
  { name, metrics, log }: { readonly name: string; readonly metrics: Metrics; readonly log: Log },
): Transport {
  const open = metrics
    .gauge("polis_peer_away", "1 while calls to a peer aren't even tried, as it hasn't answered", ["peer"])
    .labels({ peer: name });
  const refused = metrics.counter("polis_peer_refused_total", "Calls to a peer that weren't tried", ["peer", "why"]);
  const retried = metrics.counter("polis_peer_retries_total", "Calls to a peer that were sent again", ["peer"]).labels({ peer: name });
  for (const why of Object.keys(refusals)) refused.inc({ peer: name, why }, 0);
  const circuit = new Circuit((isOpen) => {
    if (isOpen) log.warn({ peer: name }, "a peer doesn't answer; calls to it fail at once until it does");
    else log.info({ peer: name }, "a peer answers again");
  });

  metrics.measureWhenRead(() => open.set(circuit.isRefusing ? 1 : 0));

  /** Who is refused hasn't been sent, so that it can wait a moment for a peer that is only changing. */
  const letIn = async (enter: () => Entry | Refusal, { deadlineMs }: Call): Promise<Entry> => {
    for (;;) {
      const entered = enter();
      if (!("why" in entered)) return entered;
      const { why, retryAfterMs } = entered;
      if (why === "busy" || !circuit.isWorthWaiting || Date.now() + retryAfterMs >= deadlineMs) {
        refused.inc({ peer: name, why });
        throw new CallError("UNAVAILABLE", "unavailable", refusals[why], { retryAfterMs });
      }
      await sleep(retryAfterMs * (0.5 + Math.random()));
    }
  };

  const failed = (error: unknown, entry: Entry): void => {
    if (isUnanswered(error, entry)) circuit.unanswered(entry);
    else if (isAnswer(error)) circuit.answered();
    else circuit.abandoned(entry);
  };

  async function answer<T>(entry: Entry, send: () => Promise<T>): Promise<T> {
    try {
      const answer = await send();
      circuit.answered();
      return answer;
    } catch (error) {
      failed(error, entry);
      throw withPeer(error, name);
    }
  }

  async function once<T>(call: Call, send: () => Promise<T>): Promise<T> {
    const entry = await letIn(() => circuit.enter(), call);
    try {
      return await answer(entry, send);
    } finally {
      circuit.leave();
    }
  }

  /** A stream tells how its peer is by its first answer, or by its end. */
  async function* stream<T>(call: Call, start: () => AsyncIterable<T>): AsyncGenerator<T, void> {
    const entry = await letIn(() => circuit.enterStream(), call);
    let isTold = false;
    try {
      for await (const item of start()) {
        if (!isTold) circuit.answered();
        isTold = true;
        yield item;
      }
      if (!isTold) circuit.answered();
    } catch (error) {
      if (!isTold) failed(error, entry);
      throw withPeer(error, name);
    }
  }

  return {
    async unary(method, request, call) {
      for (let tries = 1; ; tries++) {
        try {
          return await once(call, () => transport.unary(method, request, call));
        } catch (error) {
          if (!isLost(error) || !isRepeatable(method, call) || !circuit.isWorthWaiting || !circuit.takeRetry()) throw error;
          retried.inc();
          await sleep(RETRY_PAUSE_MS * tries * (0.5 + Math.random()));
        }
      }
    },
    clientStreaming: async (method, requests, call) => {
      const entry = await letIn(() => circuit.enterStream(), call);
      return answer(entry, () => transport.clientStreaming(method, requests, call));
    },
    serverStreaming: (method, request, call) => stream(call, () => transport.serverStreaming(method, request, call)),
    bidiStreaming: (method, requests, call) => stream(call, () => transport.bidiStreaming(method, requests, call)),
  };
}

/** It never got there, or its answer never came back. A peer that says so of its own peers is there, and says it without a cause. */
const isLost = (error: unknown): boolean => error instanceof CallError && error.status === "UNAVAILABLE" && error.cause !== undefined;

/** What its log says of a lost call: which peer, and the setting that leads there. */
function withPeer(error: unknown, name: string): unknown {
  if (!isLost(error)) return error;
  const { status, code, message, cause } = error as CallError;
  const said = new Error(`${name} isn't reached; ${name.toUpperCase()}_URL says where it is`, { cause });
  return new CallError(status, code, message, { cause: said });
}

const isUnanswered = (error: unknown, { atMs }: Entry): boolean =>
  isLost(error) || (error instanceof CallError && error.status === "DEADLINE_EXCEEDED" && performance.now() - atMs >= FAIR_TIME_MS);

/** What else fails, failed here. */
const isAnswer = (error: unknown): boolean =>
  error instanceof CallError && error.status !== "CANCELLED" && error.status !== "DEADLINE_EXCEEDED";

function isRepeatable(method: DescMethod, { idempotencyKey }: Call): boolean {
  const { idempotency } = methodOptions(method);
  return idempotency === "KEYED" ? idempotencyKey !== undefined : idempotency !== "NONE";
}
