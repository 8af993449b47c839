/** Gives back what it is constructed with. */
const Same = function (this: unknown, value: object): object {
  return value;
} as unknown as new (
  value: object,
) => object;

/**
 * The bytes in which a value was read, on the value itself: nobody else sees them, and a copy hasn't them. A WeakMap does the same,
 * and costs half a microsecond for each value: as much as decoding it.
 */
export class AsRead extends Same {
  readonly #bytes: Uint8Array;

  private constructor(value: object, bytes: Uint8Array) {
    super(value);
    this.#bytes = bytes;
  }

  /** Once for each value. */
  static note(value: object, bytes: Uint8Array): void {
    new AsRead(value, bytes);
  }

  /** Undefined for one that wasn't read. */
  static bytesOf(value: object): Uint8Array | undefined {
    return #bytes in value ? (value as AsRead).#bytes : undefined;
  }
}
