import { create } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type AddressEntry, AddressEntrySchema, AddressListSchema } from "#contracts/polis/edge/v1/kept_pb.ts";
import type { Clock } from "#platform/clock.ts";
import { type Kind, type ValuesOf, values } from "#platform/kv/kinds.ts";

/** The list is read as a whole, so often. */
const ENTRIES_MAX = 2_000;
export const REASON_LENGTH_MAX = 200;
/** The key of the one list. */
const LIST = "all";

export type KeptAddresses = ValuesOf<typeof AddressListSchema>;

/** Where an edge's list is kept. */
export const addressListOf = (edge: string): Kind<KeptAddresses> => values(`${edge}.addresses`, AddressListSchema, { loss: "durable" });

/** Those that haven't expired. */
export const holding = (entries: readonly AddressEntry[], nowMs: number): AddressEntry[] =>
  entries.filter(({ expiresAt }) => expiresAt === undefined || timestampMs(expiresAt) > nowMs);

/** What holds now. */
export const readList = async (kept: KeptAddresses, clock: Clock): Promise<readonly AddressEntry[]> =>
  holding((await kept.get(LIST))?.entries ?? [], clock());

export type NewEntry = {
  /** In its written form. */
  readonly network: string;
  readonly isAllowed: boolean;
  readonly reason: string;
  /** Undefined: until it is removed. */
  readonly forMs: number | undefined;
};

/** Adds an entry, or puts it in the place of the one of the same network and kind. Throws where the list is full. */
export const addEntry = (kept: KeptAddresses, { forMs, ...said }: NewEntry, clock: Clock): Promise<void> =>
  changeList(kept, clock, (entries) => {
    const others = entries.filter((each) => each.network !== said.network || each.isAllowed !== said.isAllowed);
    if (others.length >= ENTRIES_MAX) throw new Error(`the list has ${ENTRIES_MAX} entries, and no more: take networks together`);
    const nowMs = clock();
    const expiresAt = forMs === undefined ? undefined : timestampFromMs(nowMs + forMs);
    return [...others, create(AddressEntrySchema, { ...said, expiresAt, addedAt: timestampFromMs(nowMs) })];
  });

/** Resolves with how many there were. */
export async function removeEntries(kept: KeptAddresses, network: string, clock: Clock): Promise<number> {
  let removed = 0;
  await changeList(kept, clock, (entries) => {
    const others = entries.filter((each) => each.network !== network);
    removed = entries.length - others.length;
    return others;
  });
  return removed;
}

const TRIES_MAX = 20;

/** Whoever changed it meanwhile isn't undone. What has expired goes with every change. */
async function changeList(
  kept: KeptAddresses,
  clock: Clock,
  change: (entries: readonly AddressEntry[]) => readonly AddressEntry[],
): Promise<void> {
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const before = await kept.get(LIST);
    const after = { entries: [...change(holding(before?.entries ?? [], clock()))] };
    if (before === undefined ? await kept.add(LIST, after) : await kept.compareAndSet(LIST, before, after)) return;
  }
  throw new Error("the list is changed by others all the time; try again");
}
