import { expect, test } from "vitest";
import { ReadGate } from "#platform/reads/read-gate.ts";

const open = () => ({ signal: new AbortController().signal, cancelled: false });

/** A read that ends when it is told to. */
function held() {
  const { promise, resolve } = Promise.withResolvers<string>();
  let begun = false;
  const read = (): Promise<string> => {
    begun = true;
    return promise;
  };
  return { read, end: () => resolve("read"), isBegun: () => begun };
}

test("so many reads run at once, and the next begins when one ends", async () => {
  const gate = new ReadGate(2, 10);
  const reads = [held(), held(), held()] as const;
  const answers = reads.map(({ read }) => gate.run(open(), read));
  expect(reads.map(({ isBegun }) => isBegun())).toEqual([true, true, false]);
  reads[0].end();
  await answers[0];
  await Promise.resolve();
  expect(reads[2].isBegun()).toBe(true);
  reads[1].end();
  reads[2].end();
  expect(await Promise.all(answers)).toEqual(["read", "read", "read"]);
});

test("who gives up while waiting leaves the queue, and the next in it isn't held up", async () => {
  const gate = new ReadGate(1, 10);
  const [first, second, third] = [held(), held(), held()];
  const running = gate.run(open(), first.read);
  const controller = new AbortController();
  const given = gate.run({ signal: controller.signal, cancelled: false }, second.read);
  const last = gate.run(open(), third.read);
  controller.abort(new Error("gone"));
  await expect(given).rejects.toThrow("gone");
  first.end();
  await running;
  third.end();
  expect(await last).toBe("read");
  expect(second.isBegun()).toBe(false);
});

test("past the bound of what may wait, the reader is told to try later", async () => {
  const gate = new ReadGate(1, 1);
  const [first, second] = [held(), held()];
  const answers = [gate.run(open(), first.read), gate.run(open(), second.read)];
  await expect(gate.run(open(), first.read)).rejects.toMatchObject({ status: "RESOURCE_EXHAUSTED", code: "overloaded" });
  first.end();
  second.end();
  await Promise.all(answers);
});

test("a read that fails gives its place back", async () => {
  const gate = new ReadGate(1, 1);
  await expect(gate.run(open(), () => Promise.reject(new Error("broken")))).rejects.toThrow("broken");
  expect(await gate.run(open(), async () => "read")).toBe("read");
});
