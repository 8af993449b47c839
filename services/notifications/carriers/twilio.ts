import type { SmsUrl } from "#platform/config/setting-types.ts";
import type { Carrier } from "./carrier.ts";

const ANSWER_MS = 15_000;
const ANSWER_BYTES_MAX = 64 * 1024;

/** Sends texts by Twilio's Messages resource (https://www.twilio.com/docs/messaging/api/message-resource), or whoever speaks as it does. */
export function twilioCarrier({ url, from }: { readonly url: SmsUrl; readonly from: string }): Carrier {
  const { base, account, token } = url;
  const address = `${base}/2010-04-01/Accounts/${encodeURIComponent(account)}/Messages.json`;
  const authorization = `Basic ${Buffer.from(`${account}:${token}`).toString("base64")}`;
  return {
    async carry({ to, text }, signal) {
      const answer = await fetch(address, {
        method: "POST",
        headers: { authorization, "content-type": "application/x-www-form-urlencoded", accept: "application/json" },
        body: new URLSearchParams({ To: to, From: from, Body: text }).toString(),
        redirect: "error",
        signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]),
      }).catch((error: Error) => {
        throw new Error(`the provider of texts isn't reached: ${causeIn(error)}`, { cause: error });
      });
      // The status decides. That the answer breaks off would only have the text sent once more.
      const said = await readAtMost(answer, ANSWER_BYTES_MAX).catch(() => "");
      if (answer.ok) return { kind: "taken" };
      const reason = `the provider of texts says: ${answer.status} ${messageIn(said)}`;
      // Of our own name, and of what may be otherwise soon: whoever runs us, or time, mends it.
      const isLater = answer.status >= 500 || [401, 403, 404, 408, 429].includes(answer.status);
      if (isLater) throw new Error(reason);
      return { kind: "refused", reason };
    },
    close: () => undefined,
  };
}

/** `fetch` says no more than that it failed; its cause says by what. */
const causeIn = ({ message, cause }: Error): string =>
  cause instanceof Error ? cause.message || String((cause as NodeJS.ErrnoException).code ?? cause.name) : message;

async function readAtMost(answer: Response, bytesMax: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of answer.body ?? []) {
    length += chunk.length;
    if (length > bytesMax) break;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function messageIn(said: string): string {
  try {
    return String((JSON.parse(said) as { message?: unknown }).message ?? "").slice(0, 300);
  } catch {
    return "";
  }
}
