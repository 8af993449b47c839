import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { ResealSecondFactorsSchema } from "#contracts/polis/auth/v1/tasks_pb.ts";
import { secretsOf } from "#platform/access/secrets.ts";
import { testSecrets, testServices } from "#platform/process/services.testing.ts";
import { find } from "#platform/reads/query.ts";
import { authService } from "../service.ts";
import { secondFactors } from "../tables.ts";
import { toReseal } from "./reseal-second-factors.ts";
import { secondFactorClients } from "./second-factor.testing.ts";
import { accept, resealed } from "./second-factor.ts";
import { openSecrets } from "./second-factor-secrets.ts";

const services = await testServices(authService);
const { enrol, database } = secondFactorClients(services);
const LAST = "a secret of the tests, of thirty-two characters and more";
const NEXT = "the next secret of the tests, of thirty-two characters too";
const now = () => timestampFromMs(Date.now());

test("what is sealed anew under the next secret opens without the last one, recovery codes and all; without it not", async () => {
  const { userId, app, recoveryCodes } = await enrol();
  const both = openSecrets(secretsOf([NEXT, LAST]));
  const next = openSecrets(secretsOf([NEXT]));
  const factor = (await find(database, secondFactors.row(userId)))!;
  expect(await toReseal(database, both)).toContain(userId);
  expect(await toReseal(database, openSecrets(secretsOf([LAST, NEXT])))).not.toContain(userId);
  expect(() => accept(next, factor, app.code(), now())).toThrow(/an admin may reset it/);
  const again = resealed(both, factor);
  expect(again.sealedBy).not.toBe(factor.sealedBy);
  expect(accept(next, again, app.code(), now())).toMatchObject({ isRecoveryCode: false });
  expect(accept(next, again, recoveryCodes[3] ?? "", now())).toMatchObject({ isRecoveryCode: true });
});

test("the task leaves alone what lies under the key of now", async () => {
  const { userId } = await enrol();
  const before = await find(database, secondFactors.row(userId));
  expect(before?.sealedBy).toBe(openSecrets(testSecrets).keyName);
  await services.begin();
  const id = await services.enqueue("auth", ResealSecondFactorsSchema, {});
  const state = async () =>
    (await database.query<{ state: string }>({ text: "SELECT state FROM tasks WHERE id = $1", values: [id] })).rows[0]?.state;
  await expect.poll(state).toBe("DONE");
  expect(await find(database, secondFactors.row(userId))).toEqual(before);
});
