// What somebody would write who needs nothing but this route: Fastify, a schema, a pool, an INSERT. `plain-fastify.ts FOLDER`
import { readFile } from "node:fs/promises";
import Fastify from "fastify";
import { Pool } from "pg";
import { uuidv7 } from "#platform/ids.ts";
import { answerJobs } from "./child.ts";

export type Origin = { readonly origin: string };

const [connectionFile = ""] = process.argv.slice(2);
const POOL = 20;

type Body = { amount: string; currency?: string; description?: string };

const pool = new Pool({ ...JSON.parse(await readFile(connectionFile, "utf8")), max: POOL });
pool.on("error", (error) => {
  throw error;
});
const app = Fastify();
/** Whom a token names; believed, and read once. */
const users = new Map<string, string>();
function userOf(authorization: string): string {
  let user = users.get(authorization);
  if (user === undefined) {
    user = String(JSON.parse(Buffer.from(authorization.split(".")[1] ?? "", "base64url").toString()).sub);
    users.set(authorization, user);
  }
  return user;
}

app.post<{ Body: Body; Headers: { authorization: string } }>(
  "/orders",
  {
    schema: {
      headers: { type: "object", required: ["authorization"], properties: { authorization: { type: "string" } } },
      body: {
        type: "object",
        required: ["amount"],
        additionalProperties: false,
        properties: {
          amount: { type: "string", pattern: "^[1-9][0-9]{0,18}$" },
          currency: { type: "string", pattern: "^[A-Z]{3}$" },
          description: { type: "string", maxLength: 2000 },
        },
      },
      response: {
        201: {
          type: "object",
          properties: Object.fromEntries(
            ["id", "userId", "amount", "currency", "description", "status", "createdAt"].map((name) => [name, { type: "string" }]),
          ),
        },
      },
    },
  },
  async (request, reply) => {
    const { amount, currency = "RUB", description = "" } = request.body;
    const order = {
      id: uuidv7(),
      userId: userOf(request.headers.authorization),
      amount,
      currency,
      description,
      status: "NEW",
      createdAt: new Date().toISOString(),
    };
    await pool.query({
      name: "insert",
      text: "INSERT INTO orders (id, user_id, amount, currency, description, status, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
      values: Object.values(order),
    });
    return reply.code(201).send(order);
  },
);

answerJobs<object, Origin>(
  async () => ({ origin: await app.listen({ port: 0, host: "127.0.0.1" }) }),
  async () => {
    await app.close();
    await pool.end();
  },
);
