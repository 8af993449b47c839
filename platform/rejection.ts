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

  constructor(code: string, detail?: string) {
    this.code = code;
    this.detail = detail;
  }
}

/** `detail` is for a person; without it the contract's text of the code is shown. */
export const reject = (code: string, detail?: string): Rejection => new Rejection(code, detail);

export const isRejection = (value: unknown): value is Rejection => value instanceof Rejection;
