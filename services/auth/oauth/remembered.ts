const GOOD_MS = 3_600_000;
/** Whoever comes while it is away isn't made to wait for it each time. */
const FAILED_MS = 1_000;

/**
 * Loads what is asked for when it is first asked for, once for all who wait, and again after an hour. Where it can't be loaded again, what
 * was there serves on.
 */
export function remembered<T>(load: () => Promise<T>): () => Promise<T> {
  let known: { readonly value: T } | undefined;
  let trying: Promise<T> | undefined;
  let nextMs = Number.NEGATIVE_INFINITY;
  return () => {
    if (performance.now() < nextMs && trying !== undefined) return trying;
    nextMs = Number.POSITIVE_INFINITY;
    trying = load().then(
      (value) => {
        known = { value };
        nextMs = performance.now() + GOOD_MS;
        return value;
      },
      (error: unknown) => {
        nextMs = performance.now() + FAILED_MS;
        if (known === undefined) throw error;
        return known.value;
      },
    );
    return trying;
  };
}
