import { fromBinary } from "@bufbuild/protobuf";
import { type TOTP, URI } from "otpauth";
import { AuthService, type SignInResponse, type Tokens, type TotpSetup } from "#contracts/polis/auth/v1/auth_pb.ts";
import { SecondFactorChangedSchema } from "#contracts/polis/auth/v1/events_pb.ts";
import { userCaller } from "#platform/access/caller.ts";
import { decodeRecordBatch } from "#platform/events/record-batch.ts";
import type { TestServices } from "#platform/process/services.testing.ts";
import { authClients, claimsOf, PASSWORD, someEmail } from "../auth.testing.ts";

const STEP_MS = 30_000;

/** An authenticator app on somebody's phone. */
export type App = {
  readonly totp: TOTP;
  /** The code that it shows, or is to show in so many steps. */
  code(stepsLater?: number): string;
  /** One that isn't good now, nor was a moment ago or is in a moment. */
  wrongCode(): string;
};

/** The app that has read the QR code. */
export function appOf({ uri }: Pick<TotpSetup, "uri">): App {
  const totp = URI.parse(uri) as TOTP;
  const code = (stepsLater = 0): string => totp.generate({ timestamp: Date.now() + stepsLater * STEP_MS });
  return {
    totp,
    code,
    wrongCode() {
      const near = [-3, -2, -1, 0, 1, 2, 3].map(code);
      return ["000000", "111111", "222222", "333333", "444444", "555555", "666666", "777777"].find((one) => !near.includes(one)) ?? "";
    },
  };
}

export function challengeIn({ outcome }: SignInResponse): string {
  if (outcome.case !== "secondFactor") throw new Error(`signed in with ${outcome.case}`);
  return outcome.value.challengeId;
}

export function secondFactorClients(services: TestServices) {
  const clients = authClients(services);
  const database = services.database("auth");
  /** As the user whom these tokens name, with what they say of the second factor. */
  const as = (tokens: Tokens) =>
    services.client(AuthService, userCaller(tokens.userId, { sessionId: tokens.sessionId, secondFactor: claimsOf(tokens).mfa === true }));
  const letCodesPass = (userId: string) =>
    database.query({ text: "UPDATE second_factors SET last_step = 0 WHERE user_id = $1", values: [userId] });
  return {
    ...clients,
    database,
    as,
    /** As if the codes that were used had been used long ago: the one that the app shows is good again. */
    letCodesPass,
    refresh: ({ refreshToken }: Tokens) => clients.guest.refresh({ refreshToken }),
    /** A new account with a second factor, none of whose codes is used. */
    async enrol(contact = someEmail()) {
      const first = await clients.register(contact);
      const app = appOf(await as(first).beginTotp({ password: PASSWORD }));
      const { tokens, recoveryCodes } = await as(first).confirmTotp({ code: app.code() });
      if (tokens === undefined) throw new Error("no tokens");
      await letCodesPass(first.userId);
      return { contact, userId: first.userId, first, tokens, app, recoveryCodes };
    },
    /** What was published of a second factor, in order. */
    async changesOf(userId: string): Promise<string[]> {
      const { rows } = await database.query<{ records: Buffer }>({ text: "SELECT records FROM outbox ORDER BY id" });
      return rows
        .flatMap(({ records }) => decodeRecordBatch(records))
        .filter(({ type, key }) => type === SecondFactorChangedSchema.typeName && key === userId)
        .map(({ payload }) => fromBinary(SecondFactorChangedSchema, payload).data)
        .map((data) => `${data?.change} ${data?.on ? "on" : "off"}`);
    },
  };
}
