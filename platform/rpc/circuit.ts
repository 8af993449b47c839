/** So many calls without an answer in a row, and the peer counts as away. */
const FAILURES_TO_OPEN = 10;
/** It is tried again after the first of these, and then after twice as long each time, up to the last. */
const OPEN_MS_MIN = 200;
const OPEN_MS_MAX = 2_000;
/** Calls under way: more of them than a peer that answers ever has. */
const IN_FLIGHT_MAX = 1_000;
/** A peer that has been silent for less than this may only be changing: one goes, another comes. */
const PATIENCE_MS = 1_500;
/** Retries that may be made at once, and how many answered calls earn another: a peer in trouble isn't given twice the work. */
const RETRIES_MAX = 100;
const CALLS_A_RETRY = 10;

export type Refusal = { readonly why: "away" | "busy"; readonly retryAfterMs: number };

/**
 * A circuit breaker: what is known of how a peer is, and what follows from it for the next call. Each call that is let in
 * tells what became of it (`answered`, `unanswered` or `abandoned`), and one that was counted leaves.
 */
export class Circuit {
  #inFlight = 0;
  #failures = 0;
  #silentSinceMs = 0;
  #openMs = 0;
  #openUntilMs = 0;
  #isProbing = false;
  #retries = RETRIES_MAX;
  readonly #changed: (isOpen: boolean) => void;

  /** `changed` is told when the peer begins to count as away, and when it no longer does. */
  constructor(changed: (isOpen: boolean) => void) {
    this.#changed = changed;
  }

  get #isOpen(): boolean {
    return this.#openMs > 0;
  }

  /** Calls aren't tried. Where nobody calls, nobody finds out whether the peer is back, and so this ends by itself. */
  get isRefusing(): boolean {
    return this.#isOpen && (this.#isProbing || performance.now() < this.#openUntilMs + OPEN_MS_MAX);
  }

  /** Undefined for a call that may go. While the peer is away, one at a time finds out whether it is back. */
  enter(): Refusal | undefined {
    if (this.#inFlight >= IN_FLIGHT_MAX) return { why: "busy", retryAfterMs: OPEN_MS_MAX };
    const refusal = this.enterStream();
    if (refusal !== undefined) return refusal;
    this.#isProbing = this.#isOpen;
    this.#inFlight += 1;
    return undefined;
  }

  /** The same for a stream, which may be silent for long without anything being wrong: it isn't counted, nor what a peer is tried with. */
  enterStream(): Refusal | undefined {
    if (!this.#isOpen) return undefined;
    const leftMs = this.#openUntilMs - performance.now();
    return leftMs > 0 || this.#isProbing ? { why: "away", retryAfterMs: Math.max(leftMs, OPEN_MS_MIN) } : undefined;
  }

  leave(): void {
    this.#inFlight -= 1;
  }

  /** Whatever the answer was: the peer is there. */
  answered(): void {
    this.#failures = 0;
    this.#retries = Math.min(this.#retries + 1 / CALLS_A_RETRY, RETRIES_MAX);
    this.#isProbing = false;
    if (!this.#isOpen) return;
    this.#openMs = 0;
    this.#changed(false);
  }

  /** Not reached, or no answer in time, since `startedMs` (of performance.now). */
  unanswered(startedMs: number): void {
    if (this.#failures === 0) this.#silentSinceMs = startedMs;
    this.#failures += 1;
    const wasOpen = this.#isOpen;
    // What began before it was open says nothing new.
    if (wasOpen ? !this.#isProbing : this.#failures < FAILURES_TO_OPEN) return;
    this.#isProbing = false;
    this.#openMs = wasOpen ? Math.min(this.#openMs * 2, OPEN_MS_MAX) : OPEN_MS_MIN;
    this.#openUntilMs = performance.now() + this.#openMs;
    if (!wasOpen) this.#changed(true);
  }

  /** Its caller went away, which tells nothing of the peer. */
  abandoned(): void {
    this.#isProbing = false;
  }

  /** Whether the peer is worth waiting for: it has answered a moment ago. */
  get isWorthWaiting(): boolean {
    return this.#failures > 0 && performance.now() - this.#silentSinceMs < PATIENCE_MS;
  }

  /** Whether a call that wasn't answered may be made again. */
  takeRetry(): boolean {
    if (this.#retries < 1) return false;
    this.#retries -= 1;
    return true;
  }
}
