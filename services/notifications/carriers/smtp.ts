import { createTransport } from "nodemailer";
import type { MailAddress, SmtpUrl } from "#platform/config/setting-types.ts";
import type { Carrier } from "./carrier.ts";

const CONNECT_MS = 10_000;
const SILENCE_MS = 20_000;
/** Less than the task's time limit: the task still tells then that its last try has failed. */
const LIMIT_MS = 45_000;
const CONNECTIONS_MAX = 4;

type SmtpError = Error & { readonly responseCode?: number; readonly command?: string; readonly response?: string };

/** Sends letters through an SMTP server, over few connections that are kept. */
export function smtpCarrier({
  url,
  from,
  ca,
  limitMs = LIMIT_MS,
}: {
  readonly url: SmtpUrl;
  readonly from: MailAddress;
  readonly ca: string | undefined;
  readonly limitMs?: number;
}): Carrier {
  const { host, port, security, user } = url;
  const transport = createTransport({
    pool: true,
    maxConnections: CONNECTIONS_MAX,
    host,
    port,
    secure: security === "tls",
    requireTLS: security === "starttls",
    // A mail server of this machine has a certificate that nobody has signed, as a rule. Whoever trusts an authority wants it.
    ignoreTLS: security === "none" && ca === undefined,
    ...(user === undefined ? {} : { auth: { user: user.name, pass: user.password } }),
    ...(ca === undefined ? {} : { tls: { ca } }),
    connectionTimeout: CONNECT_MS,
    greetingTimeout: CONNECT_MS,
    socketTimeout: SILENCE_MS,
    // Nothing of a letter is read from elsewhere.
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  const domain = from.address.slice(from.address.lastIndexOf("@") + 1);
  return {
    async carry({ id, to, subject, text, html }, signal) {
      const limit = AbortSignal.timeout(limitMs);
      try {
        // The id is the same in every try: who gets it twice, since we were killed in between, can tell.
        const letter = { from: { ...from }, to: { name: "", address: to }, subject, text, html, messageId: `<${id}@${domain}>` };
        // Who gives up leaves nothing behind: what waits for a connection goes, and so does the connection that it has.
        await transport.sendMail({ ...letter, signal: AbortSignal.any([signal, limit]) });
        return { kind: "taken" };
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (limit.aborted) throw new Error(`the mail server takes longer than ${limitMs} ms`, { cause: error });
        if (!isRefusal(error as SmtpError)) throw error;
        return { kind: "refused", reason: `the mail server says: ${(error as SmtpError).response ?? (error as Error).message}` };
      }
    },
    close: () => transport.close(),
  };
}

/**
 * 5xx about the recipient or the letter. What is said to the greeting, to the user or to the sender is about us: whoever runs us mends
 * that, and the letter goes then. So is a server that wants a user first (530, 535, and 503 of some).
 */
const isRefusal = ({ responseCode = 0, command = "" }: SmtpError): boolean =>
  responseCode >= 500 && ![503, 530, 535].includes(responseCode) && ["RCPT TO", "DATA"].includes(command);
