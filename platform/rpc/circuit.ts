/** So many calls without an answer in a row, and the peer counts as away. */
const FAILURES_TO_OPEN = 10;
/** It is tried again after the first of these, and then after twice as long each time, up to the last. */
const OPEN_MS_MIN = 200;
const OPEN_MS_MAX = 2_000;
/** Calls under way: more of them than a peer that answers ever has. */
const IN_FLIGHT_MAX = 1_000;
/** A peer that has been silent for less than this may only be changing: one goes, another comes. */
const PATIENCE_MS = 1_500;
/** The call that finds out whether a peer is back has so long; then another one is tried as well. */
const PROBE_MS = 5_000;
/** Retries that may be made at once, and how many answered calls earn another: a peer in trouble isn't given twice the work. */
const RETRIES_MAX = 100;
const CALLS_A_RETRY = 10;

export type Refusal = { readonly why: "away" | "busy"; readonly retryAfterMs: number };

/** A call that was let in, and when, of performance.now. */
export type Entry = { readonly atMs: number };

/**
 * A circuit breaker: what is known of how a peer is, and what follows from it for the next call. Each call that is let in
 * tells what became of it (`answered`, `unanswered` or `abandoned`), and leaves if it came by `enter`.
 */
export class Circuit {
  #inFlight = 0;
  #failures = 0;
  #silentSinceMs = 0;
  #openMs = 0;
  #openUntilMs = 0;
  /** The call that finds out whether the peer is back. */
  #probe: Entry | undefined;
  /** What retries may be made from: answered calls. */
  #savings = RETRIES_MAX * CALLS_A_RETRY;
  readonly #changed: (isOpen: boolean) => void;

  /** `changed` is told when the peer begins to count as away, and when it no longer does. */
  constructor(changed: (isOpen: boolean) => void) {
    this.#changed = changed;
  }

  get #isOpen(): boolean {
    return this.#openMs > 0;
  }

  get #isProbing(): boolean {
    return this.#probe !== undefined && performance.now() - this.#probe.atMs < PROBE_MS;
  }

  /** Calls aren't tried. Where nobody calls, nobody finds out whether the peer is back, and so this ends by itself. */
  get isRefusing(): boolean {
    return this.#isOpen && (this.#isProbing || performance.now() < this.#openUntilMs + OPEN_MS_MAX);
  }

  /** While the peer is away, one call at a time finds out whether it is back. */
  enter(): Entry | Refusal {
    if (this.#inFlight >= IN_FLIGHT_MAX) return { why: "busy", retryAfterMs: OPEN_MS_MAX };
    const entry = this.enterStream();
    if ("why" in entry) return entry;
    this.#inFlight += 1;
    if (this.#isOpen) this.#probe = entry;
    return entry;
  }

  /**
   * The same for a stream. It may be silent for long without anything being wrong, so that it isn't counted among the calls
   * under way, and the peer isn't tried with it.
   */
  enterStream(): Entry | Refusal {
    const atMs = performance.now();
    const leftMs = this.#openUntilMs - atMs;
    if (this.#isOpen && (leftMs > 0 || this.#isProbing)) return { why: "away", retryAfterMs: Math.max(leftMs, OPEN_MS_MIN) };
    return { atMs };
  }

  leave(): void {
    this.#inFlight -= 1;
  }

  /** Whatever the answer was: the peer is there. */
  answered(): void {
    this.#failures = 0;
    this.#savings = Math.min(this.#savings + 1, RETRIES_MAX * CALLS_A_RETRY);
    this.#probe = undefined;
    if (!this.#isOpen) return;
    this.#openMs = 0;
    this.#changed(false);
  }

  /** Not reached, or no answer in time. */
  unanswered(entry: Entry): void {
    if (this.#failures === 0) this.#silentSinceMs = entry.atMs;
    this.#failures += 1;
    const wasOpen = this.#isOpen;
    // While it is away, only what tries it says anything new.
    if (wasOpen ? entry !== this.#probe : this.#failures < FAILURES_TO_OPEN) return;
    this.#probe = undefined;
    this.#openMs = wasOpen ? Math.min(this.#openMs * 2, OPEN_MS_MAX) : OPEN_MS_MIN;
    this.#openUntilMs = performance.now() + this.#openMs;
    if (!wasOpen) this.#changed(true);
  }

  /** Its caller went away, which tells nothing of the peer. */
  abandoned(entry: Entry): void {
    if (entry === this.#probe) this.#probe = undefined;
  }

  /** Whether the peer is worth waiting for: its silence began less than PATIENCE_MS ago. */
  get isWorthWaiting(): boolean {
    return this.#failures > 0 && performance.now() - this.#silentSinceMs < PATIENCE_MS;
  }

  /** Whether a call that wasn't answered may be made again. */
  takeRetry(): boolean {
    if (this.#savings < CALLS_A_RETRY) return false;
    this.#savings -= CALLS_A_RETRY;
    return true;
  }
}
