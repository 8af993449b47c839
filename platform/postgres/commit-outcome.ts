import { setTimeout as sleep } from "node:timers/promises";
import type { Sql } from "#platform/postgres/database.ts";
import { isConnectionLost, OutcomeUnknown, sqlState } from "#platform/postgres/errors.ts";
import type { TransactionMark } from "#platform/postgres/transaction.ts";

/** How long a server that went away at COMMIT is waited for. */
const ASK_TIMEOUT_MS = 30_000;
const PAUSE_MIN_MS = 20;
const PAUSE_MAX_MS = 500;

type Query = Sql["query"];
type Answer = { readonly status: "committed" | "aborted" | "in progress" | null; readonly epoch: string };

const MESSAGE = "the connection was lost at COMMIT, and what became of the transaction can't be found out";

/**
 * Finds out whether a transaction was committed whose connection was lost at COMMIT.
 *
 * pg_xact_status alone isn't enough: a transaction whose records hadn't reached the disk when the server crashed leaves no trace,
 * and its id is given to another, which may well be committed by now. So "committed" is believed of a server that hasn't crashed
 * since. Where ids were given anew can't be told later: the checkpoint at the end of a recovery says it, but the next crash or
 * restart writes another one, past whoever got our id.
 * @throws OutcomeUnknown when the server can't be asked within 30 s, or can't tell, as after a crash.
 */
export async function wasCommitted({ xid, epoch }: TransactionMark, query: Query): Promise<boolean> {
  const endsAtMs = performance.now() + ASK_TIMEOUT_MS;
  for (let pauseMs = PAUSE_MIN_MS; performance.now() < endsAtMs; pauseMs = Math.min(pauseMs * 2, PAUSE_MAX_MS)) {
    try {
      const answer = await ask(xid, query);
      if (answer.status === null) break;
      if (answer.status === "aborted") return false;
      if (answer.status === "committed") {
        if (answer.epoch === epoch) return true;
        throw new OutcomeUnknown(MESSAGE);
      }
    } catch (error) {
      // "in the future": the server crashed before any of it reached the disk, and has not given the id to another yet.
      if (sqlState(error) === "22023") return false;
      if (!isConnectionLost(error)) throw error instanceof OutcomeUnknown ? error : new OutcomeUnknown(MESSAGE, { cause: error });
    }
    await sleep(pauseMs);
  }
  throw new OutcomeUnknown(MESSAGE);
}

async function ask(xid: string, query: Query): Promise<Answer> {
  const { rows } = await query<Answer>({
    text: "SELECT pg_xact_status($1::xid8) AS status, pg_stat_get_bgwriter_stat_reset_time()::text AS epoch",
    values: [xid],
  });
  const [answer] = rows;
  if (answer === undefined) throw new OutcomeUnknown(MESSAGE);
  return { status: answer.status, epoch: answer.epoch ?? "" };
}
