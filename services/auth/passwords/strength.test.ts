import { afterAll, expect, test } from "vitest";
import { openStrength } from "./strength.ts";

const { weakness, close } = openStrength();
afterAll(close);
const isWeak = async (password: string, ...own: string[]) => (await weakness(password, own))?.code === "weak_password";

test.each([
  ["that many have", "password1234"],
  ["of keys beside each other", "qwertyuiop[]"],
  ["that is one letter, however long", "a".repeat(256)],
  ["of two letters", "ab".repeat(128)],
  ["that is a date", "19.05.1990"],
  ["that many have, in other letters", "p4$$w0rd!!"],
])("a password %s is weak", async (_, password) => expect(await isWeak(password)).toBe(true));

test("a password that tells its owner's address is weak, and another's isn't", async () => {
  expect(await isWeak("anna.petrova99", "anna.petrova99@mail.example")).toBe(true);
  expect(await isWeak("anna.petrova99", "boris@mail.example")).toBe(false);
});

test.each([
  ["before the @", "zyx-wob.klm7", "zyx-wob.klm7@mail.example"],
  ["that is long", `qzj-${"vw7-".repeat(20)}@mail.example`, `qzj-${"vw7-".repeat(20)}@mail.example`],
  ["of a phone", "+14155552671", "+14155552671"],
])("what stands in an address %s is weak for who has it alone", async (_, password, own) => {
  expect(await isWeak(password, own)).toBe(true);
  expect(await isWeak(password, "boris@mail.example")).toBe(false);
});

test.each(["seven purple otters dance", "Kx9#mQ2vLp!z", "семь лиловых выдр"])("%s is strong", async (password) =>
  expect(await isWeak(password)).toBe(false),
);

test("any text is looked at, and what stands behind the first letters makes it no weaker", async () => {
  for (const odd of [
    "4@8({[<69&3€1!|7$5%+20zZ".repeat(11),
    "p4$$w0rd".repeat(32),
    "\u0000".repeat(40),
    "💣".repeat(128),
    "\ud800x".repeat(20),
  ])
    expect(await isWeak(odd)).toBeTypeOf("boolean");
  expect(await isWeak(`seven purple otters dance${"a".repeat(200)}`)).toBe(false);
});

test("while passwords are looked at, the process does other things", async () => {
  await isWeak("the thread is there now");
  let turns = 0;
  const timer = setInterval(() => {
    turns += 1;
  }, 1);
  await Promise.all(Array.from({ length: 10 }, (_, n) => isWeak(`${n}${"ab".repeat(100)}`)));
  clearInterval(timer);
  expect(turns).toBeGreaterThan(10);
});

test("so many wait, and the next is told to come again", async () => {
  const asked = await Promise.allSettled(Array.from({ length: 70 }, (_, n) => isWeak(`${n} seven purple otters`)));
  const refused = asked.filter(({ status }) => status === "rejected") as PromiseRejectedResult[];
  expect(refused).toHaveLength(6);
  expect(refused[0]?.reason).toMatchObject({ status: "RESOURCE_EXHAUSTED", code: "overloaded", retryAfterMs: 2_000 });
  expect(await isWeak("seven purple otters dance")).toBe(false);
});

test("a thread that ended has another in its place", async () => {
  const own = openStrength();
  await own.weakness("seven purple otters dance", []);
  const asked = own.weakness("seven purple otters dance", []).catch(({ status }) => status);
  await own.close();
  expect(await asked).toBe("UNAVAILABLE");
  expect(await own.weakness("seven purple otters dance", [])).toBeUndefined();
  await own.close();
});
