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
type Checkpoint = { readonly next: string; readonly at_rest: boolean };

const MESSAGE = "the connection was lost at COMMIT, and what became of the transaction can't be found out";

/**
 * Finds out whether a transaction was committed whose connection was lost at COMMIT.
 *
 * pg_xact_status alone isn't enough: a transaction whose records hadn't reached the disk when the server crashed leaves no trace,
 * and its id is given to another, which may well be committed by now. After a crash an id is ours only if it lies below the
 * next id at the end of recovery, which the checkpoint made there tells, as long as no later one has replaced it (a checkpoint
 * at the end of recovery redoes from itself, one in running from before).
 * @throws OutcomeUnknown when the server can't be asked within 30 s, or can't tell.
 */
export async function wasCommitted({ xid, epoch }: TransactionMark, query: Query): Promise<boolean> {
  const endsAtMs = performance.now() + ASK_TIMEOUT_MS;
  for (let pauseMs = PAUSE_MIN_MS; performance.now() < endsAtMs; pauseMs = Math.min(pauseMs * 2, PAUSE_MAX_MS)) {
    try {
      const answer = await ask(xid, query);
      if (answer.status === null) break;
      if (answer.status === "aborted") return false;
      if (answer.status === "committed") return answer.epoch === epoch || (await isOlderThanRecovery(xid, query));
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

async function isOlderThanRecovery(xid: string, query: Query): Promise<boolean> {
  const { rows } = await query<Checkpoint>({
    text: "SELECT replace(next_xid, ':', '/') AS next, redo_lsn = checkpoint_lsn AS at_rest FROM pg_control_checkpoint()",
  });
  const [checkpoint] = rows;
  if (checkpoint === undefined || !checkpoint.at_rest) throw new OutcomeUnknown(MESSAGE);
  const [epoch, low] = checkpoint.next.split("/");
  return BigInt(xid) < (BigInt(epoch ?? 0) << 32n) + BigInt(low ?? 0);
}
