import { expect, test } from "vitest";
import { emailList, mailAddress, type SettingType, smsUrl, smtpUrl } from "./setting-types.ts";
import { describeSettings, readSettings, type SettingsError, setting } from "./settings.ts";

const table = {
  smtp: setting({ name: "SMTP_URL", type: smtpUrl, default: undefined, text: "letters" }),
  sms: setting({ name: "SMS_URL", type: smsUrl, default: undefined, text: "texts" }),
  from: setting({ name: "SMTP_FROM", type: mailAddress, default: undefined, text: "who letters are from" }),
  list: setting({ name: "ADMINS", type: emailList, default: [], text: "addresses" }),
};
const read = (environment: Record<string, string>) => readSettings(environment, table);
const shown = (name: string, value: string) => describeSettings({ [name]: value }, table).find((line) => line.name === name)?.value;
function faultsOf(environment: Record<string, string>): readonly string[] {
  try {
    read(environment);
    return [];
  } catch (error) {
    return (error as SettingsError).faults;
  }
}
/** What is refused is refused by its rule, and none of it is told: a password may be in it. */
function expectRefused(name: string, type: SettingType<unknown>, value: string): void {
  const [fault = "", ...more] = faultsOf({ [name]: value });
  expect([value, more, fault.startsWith(`${name} must be ${type.must}`)]).toEqual([value, [], true]);
  expect(fault).not.toContain("hunter2");
}

test("a mail server is spoken to in TLS, but on this machine", () => {
  const at = (value: string) => read({ SMTP_URL: value }).smtp;
  expect(at("smtp://mail.example")).toEqual({ host: "mail.example", port: 587, security: "starttls", user: undefined });
  expect(at("smtps://mail.example/")).toEqual({ host: "mail.example", port: 465, security: "tls", user: undefined });
  expect(at("smtp://po%40lis:p%3A%2F%25s@mail.example:2525")).toEqual({
    host: "mail.example",
    port: 2525,
    security: "starttls",
    user: { name: "po@lis", password: "p:/%s" },
  });
  for (const host of ["localhost", "127.0.0.1", "127.8.9.10", "[::1]"]) {
    expect(at(`smtp://${host}:25`)).toMatchObject({ host: host.replace(/[[\]]/g, ""), security: "none" });
    expect(at(`smtps://${host}`)).toMatchObject({ security: "tls", port: 465 });
  }
  for (const host of ["localhost.mail.example", "127.0.0.1.mail.example", "10.0.0.1", "[::2]", "0.0.0.0"])
    expect([host, at(`smtp://${host}`)?.security]).toEqual([host, "starttls"]);
});

test.each([
  "mail.example",
  "http://mail.example",
  "smtp:mail.example",
  "smtp://",
  "smtp://mail.example:0",
  "smtp://mail.example:99999",
  "smtp://polis@mail.example",
  "smtp://:hunter2@mail.example",
  "smtp://polis:@mail.example",
  "smtp://polis:%zzhunter2@mail.example",
  "smtp://polis:hunter2@x@mail.example",
  "smtp://polis:hunter2@mail.example/inbox",
  "smtp://polis:hunter2@a,b",
  "smtp://::1",
  "smtp://300.1.1.1",
  "smtp://polis:hunter2 @mail.example",
])("%s is no mail server", (value) => expectRefused("SMTP_URL", smtpUrl, value));

test("who sends texts is known by account and token, and spoken to in TLS, but on this machine", () => {
  const at = (value: string) => read({ SMS_URL: value }).sms;
  expect(at("https://AC1:to%3Ak%2Fen@api.twilio.com")).toEqual({ base: "https://api.twilio.com", account: "AC1", token: "to:k/en" });
  expect(at("https://AC1:token@texts.example:8443/twilio/")).toEqual({
    base: "https://texts.example:8443/twilio",
    account: "AC1",
    token: "token",
  });
  for (const host of ["localhost:1", "127.0.0.1:1", "[::1]:1"]) expect(at(`http://a:b@${host}`)?.base).toBe(`http://${host}`);
});

