import { randomUUID } from "node:crypto";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import fc from "fast-check";
import { Pool } from "undici";
import { afterAll, expect, test } from "vitest";
import { accessTokens } from "../services/auth/keys/access-tokens.testing.ts";
import { type FuzzedRequest, type Node, type Operation, operationsOf, requestsOf, resolved } from "./support/openapi-requests.ts";
import { SECRET, testDatabases } from "./support/test-databases.ts";
import { startTestPolis } from "./support/test-polis.ts";

/*
 * Requests made by chance from the OpenAPI document, sound and broken: none is a fault of ours, and each answer is as the document says.
 * FUZZ_RUNS says how many; CI makes 20,000. A run that fails tells its seed, by which FUZZ_SEED repeats it.
 */

const RUNS = Number(process.env.FUZZ_RUNS ?? 500);
const SEED = Number(process.env.FUZZ_SEED ?? Date.now() % 2 ** 31);
const AT_ONCE = 16;

const databases = await testDatabases();
// Limits would answer most of them, and the making of requests keeps the same event loop.
const polis = await startTestPolis(databases, {
  environment: { LIMIT_PER_ADDRESS: "off", LIMIT_PER_CALLER: "off", EVENT_LOOP_DELAY_MAX_MS: "60000" },
});
const pool = new Pool(polis.http, { connections: AT_ONCE });
afterAll(() => pool.close());

const document = (await (await fetch(`${polis.http}/swagger/doc.json`)).json()) as Node;
const operations = operationsOf(document);
const ajv = new Ajv2020({ strict: false, allErrors: false, validateFormats: true });
addFormats.default(ajv);
ajv.addSchema({ $id: "document", ...document });

const tokenOf = await accessTokens((text) => databases.query("auth", text), SECRET);
const somebody = randomUUID();
const identities = fc.constantFrom<Record<string, string>>(
  {},
  ...Array.from({ length: 4 }, () => ({ authorization: `Bearer ${tokenOf(somebody)}` })),
  { authorization: `Bearer ${tokenOf(randomUUID(), { roles: ["admin", "support", "auditor"], secondFactor: true })}` },
  { authorization: "Bearer x.y.z" },
  { authorization: "\u00ff" },
  { "x-api-key": `polis_${"A".repeat(22)}_${"A".repeat(43)}` },
  { "x-user-id": somebody },
);

type Answer = { readonly status: number; readonly type: string; readonly text: string };

async function send({ method, path, headers, body }: FuzzedRequest): Promise<Answer> {
  const answer = await pool.request({ method: method as "GET", path, headers, body: body ?? null });
  return {
    status: answer.statusCode,
    type: String(answer.headers["content-type"] ?? "").split(";")[0] ?? "",
    text: await answer.body.text(),
  };
}

/** What of an answer isn't as the document says; undefined where all is. */
function fault({ path, method, operation }: Operation, { status, type, text }: Answer): string | undefined {
  if (status >= 500) return `it is a fault of ours: ${status} ${text}`;
  // A value that empties a part of the path is another address.
  if (status === 404 && text.includes('"route_not_found"')) return undefined;
  const said = operation.responses[String(status)];
  if (said === undefined) return `${method} ${path} doesn't tell of ${status}: ${text}`;
  const content = resolved(document, said).content;
  if (content === undefined) return text === "" ? undefined : `there is a body where none is told of: ${text}`;
  const media = content[type] ?? content["*/*"];
  if (media === undefined) return `it is ${type}, which isn't told of`;
  if (media.schema === undefined) return undefined;
  const validate = validatorOf(media.schema);
  return validate(JSON.parse(text)) ? undefined : `its body isn't as told: ${ajv.errorsText(validate.errors)} in ${text}`;
}

const validators = new Map<object, ReturnType<typeof ajv.compile>>();
function validatorOf(schema: Node): ReturnType<typeof ajv.compile> {
  const known = validators.get(schema) ?? ajv.compile(JSON.parse(JSON.stringify(schema).replaceAll('"#/', '"document#/')));
  validators.set(schema, known);
  return known;
}

/** A few at a time: while they are made, nobody in this process hears of anything else. */
async function requestsByChance(operation: Operation, count: number, seed: number): Promise<FuzzedRequest[]> {
  const made: FuzzedRequest[] = [];
  for (let n = 0; made.length < count; n += 1) {
    made.push(
      ...fc.sample(requestsOf(document, operation, identities), { numRuns: Math.min(25, count - made.length), seed: seed + n * 1_000 }),
    );
    await new Promise(setImmediate);
  }
  return made;
}

test(`${RUNS} requests made from the document are answered as it says, and none is a fault of ours`, { timeout: 600_000 }, async () => {
  expect(operations.length).toBeGreaterThan(20);
  const statuses = new Map<number, number>();
  const numRuns = Math.ceil(RUNS / operations.length);
  const faults: string[] = [];
  for (const [i, operation] of operations.entries()) {
    const requests = await requestsByChance(operation, numRuns, SEED + i);
    const found: string[] = [];
    const worker = async (): Promise<void> => {
      for (let request = requests.pop(); request !== undefined && found.length === 0; request = requests.pop()) {
        const answer = await send(request);
        statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
        const said = fault(operation, answer);
        if (said !== undefined) found.push(`${request.method} ${request.path} ${request.body ?? ""}: ${said}`.slice(0, 700));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    faults.push(...found.slice(0, 1));
  }
  expect(faults, `FUZZ_SEED=${SEED}`).toEqual([]);
  // Not all of them were turned away at the door.
  expect([...statuses.keys()].filter((status) => status < 300)).not.toEqual([]);
  expect(statuses.get(400)).toBeGreaterThan(0);
});
