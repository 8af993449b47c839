import { hkdfSync } from "node:crypto";

/** The least a secret may be, in characters. */
export const SECRET_LENGTH_MIN = 32;

/** The deployment's secret, and one that counts as well while it is being changed: never used as they are, but as keys for a purpose. */
export type Secrets = {
  /** Keys of 32 bytes: the first is for what is made now, each for what is read. Another purpose has others. */
  keys(purpose: string): Keys;
};

export type Keys = readonly [Uint8Array, ...Uint8Array[]];

/** @param secrets the current one first */
export function secretsOf(secrets: readonly [string, ...string[]]): Secrets {
  const [current, ...others] = secrets;
  if (secrets.some(({ length }) => length < SECRET_LENGTH_MIN)) throw new Error(`a secret has at least ${SECRET_LENGTH_MIN} characters`);
  const known = new Map<string, Keys>();
  return {
    keys(purpose) {
      const derive = (secret: string) => new Uint8Array(hkdfSync("sha256", secret, "", purpose, 32));
      const keys: Keys = known.get(purpose) ?? [derive(current), ...others.map(derive)];
      known.set(purpose, keys);
      return keys;
    },
  };
}
