/** murmur2 of 32 bits with Kafka's seed: what Kafka's default partitioner hashes keys with. */
export function murmur2(data: Uint8Array): number {
  const m = 0x5bd1e995;
  const whole = data.length & ~3;
  let h = (0x9747b28c ^ data.length) | 0;
  for (let i = 0; i < whole; i += 4) {
    let k = byte(data, i) | (byte(data, i + 1) << 8) | (byte(data, i + 2) << 16) | (byte(data, i + 3) << 24);
    k = Math.imul(k, m);
    k ^= k >>> 24;
    h = Math.imul(h, m) ^ Math.imul(k, m);
  }
  const rest = data.length - whole;
  if (rest === 3) h ^= byte(data, whole + 2) << 16;
  if (rest >= 2) h ^= byte(data, whole + 1) << 8;
  if (rest >= 1) h = Math.imul(h ^ byte(data, whole), m);
  h ^= h >>> 13;
  h = Math.imul(h, m);
  return h ^ (h >>> 15);
}

const byte = (data: Uint8Array, at: number): number => data[at] ?? 0;

/** The partition of a key among `partitions`: the same one that Kafka's default partitioner picks, so that an engine can be changed. */
export const partitionOf = (key: string, partitions: number): number =>
  partitions === 1 ? 0 : (murmur2(Buffer.from(key, "utf8")) & 0x7fffffff) % partitions;
