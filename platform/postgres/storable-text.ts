/** A text as a column takes it, whatever it was: without NUL, which PostgreSQL refuses, well-formed, and at most so many characters. */
export const storableText = (text: string, lengthMax: number): string => text.slice(0, lengthMax).replaceAll("\0", "\uFFFD").toWellFormed();

const CAUSE_LENGTH_MAX = 2_000;

/** Why something failed, as its column takes it. */
export const storableCause = (cause: string): string => storableText(cause, CAUSE_LENGTH_MAX);
