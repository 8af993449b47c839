import { hash } from "node:crypto";
import { escaped } from "../templates/template.ts";
import type { Kept } from "./mailbox.ts";

const STYLE = `
:root{color-scheme:light dark;--line:#8884}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1.5rem}
h1{font-size:1.4rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.5rem .75rem .5rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td:first-child,td:nth-child(2){white-space:nowrap}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem}
dt{color:#888}
dd{margin:0;overflow-wrap:anywhere}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font:1rem/1.5 ui-monospace,monospace;border:1px solid var(--line);border-radius:.5rem;padding:1rem}
`;

/** Nothing but the page itself, and its own style: a letter brings nothing along. */
export const PAGE_POLICY = `default-src 'none'; style-src 'sha256-${hash("sha256", STYLE, "base64")}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'`;

const page = (title: string, body: string, refresh = ""): string =>
  `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">${refresh}` +
  `<title>${escaped(title)}</title><style>${STYLE}</style></head><body><main>${body}</main></body></html>`;

const time = (iso: string): string => `<time datetime="${iso}">${iso.slice(0, 19).replace("T", " ")}</time>`;

export function listPage(messages: readonly Kept[]): string {
  const rows = messages.map(
    ({ id, kind, recipient, subject, text, createdAt }) =>
      `<tr><td>${time(createdAt)}</td><td>${escaped(recipient)}</td><td><a href="/messages/${id}">${escaped(kind === "sms" ? text : subject)}</a></td></tr>`,
  );
  const list =
    rows.length === 0
      ? "<p>Nothing has come yet. What Polis sends lands here, since no server is set that sends it (SMTP_URL, SMS_URL).</p>"
      : `<table><thead><tr><th scope="col">Time (UTC)</th><th scope="col">To</th><th scope="col">Letter or text</th></tr></thead><tbody>${rows.join("")}</tbody></table>`;
  return page("Mailbox", `<h1>Mailbox</h1>${list}`, `<meta http-equiv="refresh" content="5">`);
}

export const letterPage = ({ kind, recipient, subject, text, createdAt }: Kept): string =>
  page(
    subject,
    `<p><a href="/">Mailbox</a></p><h1>${escaped(subject)}</h1>` +
      `<dl><dt>${kind === "email" ? "Letter to" : "Text to"}</dt><dd>${escaped(recipient)}</dd><dt>Time (UTC)</dt><dd>${time(createdAt)}</dd></dl>` +
      `<pre>${escaped(text)}</pre>`,
  );
