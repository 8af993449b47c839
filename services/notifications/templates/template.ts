/** Languages in which each template is written. */
export const LOCALES = ["en", "ru"] as const;
export type Locale = (typeof LOCALES)[number];

export type Params = Readonly<Record<string, string>>;

/** What a template says in a language. `{name}` is the place of a parameter. */
export type Words = {
  readonly subject: string;
  /** Paragraphs. One that is but a parameter stands out, as codes do. */
  readonly letter: readonly string[];
  /** In one line, for a telephone. */
  readonly sms: string;
};

export type Template = {
  /** The parameters that it must have, and no others. */
  readonly params: readonly string[];
  readonly words: Readonly<Record<Locale, Words>>;
};

/** What is sent. */
export type Rendered = { readonly subject: string; readonly text: string; readonly html: string; readonly sms: string };

/** The language of these that a locale asks for; English for any other. */
const localeOf = (said: string): Locale => LOCALES.find((locale) => locale === said.toLowerCase().split("-")[0]) ?? "en";

/** What is wrong with the parameters; undefined where they are as the template wants them. */
export function paramsFault({ params: wanted }: Template, params: Params): string | undefined {
  const missing = wanted.filter((name) => !Object.hasOwn(params, name));
  const unknown = Object.keys(params).filter((name) => !wanted.includes(name));
  const parts = [
    ...(missing.length === 0 ? [] : [`it needs ${missing.join(", ")}`]),
    ...(unknown.length === 0 ? [] : [`it has no ${unknown.join(", ")}`]),
  ];
  return parts.length === 0 ? undefined : parts.join("; ");
}

export function render({ words }: Template, locale: string, params: Params): Rendered {
  const { subject, letter, sms } = words[localeOf(locale)];
  const filled = (text: string): string => text.replaceAll(/\{(\w+)\}/g, (_, name: string) => oneLine(params[name] ?? ""));
  return {
    subject: filled(subject),
    text: `${letter.map(filled).join("\n\n")}\n`,
    html: page(
      filled(subject),
      localeOf(locale),
      letter.map((paragraph) => (/^\{\w+\}$/.test(paragraph) ? standsOut(filled(paragraph)) : `<p>${escaped(filled(paragraph))}</p>`)),
    ),
    sms: filled(sms),
  };
}

/** What comes from outside can't begin a line, or a header. */
const oneLine = (text: string): string => text.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ");

const standsOut = (text: string): string => `<p style="font:600 28px/1.4 ui-monospace,monospace;letter-spacing:.15em">${escaped(text)}</p>`;

const page = (title: string, locale: Locale, paragraphs: readonly string[]): string =>
  `<!doctype html><html lang="${locale}"><head><meta charset="utf-8"><title>${escaped(title)}</title></head>` +
  `<body style="font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:2em auto;padding:0 1em">${paragraphs.join("")}</body></html>\n`;

export const escaped = (text: string): string =>
  text.replaceAll(/[&<>"']/g, (letter) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" })[letter] ?? letter);
