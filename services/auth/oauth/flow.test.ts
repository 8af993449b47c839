import { expect, test } from "vitest";
import { secretsOf } from "#platform/access/secrets.ts";
import { openFlowSecrets } from "./flow.ts";

const [first, second] = ["the first secret of a deployment, long enough", "the second secret of a deployment, long enough"] as const;

test("a flow is finished with the verifier and the nonce that it began with, though the deployment's secret is changed meanwhile", () => {
  const { secret, verifier, nonce } = openFlowSecrets(secretsOf([first])).of("state");
  expect(openFlowSecrets(secretsOf([second, first])).open("state", secret)).toMatchObject({ verifier, nonce });
  expect(openFlowSecrets(secretsOf([second])).open("state", secret)).toBeUndefined();
});

test("what belongs to a flow is told apart, and from that of another", () => {
  const secrets = openFlowSecrets(secretsOf([first]));
  const [one, other] = [secrets.of("one"), secrets.of("other")];
  expect(new Set([...Object.values(one), ...Object.values(other)]).size).toBe(6);
  // RFC 7636, 4.1.
  for (const { verifier } of [one, other]) expect(verifier).toMatch(/^[A-Za-z0-9._~-]{43,128}$/);
  for (const wrong of [other.secret, one.verifier, one.nonce, "", `${one.secret}x`]) expect(secrets.open("one", wrong)).toBeUndefined();
});
