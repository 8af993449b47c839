// A pattern of a contract is one of RE2's. JavaScript's RegExp is twenty times as fast, but speaks another language: `.`, `\s`,
// `\b`, `[^a]`, `(?i)` and much else mean something else there, and some patterns take it exponential time. What is let
// through here both read alike: characters of ASCII, each by itself or in a class, and how often it comes. As nothing of it
// can match half of a surrogate pair, it doesn't matter that RE2 goes by code points and RegExp (without `u`) by code units;
// and `^` and `$` (without `m`) are the ends of the text in both, whether or not a newline stands there.

/** Of what stands for itself. `-` does outside of a class, and in one before its end. */
const LITERAL = `[A-Za-z0-9 _,:;=@#%&~"'<>/!]`;
const ESCAPED = String.raw`\\[.*+?()[\]{}|^$/\\-]`;
/** Ranges that can't be the wrong way round, which neither engine takes. */
const RANGE = "0-[0-9]|[0-9]-9|a-[a-z]|[a-z]-z|A-[A-Z]|[A-Z]-Z";
const CLASS = String.raw`\[(?:${RANGE}|${LITERAL}|[.*+?()|$]|${ESCAPED})+-?\]`;
/** RE2 takes a thousand repeats at most. */
const REPEAT = String.raw`[?*+]|\{(\d{1,3})(?:(,)(\d{0,3}))?\}`;
const PIECE = new RegExp(`(?:${LITERAL}|-|${ESCAPED}|${CLASS})(${REPEAT})?`, "gy");

/** Far below what RE2 calls too large. */
const LENGTH_MAX = 100;

/** A pattern of RE2 as a RegExp that surely matches the same texts, in linear time; undefined where that isn't sure. */
export function plainPattern(pattern: string): RegExp | undefined {
  if (pattern.length > LENGTH_MAX || !pattern.startsWith("^")) return undefined;
  // An escaped one leaves its backslash behind, which is no piece.
  const pieces = pattern.slice(1, pattern.endsWith("$") ? -1 : undefined);
  let read = 0;
  let loose = 0;
  for (const [piece, repeat, least, comma, most] of pieces.matchAll(PIECE)) {
    read += piece.length;
    if (most !== undefined && most !== "" && Number(most) < Number(least)) return undefined;
    if (repeat !== undefined && (least === undefined || comma !== undefined)) loose++;
  }
  // Two repeats of no fixed length can share out a text among them in ever so many ways, and RegExp tries them all.
  return read === pieces.length && loose <= 1 ? new RegExp(pattern) : undefined;
}
