import { Connection } from "rabbitmq-client";
import { rabbitUrl } from "#platform/config/setting-types.ts";
import { clientOptions, type RabbitConnection } from "#platform/tasks/rabbit-connection.ts";

/** The RabbitMQ that RABBITMQ_URL names, with names of its own there. Throws where none is named. */
export function testRabbit(prefix: string): RabbitConnection {
  const url = rabbitUrl.parse(process.env.RABBITMQ_URL ?? "");
  if (url === undefined) throw new Error("RABBITMQ_URL names no RabbitMQ");
  return { url, tls: undefined, prefix };
}

/** The library's own client, which goes on by itself where it was away. */
export function rabbitClient(connection: RabbitConnection): Connection {
  const client = new Connection(clientOptions(connection));
  client.on("error", () => undefined);
  return client;
}

/** The queues of the tasks that tests are made of (tasktest.proto). */
export const TEST_QUEUES = ["test.notes", "test.notes.p10", "test.reports", "test.statements", "test.scans"];

/** Deletes these queues of a prefix, and its dead letters, so that a RabbitMQ that tests share doesn't fill with them. */
export async function deleteQueues(connection: RabbitConnection, queues: readonly string[]): Promise<void> {
  const client = rabbitClient(connection);
  for (const queue of [...queues, "dead-letters"]) await client.queueDelete({ queue: `${connection.prefix}${queue}` });
  await client.close();
}
