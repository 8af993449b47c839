/** Something that can be given up before its end, and those who want to know. */
export type Cancellable = {
  readonly cancelled: boolean;
  add(dependant: Dependant): void;
  remove(dependant: Dependant): void;
};

/** Ends with what it depends on. An object rather than a function, so that a call can be its own listener. */
export type Dependant = { cancel(): void };

/** An AbortSignal in this shape. */
export function cancellableBy(signal: AbortSignal): Cancellable {
  const listeners = new Map<Dependant, () => void>();
  return {
    get cancelled() {
      return signal.aborted;
    },
    add(dependant) {
      const listener = () => dependant.cancel();
      listeners.set(dependant, listener);
      signal.addEventListener("abort", listener, { once: true });
    },
    remove(dependant) {
      const listener = listeners.get(dependant);
      if (listener === undefined) return;
      listeners.delete(dependant);
      signal.removeEventListener("abort", listener);
    },
  };
}