test.each([
  "api.twilio.com",
  "https://api.twilio.com",
  "https://AC1@api.twilio.com",
  "https://:hunter2@api.twilio.com",
  "http://AC1:hunter2@api.twilio.com",
  "http://AC1:hunter2@localhost.example",
  "ftp://AC1:hunter2@api.twilio.com",
  "https://AC1:%zzhunter2@api.twilio.com",
  "https://AC1:hunter2@api.twilio.com?a=b",
  "https://AC1:hunter2@api.twilio.com#a",
  "https://AC1:hunter2@api.twilio.com/a b",
])("%s is nobody who sends texts", (value) => expectRefused("SMS_URL", smsUrl, value));

test("a letter is from an address, with a name or without, whatever is in the name", () => {
  const from = (value: string) => read({ SMTP_FROM: value }).from;
  expect(from("no-reply@polis.example")).toEqual({ name: "", address: "no-reply@polis.example" });
  expect(from("Polis <no-reply@localhost>")).toEqual({ name: "Polis", address: "no-reply@localhost" });
  expect(from("Полис, Inc. (shop); x: y <a+b@polis.example>")).toEqual({
    name: "Полис, Inc. (shop); x: y",
    address: "a+b@polis.example",
  });
});

test.each([
  "polis",
  "@polis.example",
  "polis@",
  "<a@polis.example>",
  "Polis <a@polis.example",
  "Polis a@polis.example",
  "a@polis.example>",
  "Polis <a@polis.example> more",
  "Polis <a@b@polis.example>",
  "Polis <a@polis.example>, b@polis.example",
  "a@polis.example, b@polis.example",
  "a,b@polis.example",
  "Polis\r\nBcc: <a@polis.example>",
  "Polis <a\n@polis.example>",
  "a@polis.example-",
])("%j is nobody whom a letter is from", (value) => expectRefused("SMTP_FROM", mailAddress, value));

test("a list of addresses is taken in lower case, without the spaces about them", () => {
  expect(read({ ADMINS: "Ann@Example.com , bob@example.com" }).list).toEqual(["ann@example.com", "bob@example.com"]);
  expect(read({}).list).toEqual([]);
});

test.each([",", "ann@example.com,", "ann", "a b@example.com", "Ann <ann@example.com>", "a@b@example.com"])(
  "%j is no list of addresses",
  (value) => expectRefused("ADMINS", emailList, value),
);

test("they are shown without their passwords", () => {
  expect(shown("SMTP_URL", "smtp://po%40lis:hunter2@mail.example")).toBe("smtp://po%40lis:***@mail.example:587");
  expect(shown("SMTP_URL", "smtps://polis:hunter2@[::1]")).toBe("smtps://polis:***@[::1]:465");
  expect(shown("SMTP_URL", "smtp://localhost:25")).toBe("smtp://localhost:25");
  expect(shown("SMS_URL", "https://A%24C:hunter2@api.twilio.com/x/")).toBe("https://A%24C:***@api.twilio.com/x");
  expect(shown("SMTP_FROM", "Polis <a@polis.example>")).toBe("Polis <a@polis.example>");
  expect(shown("SMTP_FROM", "a@polis.example")).toBe("a@polis.example");
  expect(shown("ADMINS", "Ann@example.com,bob@example.com")).toBe("ann@example.com,bob@example.com");
  expect(describeSettings({}, table).find(({ name }) => name === "ADMINS")?.value).toBe("-");
  // What is wrong is masked just as well.
  expect(shown("SMTP_URL", "smtp://polis:hunter2@mail.example/inbox")).not.toContain("hunter2");
  expect(shown("SMS_URL", "http://AC1:hunter2@api.twilio.com")).not.toContain("hunter2");
});
