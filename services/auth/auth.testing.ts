import { randomInt, randomUUID } from "node:crypto";
import { fromBinary } from "@bufbuild/protobuf";
import { AuthService, type SignInResponse, type Tokens } from "#contracts/polis/auth/v1/auth_pb.ts";
import { type SendLetter, SendLetterSchema } from "#contracts/polis/auth/v1/tasks_pb.ts";
import { nobody, serviceCaller, userCaller } from "#platform/access/caller.ts";
import { type TestServices, testSecrets } from "#platform/process/services.testing.ts";
import { deriveSecrets } from "./codes/derived-secrets.ts";
import type { Contact } from "./users/contact.ts";

/** No two tests share an address, and so no limit. */
export const someEmail = (): Contact => ({ case: "email", value: `user-${randomUUID()}@example.com` });
export const somePhone = (): Contact => ({ case: "phone", value: `+1${randomInt(10 ** 9, 10 ** 10 - 1)}` });
export const PASSWORD = "seven purple otters dance";

const derived = deriveSecrets(testSecrets);
/** The code that was sent for a challenge. */
export const codeOf = ({ challengeId }: { readonly challengeId: string }): string => derived.codeOf(challengeId);
/** What answers a challenge by that. */
export const answerTo = (challenge: { readonly challengeId: string }) => ({ challengeId: challenge.challengeId, code: codeOf(challenge) });
/** Another than that. */
export const wrongCodeOf = (challenge: { readonly challengeId: string }): string =>
  String((Number(codeOf(challenge)) + 1) % 1_000_000).padStart(6, "0");

/** The code of the no that a call gets; `answered` where it gets none. */
export const failure = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => "answered",
    ({ code }) => code as string,
  );

/** What an access token says, unverified. */
export const claimsOf = ({ accessToken }: Pick<Tokens, "accessToken">): Record<string, unknown> =>
  JSON.parse(Buffer.from(accessToken.split(".")[1] ?? "", "base64url").toString());

export function tokensIn({ outcome }: SignInResponse): Tokens {
  if (outcome.case !== "tokens") throw new Error(`signed in with ${outcome.case}`);
  return outcome.value;
}

/** Clients of auth as whoever calls it. */
export function authClients(services: TestServices) {
  const guest = services.client(AuthService, nobody);
  return {
    guest,
    gateway: services.client(AuthService, serviceCaller("gateway")),
    /** As the user with the session of these tokens. */
    as: ({ userId, sessionId }: Tokens) => services.client(AuthService, userCaller(userId, { sessionId })),
    admin: services.client(AuthService, userCaller(randomUUID(), { roles: ["admin"], secondFactor: true })),
    /** A new account, signed in. */
    async register(contact: Contact = someEmail(), password = PASSWORD): Promise<Tokens> {
      const { challengeId } = await guest.signUp({ contact, password });
      return guest.confirmSignUp(answerTo({ challengeId }));
    },
  };
}

/** The letters that an account's address is to get, the last one last. */
export async function lettersTo(services: TestServices, contact: Contact): Promise<SendLetter[]> {
  const { rows } = await services.database("auth").query<{ payload: Uint8Array }>({
    text: "SELECT payload FROM tasks WHERE type = $1 ORDER BY id",
    values: [SendLetterSchema.typeName],
  });
  return rows.map(({ payload }) => fromBinary(SendLetterSchema, payload)).filter((letter) => letter.contact.value === contact.value);
}
