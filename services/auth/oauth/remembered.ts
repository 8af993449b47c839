const GOOD_MS = 3_600_000;
/** Whoever comes while it is away isn't made to wait for it each time. */
const FAILED_MS = 1_000;

/**
 * Loads what is asked for when it is first asked for, once for all who wait, and again when an hour has passed. Nobody waits for that, and
 * where it can't be loaded again, what was there serves on.
 */
export function remembered<T>(load: () => Promise<T>): () => Promise<T> {
  let known: { readonly value: T } | undefined;
  let loading: Promise<T> | undefined;
  let nextMs = Number.NEGATIVE_INFINITY;
  const loadOnce = async (): Promise<T> => {
    nextMs = Number.POSITIVE_INFINITY;
    try {
      const value = await load();
      known = { value };
      nextMs = performance.now() + GOOD_MS;
      return value;
    } catch (error) {
      nextMs = performance.now() + FAILED_MS;
      if (known === undefined) throw error;
      return known.value;
    }
  };
  return () => {
    if (loading === undefined || performance.now() >= nextMs) loading = loadOnce();
    return known === undefined ? loading : Promise.resolve(known.value);
  };
}
