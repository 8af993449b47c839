import { generateKeyPairSync } from "node:crypto";
import { jwtVerify } from "jose";
import { expect, test } from "vitest";
import { appleAuth } from "./apple-secret.ts";

test("Apple gets a secret that the operator's key has signed just now, for this client and Apple alone, good for minutes", async () => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  const body = new URLSearchParams();
  await appleAuth({ clientId: "com.example.app", teamId: "TEAM", keyId: "KEY", privateKey: pem })(
    { issuer: "https://appleid.apple.com" },
    { client_id: "com.example.app" },
    body,
    new Headers(),
  );
  expect(body.get("client_id")).toBe("com.example.app");
  const expected = { issuer: "TEAM", audience: "https://appleid.apple.com", subject: "com.example.app", algorithms: ["ES256"] };
  const { payload, protectedHeader } = await jwtVerify(body.get("client_secret") ?? "", publicKey, { ...expected, maxTokenAge: 5 });
  expect(protectedHeader).toEqual({ alg: "ES256", kid: "KEY" });
  expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBe(300);
});
