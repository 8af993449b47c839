import type { SubscribeOptions, Subscription } from "#platform/events/event-log.ts";
import { lagGauge } from "#platform/events/lag-gauge.ts";
import type { Appended } from "#platform/events/offers.ts";
import { murmur2 } from "#platform/events/partition.ts";
import {
  heartbeat,
  type JoinedGroup,
  joinGroup,
  type Lease,
  livingMembers,
  type Member,
  readLeases,
  readNextOffsets,
  releaseLease,
  subscriptionName,
  takeLeases,
} from "#platform/events/postgres-leases.ts";
import { type HeldRun, type Holding, type PartitionRun, runPartition } from "#platform/events/postgres-partition.ts";
import { makePositions, type Positions } from "#platform/events/postgres-positions.ts";
import { makeBell, pause } from "#platform/events/signal.ts";
import { type EventTimings, growingPauseMs } from "#platform/events/timings.ts";
import type { Database } from "#platform/postgres/database.ts";
import type { Log } from "#platform/telemetry/log.ts";
import type { Metrics } from "#platform/telemetry/metrics.ts";

/*
 * A process is one member of all its groups, with one heartbeat. A partition of a group is leased to a member for as long as
 * that member is alive. Once a heartbeat each member looks at who is there and at what is leased: it releases what is beyond
 * its fair share (after the batch in flight), and takes what nobody alive holds, up to its share. A lease that was taken over
 * has a higher generation; what the former member still writes is refused by that: here (positions), and in the consumer's
 * own database (inbox/fence.ts).
 */

export type MembershipOptions = {
  readonly database: Database;
  readonly logger: Log;
  readonly metrics: Metrics;
  readonly timings: EventTimings;
  /** Called now and then in one of the living members. */
  readonly prune: () => Promise<unknown>;
};

/** What one append brought to a partition. */
export type PartitionAppend = {
  readonly partitionId: number;
  readonly nextOffset: bigint;
  readonly rows: readonly Appended[];
  /** The leases that this member held there in the snapshot of the append, by `leaseName`. */
  readonly leases: readonly string[];
};

/** A lease as the append names it. */
const leaseName = ({ groupId, generation }: Holding): string => `${groupId} ${generation}`;

type Group = JoinedGroup & { readonly options: SubscribeOptions; readonly runs: Map<number, HeldRun> };

/** This process as a member of the groups that it runs. */
export class Membership {
  readonly #options: MembershipOptions;
  readonly #self = crypto.randomUUID();
  readonly #groups = new Map<number, Group>();
  readonly #nextOffsets = new Map<number, bigint>();
  readonly #closing = new AbortController();
  readonly #bell = makeBell();
  readonly #positions: Positions;
  readonly #lag: ReturnType<typeof lagGauge>;
  readonly #running: Promise<void>;
  #beating: Promise<void> = Promise.resolve();
  #aliveUntil = 0;
  #others = false;
  #prunedAt = performance.now();
  #looking = false;
  #lookAgain = false;

  constructor(options: MembershipOptions) {
    this.#options = options;
    this.#positions = makePositions(options);
    this.#lag = lagGauge(options.metrics);
    this.#running = this.#run();
  }

