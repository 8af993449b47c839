/** A text as a column takes it, whatever it was: without NUL, which PostgreSQL refuses, well-formed, and at most so many characters. */
export const storableText = (text: string, lengthMax: number): string => text.slice(0, lengthMax).replaceAll("\0", "\uFFFD").toWellFormed();
