import { request } from "undici";
import { until } from "./until.ts";

export type Letter = {
  readonly id: string;
  readonly kind: "email" | "sms";
  readonly recipient: string;
  readonly subject: string;
  readonly text: string;
};

/** The mailbox at this port, as tests read it: by its API. */
export function mailboxAt(port: number) {
  const url = `http://127.0.0.1:${port}`;
  const lettersTo = async (to: string): Promise<Letter[]> => {
    const answer = await request(`${url}/api/messages?to=${encodeURIComponent(to)}`);
    return ((await answer.body.json()) as { messages: Letter[] }).messages;
  };
  return {
    url,
    lettersTo,
    /** The code in the last letter with this in its subject, once it has come. */
    async codeTo(to: string, subject: RegExp): Promise<string> {
      let code: string | undefined;
      await until(`a letter to ${to} with a code`, async () => {
        const letter = (await lettersTo(to)).find((one) => subject.test(one.kind === "sms" ? one.text : one.subject));
        code = letter && /\b\d{6}\b/.exec(letter.text)?.[0];
        return code !== undefined;
      });
      return code as string;
    },
  };
}
