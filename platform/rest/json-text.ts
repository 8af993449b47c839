/**
 * JSON as it was written (RFC 8259), for bodies that may hold money. `JSON.parse` forgives what a ledger must not: it keeps the last of
 * two equal keys and rounds large or long numbers without a word. So this reader refuses the first, keeps the text of the
 * second, bounds the depth, and tells where it stopped.
 */
export type JsonTree = null | boolean | number | string | NumberText | JsonTree[] | JsonObject;
export type JsonObject = { [key: string]: JsonTree };

/** A number that a double may not hold exactly, or whose text isn't a plain integer or short decimal. */
export class NumberText {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

export class JsonSyntaxError extends Error {
  /** Index into the text, from 0. */
  readonly offset: number;
  constructor(message: string, offset: number) {
    super(message);
    this.offset = offset;
  }
}

/** Two equal keys in one object; `path` leads to the second. */
export class DuplicateKeyError extends Error {
  readonly path: readonly (string | number)[];
  constructor(path: readonly (string | number)[]) {
    super("duplicate key");
    this.path = path;
  }
}

export const DEPTH_MAX = 64;
/** Integers and decimals of so many digits are exact, or print back as they were. */
const EXACT_DIGITS = 15;

/** Parses a whole text. Throws JsonSyntaxError or DuplicateKeyError. */
export function parseJsonText(text: string): JsonTree {
  const reader = new Reader(text);
  const value = reader.value(0);
  reader.end();
  return value;
}

const QUOTE = 34;
const BACKSLASH = 92;
const ESCAPES: Readonly<Record<string, string>> = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };
const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;

class Reader {
  readonly #text: string;
  readonly #path: (string | number)[] = [];
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  value(depth: number): JsonTree {
    this.#skipSpace();
    const code = this.#text.charCodeAt(this.#at);
    switch (code) {
      case 123:
        return this.#object(depth + 1);
      case 91:
        return this.#array(depth + 1);
      case QUOTE:
        return this.#string();
      case 116:
        return this.#word("true", true);
      case 102:
        return this.#word("false", false);
      case 110:
        return this.#word("null", null);
      default:
        return this.#number();
    }
  }

  end(): void {
    this.#skipSpace();
    if (this.#at < this.#text.length) throw this.#unexpected();
  }

  #object(depth: number): JsonObject {
    this.#open(depth);
    const object: JsonObject = {};
    if (this.#take(125)) return object;
    do {
      this.#skipSpace();
      if (this.#text.charCodeAt(this.#at) !== QUOTE) throw this.#unexpected();
      const key = this.#string();
      this.#path[depth - 1] = key;
      if (Object.hasOwn(object, key)) throw new DuplicateKeyError(this.#path.slice(0, depth));
      if (!this.#take(58)) throw this.#unexpected();
      const value = this.value(depth);
      if (key === "__proto__") Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
      else object[key] = value;
    } while (this.#take(44));
    if (!this.#take(125)) throw this.#unexpected();
    return object;
  }

  #array(depth: number): JsonTree[] {
    this.#open(depth);
    const array: JsonTree[] = [];
    if (this.#take(93)) return array;
    do {
      this.#path[depth - 1] = array.length;
      array.push(this.value(depth));
    } while (this.#take(44));
    if (!this.#take(93)) throw this.#unexpected();
    return array;
  }

  #open(depth: number): void {
    if (depth > DEPTH_MAX) throw new JsonSyntaxError(`nested deeper than ${DEPTH_MAX}`, this.#at);
    this.#at++;
  }

  #string(): string {
    const text = this.#text;
    let from = ++this.#at;
    let made = "";
    for (;;) {
      const code = text.charCodeAt(this.#at);
      if (code === QUOTE) {
        const rest = text.slice(from, this.#at++);
        return made === "" ? rest : made + rest;
      }
      if (code === BACKSLASH) {
        made += text.slice(from, this.#at) + this.#escape();
        from = this.#at;
      } else if (code < 32) {
        throw new JsonSyntaxError("a control character in a string must be escaped", this.#at);
      } else if (Number.isNaN(code)) {
        throw new JsonSyntaxError("the text ends within a string", this.#at);
      } else this.#at++;
    }
  }

  #escape(): string {
    const letter = this.#text.charAt(this.#at + 1);
    const plain = ESCAPES[letter];
    if (plain !== undefined) {
      this.#at += 2;
      return plain;
    }
    const hex = letter === "u" ? this.#text.slice(this.#at + 2, this.#at + 6) : "";
    if (!/^[0-9a-fA-F]{4}$/.test(hex)) throw new JsonSyntaxError("no such escape", this.#at);
    this.#at += 6;
    return String.fromCharCode(Number.parseInt(hex, 16));
  }

  #number(): number | NumberText {
    NUMBER.lastIndex = this.#at;
    const match = NUMBER.exec(this.#text);
    if (match === null) throw this.#unexpected();
    const literal = match[0];
    this.#at = NUMBER.lastIndex;
    // Past 15 digits, or with an exponent, a double may differ from what was written.
    if (literal.length <= EXACT_DIGITS && match[2] === undefined) return Number(literal);
    return new NumberText(literal);
  }

  #word<T extends boolean | null>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) throw this.#unexpected();
    this.#at += word.length;
    return value;
  }

  #take(code: number): boolean {
    this.#skipSpace();
    if (this.#text.charCodeAt(this.#at) !== code) return false;
    this.#at++;
    return true;
  }

  #skipSpace(): void {
    for (;;) {
      const code = this.#text.charCodeAt(this.#at);
      if (code !== 32 && code !== 10 && code !== 13 && code !== 9) return;
      this.#at++;
    }
  }

  #unexpected(): JsonSyntaxError {
    if (this.#at >= this.#text.length) return new JsonSyntaxError("the text ends too early", this.#at);
    const character = String.fromCodePoint(this.#text.codePointAt(this.#at) ?? 0);
    return new JsonSyntaxError(`unexpected ${JSON.stringify(character)}`, this.#at);
  }
}

/**
 * The integer that a number's text stands for (`1.0` and `1e3` are integers), exactly; undefined where it has a fraction or
 * is past 2^64 and so no integer of any contract.
 */
export function exactInteger(text: string): bigint | undefined {
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text);
  if (match === null) return undefined;
  const [, sign = "", whole = "", fraction = "", exponent = "0"] = match;
  const digits = whole + fraction;
  let start = 0;
  let end = digits.length;
  while (digits[start] === "0") start++;
  while (end > start && digits[end - 1] === "0") end--;
  if (start === end) return 0n;
  const significant = digits.slice(start, end);
  const scale = Number(exponent) - fraction.length + (digits.length - end);
  if (scale < 0 || significant.length + scale > 20) return undefined;
  return BigInt(sign + significant + "0".repeat(scale));
}
