/**
 * Waits for one promise after another, each until something else ends the waiting. `Promise.race` with one long-lived
 * promise would keep a reaction of every round for as long as that one lives.
 */
export class Race {
  #lost: { readonly error: unknown } | undefined;
  #reject: ((error: unknown) => void) | undefined;

  /** Ends what is being waited for, and all further waiting, with this error. */
  lose(error: unknown): void {
    this.#lost ??= { error };
    this.#reject?.(error);
  }

  /** Throws where it is lost. */
  check(): void {
    if (this.#lost !== undefined) throw this.#lost.error;
  }

  against<T>(promise: PromiseLike<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#lost === undefined) this.#reject = reject;
      else reject(this.#lost.error);
      promise.then(resolve, reject);
    });
  }
}
