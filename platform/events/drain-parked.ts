import type { ApplyOutcome, GuardStatement } from "#platform/events/apply.ts";
import { isReady, type Ready } from "#platform/events/apply-events.ts";
import { type ConsumerGroup, type Entry, makeEntry, type PartitionWork } from "#platform/events/consumer-group.ts";
import { isTransientFailure } from "#platform/events/failure-book.ts";
import { parkedAfter } from "#platform/events/park-events.ts";
import { prepareEvents } from "#platform/events/prepare-events.ts";
import { fenceGuard } from "#platform/inbox/fence.ts";
import { handledIds, inboxId, insertHandled } from "#platform/inbox/inbox.ts";
import {
  deleteParkedRows,
  dueHeads,
  headState,
  keysWithRows,
  lockParkedRows,
  type ParkedHead,
  postponeParked,
  promoteFirst,
  updateParked,
} from "#platform/inbox/parking.ts";
import type { Statement } from "#platform/postgres/database.ts";
import { causeOf } from "#platform/rpc/cause-of.ts";

export type Drained = {
  /** Something left or changed: look again at once. */
  readonly progressed: boolean;
  /** Something will be tried again soon. */
  readonly retrying: boolean;
};

/**
 * Tries the first parked event of each key whose time has come, a bounded number: one step, between which fresh events are
 * handled. One that succeeds leaves; what waits behind it is then the first. A key without rows is free again; one whose rows
 * somebody has dropped is so after its next event, which is parked and then tried at once.
 */
export async function drainParked(group: ConsumerGroup, work: PartitionWork): Promise<Drained> {
  if (work.parked.size === 0) return { progressed: false, retrying: false };
  if (work.aside !== undefined) {
    const state = await headState(group.database, work.fence, work.aside);
    // Drained, or found to be poison: the next one may be taken aside.
    if (state === undefined || state === "dead") work.aside = undefined;
  }
  const { due, retrying } = await dueHeads(group.database, work.fence);
  if (due.length === 0) return { progressed: false, retrying };
  await tryHeads(group, work, due);
  const keys = due.map((head) => head.key);
  const left = await keysWithRows(group.database, work.fence, keys);
  for (const key of keys) if (!left.has(key)) work.parked.delete(key);
  return { progressed: true, retrying };
}

class DroppedMeanwhile extends Error {
  override readonly name = "DroppedMeanwhile";
}

async function tryHeads(group: ConsumerGroup, work: PartitionWork, due: readonly ParkedHead[]): Promise<void> {
  const known = await handledIds(
    group.database,
    group.id,
    due.map((head) => inboxId(head.record)),
  );
  const rows = new Map<Entry, ParkedHead>();
  const updates: Statement[] = [];
  const gone = due.filter((head) => known.has(inboxId(head.record))).map((head) => head.id);
  for (const head of due) {
    const handler = group.handlers.get(head.record.type);
    if (known.has(inboxId(head.record))) continue;
    if (handler !== undefined) rows.set(makeEntry(head.record, handler), head);
    else
      updates.push(
        updateParked(head.id, { state: "dead", tries: head.tries, afterMs: 0, cause: "this consumer no longer names the type" }),
      );
  }
  const prepared = await prepareEvents(group, [...rows.keys()]);
  for (const one of prepared) {
    const { id, tries } = rows.get(one.entry) as ParkedHead;
    if (one.kind === "fault") updates.push(updateParked(id, parkedAfter(group, tries + 1, one.error)));
    else if (one.kind === "transient" && one.verdict === "poison")
      updates.push(updateParked(id, { state: "dead", tries, afterMs: 0, cause: causeOf(one.error) }));
    else if (one.kind === "transient") updates.push(postponeParked(id, group.failures.notBeforeMs(one.entry.inboxId) - group.clock()));
  }
  const keys = due.map((head) => head.key);
  await applyHeads(group, work, { ready: prepared.filter(isReady), rows, updates, gone, keys });
}

type Heads = {
  readonly ready: readonly Ready[];
  readonly rows: ReadonlyMap<Entry, ParkedHead>;
  readonly updates: readonly Statement[];
  readonly gone: readonly bigint[];
  /** Those of all that was due. */
  readonly keys: readonly string[];
};

async function applyHeads(group: ConsumerGroup, work: PartitionWork, { ready, rows, updates, gone, keys }: Heads): Promise<void> {
  const rowOf = (one: Ready): ParkedHead => rows.get(one.entry) as ParkedHead;
  const lock: GuardStatement = {
    ...lockParkedRows(ready.map((one) => rowOf(one).id)),
    check({ rowCount }) {
      if (rowCount !== ready.length) throw new DroppedMeanwhile("a parked event was dropped");
    },
  };
  const last = (outcomes: readonly ApplyOutcome[]): Statement[] => {
    const applied = ready.filter((_, i) => outcomes[i]?.kind === "applied");
    const failed = ready.flatMap((one, i) => {
      const outcome = outcomes[i];
      if (outcome?.kind !== "failed") return [];
      if (isTransientFailure(outcome.error)) return [postponeParked(rowOf(one).id, group.timings.longestPauseMs)];
      return [updateParked(rowOf(one).id, parkedAfter(group, rowOf(one).tries + 1, outcome.error))];
    });
    const done = [...gone, ...applied.map((one) => rowOf(one).id)];
    return [
      insertHandled(
        group.id,
        applied.map((one) => one.entry.inboxId),
      ),
      deleteParkedRows(done),
      ...updates,
      ...failed,
      promoteFirst(work.fence, keys),
    ];
  };
  try {
    const outcomes = await group.apply(
      ready.map((one) => one.item),
      { first: [fenceGuard(work.fence), lock], last },
    );
    for (const outcome of outcomes) group.handled.inc({ group: group.name, outcome: outcome.kind });
  } catch (error) {
    if (!(error instanceof DroppedMeanwhile)) throw error;
  }
}
