import { timingSafeEqual } from "node:crypto";

/** Whether two secrets are the same. The time tells of them nothing but their length. */
export function equalSecrets(one: string | Uint8Array, other: string | Uint8Array): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}