  async subscribe(options: SubscribeOptions): Promise<Subscription> {
    const group: Group = { ...(await joinGroup(this.#options.database, options)), options, runs: new Map() };
    if (this.#groups.has(group.id)) throw new Error(`this process runs ${options.group} already`);
    this.#groups.set(group.id, group);
    await this.#beatNow();
    return { stop: () => this.#leave(group) };
  }

  /** This process's name among the members. */
  get self(): string {
    return this.#self;
  }

  /** Tells of an append in this process, and hands the records to the groups that held the partition's lease when they were written. */
  appended({ partitionId, nextOffset, rows, leases }: PartitionAppend): void {
    for (const { runs } of this.#groups.values()) {
      const run = runs.get(partitionId);
      if (run !== undefined && leases.includes(leaseName(run.holding))) for (const row of rows) run.offer(row);
    }
    this.#reached(partitionId, nextOffset);
  }

  #reached(partitionId: number, nextOffset: bigint): void {
    // Never lower: an answer that was on its way is older. If the log truly has less, a fetch finds nothing, and no harm is done.
    if (nextOffset > (this.#nextOffsets.get(partitionId) ?? 0n)) this.#nextOffsets.set(partitionId, nextOffset);
    for (const { runs } of this.#groups.values()) runs.get(partitionId)?.wake();
  }

  /** Looks for appends of other processes, soon. */
  async look(): Promise<void> {
    this.#lookAgain = true;
    if (this.#looking) return;
    this.#looking = true;
    while (this.#lookAgain && !this.#closing.signal.aborted) {
      this.#lookAgain = false;
      await this.#readOffsets().catch((error: unknown) => this.#options.logger.debug({ err: error }, "the event log is away"));
    }
    this.#looking = false;
  }

  /** Another member was alive at the last heartbeat. */
  hasOthers(): boolean {
    return this.#others;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#bell.ring();
    await this.#running;
    await Promise.all([...this.#groups.values()].map((group) => this.#leave(group)));
    await this.#options.database
      .query({ text: "DELETE FROM members WHERE member = $1", values: [this.#self] })
      .catch((error: unknown) => this.#options.logger.debug({ err: error }, "the membership ends by itself"));
  }

  async #run(): Promise<void> {
    const { timings, logger } = this.#options;
    for (let failures = 0; !this.#closing.signal.aborted; ) {
      try {
        await this.#beatNow();
        failures = 0;
        await this.#bell.wait(timings.heartbeatMs);
      } catch (error) {
        failures += 1;
        logger.warn({ err: error, failures }, "the event log is away");
        await pause(Math.min(growingPauseMs(failures, timings), timings.heartbeatMs), this.#closing.signal);
      }
    }
  }

  /** One at a time: a heartbeat that is asked for while another runs comes after it. */
  #beatNow(): Promise<void> {
    this.#beating = this.#beating.catch(() => undefined).then(() => this.#beat());
    return this.#beating;
  }

  async #beat(): Promise<void> {
    const { database, timings } = this.#options;
    const sentAt = performance.now();
    const subscriptions = [...this.#groups.values()].flatMap(({ id, options }) =>
      options.topics.map((topic) => subscriptionName(id, topic)),
    );
    await heartbeat(database, { member: this.#self, groups: [...this.#groups.keys()], subscriptions }, timings.memberLeaseMs);
    this.#aliveUntil = sentAt + timings.memberLeaseMs;
    await this.#readOffsets();
    const members = await livingMembers(database);
    this.#others = members.some((member) => member.member !== this.#self);
    if (this.#groups.size > 0) {
      const leases = await readLeases(database, [...this.#groups.keys()]);
      for (const group of this.#groups.values()) await this.#balance(group, members, leases);
    }
    this.#measureLag();
    if (performance.now() - this.#prunedAt >= timings.pruneEveryMs && members[0]?.member === this.#self) {
      this.#prunedAt = performance.now();
      await this.#options.prune();
    }
  }

  async #readOffsets(): Promise<void> {
    const ids = [...new Set([...this.#groups.values()].flatMap((group) => [...group.partitions.keys()]))];
    if (ids.length === 0) return;
    const nextOffsets = await readNextOffsets(this.#options.database, ids);
    for (const [id, next] of nextOffsets) if (next > (this.#nextOffsets.get(id) ?? 0n)) this.#reached(id, next);
  }

  async #balance(group: Group, members: readonly Member[], leases: readonly Lease[]): Promise<void> {
    const held = new Map(leases.filter((lease) => lease.group_id === group.id).map((lease) => [lease.partition_id, lease]));
    for (const [id, run] of group.runs) {
      const lease = held.get(id);
      if (lease?.member !== this.#self || lease.generation !== run.holding.generation) run.end();
    }
    const alive = new Set(members.map((member) => member.member));
    const isFree = (id: number): boolean => {
      const lease = held.get(id);
      return !group.runs.has(id) && (lease === undefined || lease.member === this.#self || !alive.has(lease.member));
    };
    const wanted = group.options.topics.flatMap((topic) => {
      const ids = [...group.partitions].filter(([, place]) => place.topic === topic).map(([id]) => id);
      const runs = [...group.runs.values()].filter(({ holding }) => holding.topic === topic);
      const share = fairShare(this.#self, { groupId: group.id, topic, partitions: ids.length }, members);
      for (const run of runs.filter((run) => !run.isEnding()).slice(share)) run.end();
      return ids.filter(isFree).slice(0, Math.max(0, share - runs.length));
    });
    if (wanted.length === 0) return;
    for (const taken of await takeLeases(this.#options.database, this.#self, group.id, wanted)) {
      const place = group.partitions.get(taken.partitionId);
      if (place !== undefined) this.#start(group, { member: this.#self, groupId: group.id, ...taken, ...place });
    }
  }

  #start(group: Group, holding: Holding): void {
    const { database, logger, timings } = this.#options;
    const run: PartitionRun = runPartition(holding, group.options, {
      database,
      logger,
      timings,
      isAlive: () => performance.now() < this.#aliveUntil,
      nextOffset: () => this.#nextOffsets.get(holding.partitionId) ?? 0n,
      commit: (position) => this.#positions.commit(holding, position, () => run.end()),
    });
    // Whatever ended it: what it handled is committed, and the lease is free for whoever's share it is.
    const released = run.ended
      .then(() => this.#positions.flush())
      .then(() => releaseLease(database, holding))
      .catch((error: unknown) => logger.debug({ err: error }, "a lease ends by itself"))
      .finally(() => {
        group.runs.delete(holding.partitionId);
        this.#lag.remove(labels(group, holding));
      });
    group.runs.set(holding.partitionId, { ...run, released });
  }

  async #leave(group: Group): Promise<void> {
    this.#groups.delete(group.id);
    // A heartbeat on its way may still start runs of the group.
    await this.#beating.catch(() => undefined);
    const runs = [...group.runs.values()];
    for (const run of runs) run.end();
    await Promise.all(runs.map((run) => run.released));
  }

  #measureLag(): void {
    for (const group of this.#groups.values())
      for (const { holding, position } of group.runs.values()) {
        const ahead = (this.#nextOffsets.get(holding.partitionId) ?? 0n) - position();
        this.#lag.set(labels(group, holding), Math.max(0, Number(ahead)));
      }
  }
}

const labels = (group: Group, { topic, partition }: Holding) => ({ group: group.options.group, topic, partition: String(partition) });

type Shared = { readonly groupId: number; readonly topic: string; readonly partitions: number };

/**
 * How many of a topic's partitions are this member's: equal shares among those that read it, and what remains goes to some, in
 * another order for each topic and group.
 */
function fairShare(self: string, { groupId, topic, partitions }: Shared, members: readonly Member[]): number {
  const name = subscriptionName(groupId, topic);
  const rank = (member: string): number => murmur2(Buffer.from(`${name} ${member}`));
  const ranked = members
    .filter(({ groups, subscriptions }) => groups.includes(groupId) && (subscriptions.length === 0 || subscriptions.includes(name)))
    .map(({ member }) => member)
    .sort((a, b) => rank(a) - rank(b));
  const place = ranked.indexOf(self);
  if (place < 0) return 0;
  return Math.floor(partitions / ranked.length) + (place < partitions % ranked.length ? 1 : 0);
}
