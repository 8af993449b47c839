import type { Holding } from "#platform/events/postgres-partition.ts";
import type { EventTimings } from "#platform/events/timings.ts";
import type { Database } from "#platform/postgres/database.ts";
import type { Log } from "#platform/telemetry/log.ts";

type Dirty = { readonly holding: Holding; readonly position: bigint; readonly lost: () => void };

/** Commits the positions of all groups of a process together: one statement now and then instead of one a batch. */
export type Positions = {
  /** Notes a position; `lost` is called if the lease turns out to be another's by then. */
  commit(holding: Holding, position: bigint, lost: () => void): void;
  /** Commits at once. */
  flush(): Promise<void>;
};

export function makePositions({ database, logger, timings }: { database: Database; logger: Log; timings: EventTimings }): Positions {
  const dirty = new Map<string, Dirty>();
  let timer: NodeJS.Timeout | undefined;
  let flushing: Promise<void> = Promise.resolve();

  const send = async (): Promise<void> => {
    clearTimeout(timer);
    timer = undefined;
    const sent = [...dirty];
    if (sent.length === 0) return;
    const committed = await commitPositions(
      database,
      sent.map(([, one]) => one),
    );
    for (const [key, one] of sent) {
      if (dirty.get(key) === one) dirty.delete(key);
      if (!committed.has(key)) one.lost();
    }
  };

  const flush = (): Promise<void> => {
    flushing = flushing.catch(() => undefined).then(send);
    return flushing;
  };

  const schedule = (afterMs: number): void => {
    timer ??= setTimeout(() => {
      timer = undefined;
      flush().catch((error: unknown) => {
        logger.debug({ err: error }, "positions weren't committed; they will be with the next ones");
        schedule(timings.heartbeatMs);
      });
    }, afterMs);
  };

  return {
    commit(holding, position, lost) {
      dirty.set(keyOf(holding.groupId, holding.partitionId, holding.generation), { holding, position, lost });
      schedule(timings.positionsEveryMs);
    },
    flush,
  };
}

const keyOf = (groupId: number, partitionId: number, generation: bigint): string => `${groupId} ${partitionId} ${generation}`;

/**
 * Never under a lease that is another's, never backwards. Doesn't wait for the disk: a position that is lost means events that
 * come again.
 */
async function commitPositions(database: Database, dirty: readonly Dirty[]): Promise<Set<string>> {
  const { rows } = await database.query<{ group_id: number; partition_id: number; generation: bigint }>({
    name: "log positions",
    text: `WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
           u AS MATERIALIZED (SELECT u.* FROM quick, unnest($1::uuid[], $2::int[], $3::int[], $4::bigint[], $5::bigint[]) AS u (member, group_id, partition_id, generation, position))
           UPDATE positions o SET position = greatest(o.position, u.position)
           FROM u JOIN leases l ON l.group_id = u.group_id AND l.partition_id = u.partition_id AND l.member = u.member AND l.generation = u.generation
           WHERE o.group_id = u.group_id AND o.partition_id = u.partition_id AND o.generation = u.generation
           RETURNING o.group_id, o.partition_id, o.generation`,
    values: [
      dirty.map((one) => one.holding.member),
      dirty.map((one) => one.holding.groupId),
      dirty.map((one) => one.holding.partitionId),
      dirty.map((one) => one.holding.generation),
      dirty.map((one) => one.position),
    ],
  });
  return new Set(rows.map((row) => keyOf(row.group_id, row.partition_id, row.generation)));
}
