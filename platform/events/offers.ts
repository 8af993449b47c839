import type { FetchedBatch } from "#platform/events/event-log.ts";
import type { EventRecord } from "#platform/events/record.ts";

/** Records of one row of the log, with the offset of the first of them. */
export type Appended = { readonly base: bigint; readonly records: readonly EventRecord[] };

/** What waits for one group, of one partition: some batches ahead, and no more while it is held up. */
const RECORDS_MAX = 2_048;
const BYTES_MAX = 4 * 1024 * 1024;

/** Records of a partition, as a run hands them on. */
export type Fetched = Pick<FetchedBatch, "records" | "lastOffset">;

/**
 * What was appended in this process and handed over, so that it needn't be read back. Only ever a shortcut: it is dropped where
 * it grows large, or isn't what comes next, and the log is read.
 */
export class Offers {
  #waiting: (Appended & { readonly bytes: number })[] = [];
  #records = 0;
  #bytes = 0;

  add({ base, records }: Appended): void {
    const bytes = records.reduce((sum, { payload }) => sum + payload.length, 0);
    this.#waiting.push({ base, records, bytes });
    this.#records += records.length;
    this.#bytes += bytes;
    if (this.#records > RECORDS_MAX || this.#bytes > BYTES_MAX) this.clear();
  }

  clear(): void {
    this.#waiting = [];
    this.#records = 0;
    this.#bytes = 0;
  }

  /** What follows `position` without a gap, about `max` records; undefined where that isn't here. */
  take(position: bigint, max: number): Fetched | undefined {
    const records: EventRecord[] = [];
    let next = position;
    while (records.length < max) {
      const first = this.#waiting[0];
      if (first === undefined || first.base > next) break;
      this.#waiting.shift();
      this.#records -= first.records.length;
      this.#bytes -= first.bytes;
      // Of what came by a fetch already, only the rest.
      const fresh = first.records.slice(Number(next - first.base));
      records.push(...fresh);
      next += BigInt(fresh.length);
    }
    if (records.length === 0) this.clear();
    return records.length === 0 ? undefined : { records, lastOffset: next - 1n };
  }
}
