/** A field of a request that broke a rule. */
export type Violation = {
  /** Path as the client wrote it: `amount`, `legs[0].currency`. */
  readonly field: string;
  /** Stable name of the rule: `int64.gt`, `string.uuid`, `unknown_field`. */
  readonly rule: string;
  /** For a person. */
  readonly message: string;
};

/**
 * What the domain answers when it says no: a value with a name, never an exception. The contract of the method lists its
 * code and gives it a status; the edge maps it once.
 */
export class Rejection {
  readonly code: string;
  readonly detail: string | undefined;
  readonly retryAfterMs: number | undefined;
  readonly keepsWrites: boolean;

  constructor(code: string, detail: string | undefined, { retryAfterMs, keepsWrites = false }: RejectionOptions) {
    this.code = code;
    this.detail = detail;
    this.retryAfterMs = retryAfterMs;
    this.keepsWrites = keepsWrites;
  }
}

export type RejectionOptions = {
  /** When it may be otherwise. */
  readonly retryAfterMs?: number | undefined;
  /** What the item has written is kept, for the no has consequences: a theft is noted, a session ended. Discarded unless said. */
  readonly keepsWrites?: boolean;
};

/** `detail` is for a person; without it the contract's text of the code is shown. */
export const reject = (code: string, detail?: string, options: RejectionOptions = {}): Rejection => new Rejection(code, detail, options);

export const isRejection = (value: unknown): value is Rejection => value instanceof Rejection;
