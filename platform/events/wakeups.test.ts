import { Client } from "pg";
import { afterEach, expect, test, vi } from "vitest";
import { testTimings } from "#platform/events/event-log.testing.ts";
import { openWakeups, type Wakeups } from "#platform/events/wakeups.ts";
import { testDatabaseConnection, testLog } from "#platform/postgres/database.testing.ts";

const connection = await testDatabaseConnection();
const opened: Wakeups[] = [];

async function connect(): Promise<Client> {
  const client = new Client(connection);
  await client.connect();
  return client;
}

function open(connecting = connect): Wakeups {
  const wakeups = openWakeups({ log: testLog, timings: testTimings, connect: connecting });
  opened.push(wakeups);
  return wakeups;
}

afterEach(async () => {
  await Promise.all(opened.splice(0).map((one) => one.close()));
});

test("wakes who listens to the subject in another process, and not oneself; many wake-ups become few", async () => {
  const [a, b] = [open(), open()];
  const [own, wake, other] = [vi.fn(), vi.fn(), vi.fn()];
  a.on("log", own);
  b.on("log", wake);
  b.on("outbox orders", other);
  // All are woken once when their session is there.
  await vi.waitFor(() => {
    for (const mock of [own, wake, other]) expect(mock).toHaveBeenCalled();
  });
  for (const mock of [own, wake, other]) mock.mockClear();
  for (let n = 0; n < 1_000; n++) a.notify("log");
  await vi.waitFor(() => expect(wake).toHaveBeenCalledTimes(1));
  expect(own).not.toHaveBeenCalled();
  expect(other).not.toHaveBeenCalled();
});

test("comes back after its session was lost, and wakes everybody for what was missed", async () => {
  const wakeups = open();
  const wake = vi.fn();
  wakeups.on("log", wake);
  await vi.waitFor(() => expect(wake).toHaveBeenCalled());
  wake.mockClear();
  const killer = new Client(connection);
  await killer.connect();
  await killer.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
  );
  await killer.end();
  await vi.waitFor(() => expect(wake).toHaveBeenCalled(), { timeout: 10_000 });
});

test("leaves no session and no listener behind where LISTEN is refused, as a standby refuses it", async () => {
  const added = vi.spyOn(AbortSignal.prototype, "addEventListener");
  const removed = vi.spyOn(AbortSignal.prototype, "removeEventListener");
  let tries = 0;
  open(async () => {
    const client = await connect();
    tries += 1;
    client.query = (() => Promise.reject(new Error("cannot execute LISTEN during recovery"))) as typeof client.query;
    return client;
  });
  await vi.waitFor(() => expect(tries).toBeGreaterThan(5), { timeout: 10_000 });
  expect(added.mock.calls.length - removed.mock.calls.length).toBeLessThan(4);
  const watcher = await connect();
  await vi.waitFor(async () => {
    const { rows } = await watcher.query(
      "SELECT count(*)::int AS others FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    expect(rows[0].others).toBeLessThan(3);
  });
  await watcher.end();
  vi.restoreAllMocks();
});
