import type { ApplyOutcome, GuardStatement } from "#platform/events/apply.ts";
import { isReady, type Ready } from "#platform/events/apply-events.ts";
import { type ConsumerGroup, type Entry, makeEntry, type PartitionWork } from "#platform/events/consumer-group.ts";
import { isTransientFailure } from "#platform/events/failure-book.ts";
import { causeOf, parkedAfter } from "#platform/events/park-events.ts";
import { prepareEvents } from "#platform/events/prepare-events.ts";
import { fenceGuard } from "#platform/inbox/fence.ts";
import { handledIds, inboxId, insertHandled } from "#platform/inbox/inbox.ts";
import { deleteParkedRows, lockParkedRows, type ParkedHead, parkedHeads, updateParked } from "#platform/inbox/parking.ts";
import type { Statement } from "#platform/postgres/database.ts";

export type Drained = {
  /** Something left or changed: look again at once. */
  readonly progressed: boolean;
  /** Something will be tried again soon. */
  readonly retrying: boolean;
};

/**
 * Tries the first parked event of each key whose time has come: one step, between which fresh events are handled. One that
 * succeeds leaves; what waits behind it is then the first. A key without rows is free again.
 */
export async function drainParked(group: ConsumerGroup, work: PartitionWork): Promise<Drained> {
  if (work.parked.size === 0) return { progressed: false, retrying: false };
  const heads = await parkedHeads(group.database, work.fence, [...work.parked]);
  const keys = new Set(heads.map((head) => head.key));
  for (const key of work.parked) if (!keys.has(key)) work.parked.delete(key);
  // Drained, or found to be poison: the next one may be taken aside.
  if (heads.every((head) => head.key !== work.aside || head.state === "dead")) work.aside = undefined;
  const nowMs = group.clock();
  const due = heads.filter((head) => head.due && group.failures.notBeforeMs(inboxId(head.record)) <= nowMs);
  const retrying = heads.some((head) => head.state !== "dead");
  if (due.length === 0) return { progressed: false, retrying };
  return { progressed: await tryHeads(group, work, due), retrying };
}

class DroppedMeanwhile extends Error {
  override readonly name = "DroppedMeanwhile";
}

async function tryHeads(group: ConsumerGroup, work: PartitionWork, due: readonly ParkedHead[]): Promise<boolean> {
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
  }
  const ready = prepared.filter(isReady);
  if (ready.length + updates.length + gone.length === 0) return false;
  return applyHeads(group, work, { ready, rows, updates, gone });
}

type Heads = {
  readonly ready: readonly Ready[];
  readonly rows: ReadonlyMap<Entry, ParkedHead>;
  readonly updates: readonly Statement[];
  readonly gone: readonly bigint[];
};

async function applyHeads(group: ConsumerGroup, work: PartitionWork, { ready, rows, updates, gone }: Heads): Promise<boolean> {
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
      if (outcome?.kind !== "failed" || isTransientFailure(outcome.error)) return [];
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
  return true;
}
