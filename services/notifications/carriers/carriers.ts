import { readCertificates } from "#platform/config/certificates.ts";
import { file, mailAddress, port, smsUrl, smtpUrl, text } from "#platform/config/setting-types.ts";
import { setting } from "#platform/config/settings.ts";
import { resource } from "#platform/resource.ts";
import type { Carrier } from "./carrier.ts";
import { mailboxCarrier } from "./mailbox.ts";
import { type MailboxServer, startMailboxServer } from "./mailbox-server.ts";
import { smtpCarrier } from "./smtp.ts";
import { twilioCarrier } from "./twilio.ts";

const settings = {
  smtpUrl: setting({
    name: "SMTP_URL",
    type: smtpUrl,
    default: undefined,
    text: "server that sends letters; without it, they land in a mailbox on this machine",
  }),
  smtpFrom: setting({
    name: "SMTP_FROM",
    type: mailAddress,
    default: { name: "Polis", address: "no-reply@localhost" },
    needs: "SMTP_URL",
    text: "who letters are from",
  }),
  smtpCaFile: setting({
    name: "SMTP_CA_FILE",
    type: file,
    default: undefined,
    needs: "SMTP_URL",
    text: "PEM file of the authorities that sign its certificate; without it, those that Node knows",
  }),
  smsUrl: setting({
    name: "SMS_URL",
    type: smsUrl,
    default: undefined,
    text: "who sends texts by Twilio's API, as https://AccountSid:AuthToken@api.twilio.com; without it, they land in the mailbox",
  }),
  smsFrom: setting({
    name: "SMS_FROM",
    type: text,
    default: "Polis",
    needs: "SMS_URL",
    text: "who texts are from: a number or a name of the provider's",
  }),
  mailboxPort: setting({
    name: "MAILBOX_PORT",
    type: port,
    default: undefined,
    text: "port of the mailbox on 127.0.0.1, where there is one; 0 takes a free one; without it, 8025, or a free one where that is taken",
  }),
};

export type Carriers = { readonly email: Carrier; readonly sms: Carrier; readonly mailbox: MailboxServer | undefined };

/** Whoever carries letters and texts: a server and a provider, where they are set, or else the mailbox. */
export const carriers = resource("notifications.carriers", {
  settings,
  async open({ settings: said, database, log }): Promise<Carriers> {
    const { ca } = await readCertificates("SMTP", { caFile: said.smtpCaFile, certFile: undefined, keyFile: undefined });
    const email =
      said.smtpUrl === undefined ? mailboxCarrier(database, "email") : smtpCarrier({ url: said.smtpUrl, from: said.smtpFrom, ca });
    const sms = said.smsUrl === undefined ? mailboxCarrier(database, "sms") : twilioCarrier({ url: said.smsUrl, from: said.smsFrom });
    if (said.smtpUrl !== undefined && said.smsUrl !== undefined) return { email, sms, mailbox: undefined };
    const mailbox = await startMailboxServer(database, said.mailboxPort, log);
    const what = said.smtpUrl !== undefined ? "texts" : said.smsUrl !== undefined ? "letters" : "letters and texts";
    log.info({ url: mailbox.url }, `${what} are sent to nobody: they land in the mailbox`);
    return { email, sms, mailbox };
  },
  async close({ email, sms, mailbox }) {
    email.close();
    sms.close();
    await mailbox?.close();
  },
});
