import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { secretsOf } from "#platform/access/secrets.ts";
import { deriveSecrets } from "./derived-secrets.ts";

const [BEFORE, NOW] = ["the secret of before, of thirty-two characters", "the secret that is now, of thirty-two characters"] as const;
const [before, now, both] = [deriveSecrets(secretsOf([BEFORE])), deriveSecrets(secretsOf([NOW])), deriveSecrets(secretsOf([NOW, BEFORE]))];
const ids = Array.from({ length: 2_000 }, () => randomUUID());

test("a code is six digits, and its challenge's alone", () => {
  const codes = ids.map((id) => now.codeOf(id));
  expect(codes.every((code) => /^\d{6}$/.test(code))).toBe(true);
  // Two thousand of a million: that more than a dozen are twice there is as good as impossible.
  expect(new Set(codes).size).toBeGreaterThan(ids.length - 12);
  for (const digit of "0123456789") expect(codes.some((code) => code.startsWith(digit))).toBe(true);
  expect(now.isCodeOf(ids[0]!, codes[0]!)).toBe(true);
  expect(now.isCodeOf(ids[1]!, codes[0]!)).toBe(codes[0] === codes[1]);
});

test("what isn't six digits is no code, whatever it is", () => {
  const code = now.codeOf(ids[0]!);
  for (const odd of ["", code.slice(1), `${code}0`, ` ${code}`, "٠٠٠٠٠٠", "☃".repeat(6), "\0".repeat(6)])
    expect(now.isCodeOf(ids[0]!, odd)).toBe(false);
});

test("while the deployment's secret is changed, codes and refresh tokens of before are good, and new ones are of the new one", () => {
  const id = ids[0]!;
  const session = { sessionId: id, generation: 4_294_967_295 };
  expect(both.isCodeOf(id, before.codeOf(id))).toBe(true);
  expect(both.readRefreshToken(before.refreshToken(session))).toEqual(session);
  expect([both.codeOf(id), both.refreshToken(session)]).toEqual([now.codeOf(id), now.refreshToken(session)]);
  expect(now.readRefreshToken(before.refreshToken(session))).toBeUndefined();
  expect(ids.filter((each) => now.isCodeOf(each, before.codeOf(each))).length).toBeLessThan(5);
});

test("a refresh token names its session and its generation, and no other token is that of either", () => {
  const [a, b] = [ids[0]!, ids[1]!];
  expect(now.readRefreshToken(now.refreshToken({ sessionId: a, generation: 7 }))).toEqual({ sessionId: a, generation: 7 });
  const tokens = [a, b].flatMap((sessionId) => [1, 2].map((generation) => now.refreshToken({ sessionId, generation })));
  expect(new Set(tokens).size).toBe(4);
  // One's name under another's seal.
  const [mine, others] = [Buffer.from(tokens[0]!, "base64url"), Buffer.from(tokens[1]!, "base64url")];
  expect(now.readRefreshToken(Buffer.concat([mine.subarray(0, 20), others.subarray(20)]).toString("base64url"))).toBeUndefined();
});
