import { describe, expect, test } from "vitest";
import { platformSettings, settingPrefixes } from "./platform-settings.ts";
import type { SettingType } from "./setting-types.ts";
import { describeSettings, readSettings, SettingsError, setting, unknownSettings } from "./settings.ts";

const table = platformSettings(["orders", "payments"]);

const faultsOf = (env: Record<string, string>, flags: Record<string, string> = {}): readonly string[] => {
  try {
    readSettings(env, table, flags);
    return [];
  } catch (error) {
    if (error instanceof SettingsError) return error.faults;
    throw error;
  }
};

describe("settings", () => {
  test("serve a process that is told nothing", () => {
    expect(readSettings({}, table)).toMatchObject({
      port: 8080,
      host: "127.0.0.1",
      dataFolder: ".polis",
      grpcPort: undefined,
      postgresUrl: undefined,
    });
  });

  test("come from the environment, and a flag goes before it", () => {
    const settings = readSettings({ PORT: "9000", ORDERS_URL: "a:1, [::1]:2", POSTGRES_URL_PAYMENTS: "postgres://h/p" }, table, {
      port: "0",
    });
    expect(settings.port).toBe(0);
    expect(settings.addressesOf.orders).toEqual(["a:1", "[::1]:2"]);
    expect(settings.postgresUrlOf.payments).toBe("postgres://h/p");
  });

  test("count as unset where the text is empty", () =>
    expect(readSettings({ PORT: "", GRPC_PORT: "" }, table)).toMatchObject({ port: 8080 }));

  test("name every fault at once, by variable or flag", () => {
    const faults = faultsOf(
      { PORT: "1", GRPC_PORT: "65536", POSTGRES_URL: "mysql://h", POLIS_SECRET: "short", LOG_LEVEL: "loud", ORDERS_URL: "a:1,b" },
      { port: "http" },
    );
    expect(faults).toHaveLength(6);
    expect(faults.map((fault) => fault.split(" ")[0])).toEqual([
      "--port",
      "GRPC_PORT",
      "POLIS_SECRET",
      "POSTGRES_URL",
      "ORDERS_URL",
      "LOG_LEVEL",
    ]);
    expect(faults.join()).not.toContain("short");
  });

  test("tell which part of a text is at fault, where their type can", () => {
    const pair: SettingType<string> = {
      must: "two words",
      parse: (text) => (/^\w+ \w+$/.test(text) ? text : undefined),
      show: String,
      fault: (text) => (/^\w+ \w+$/.test(text) ? undefined : `it has ${text.split(" ").length}`),
    };
    const table = { pair: setting({ name: "PAIR", type: pair, default: undefined, text: "a pair" }) };
    expect(() => readSettings({ PAIR: "a b c" }, table)).toThrow("PAIR must be two words: it has 3 (a pair)");
    expect(describeSettings({ PAIR: "a" }, table)[0]?.value).toBe("(wrong: must be two words: it has 1)");
    expect(readSettings({ PAIR: "a b" }, table)).toEqual({ pair: "a b" });
  });

  test("read a Kafka cluster with its user from one URL, and show it without the password", () => {
    const { kafka } = readSettings({ KAFKA_URL: "kafkas://polis:p%40ss@a:9092,b:9093" }, table);
    expect(kafka.url).toEqual({ brokers: ["a:9092", "b:9093"], tls: true, user: { name: "polis", password: "p@ss" } });
    expect(readSettings({ KAFKA_URL: "kafka://[::1]:9092" }, table).kafka.url).toEqual({
      brokers: ["[::1]:9092"],
      tls: false,
      user: undefined,
    });
    const shown = describeSettings({ KAFKA_URL: "kafkas://polis:p%40ss@a:9092" }, table).find(({ name }) => name === "KAFKA_URL");
    expect(shown?.value).toBe("kafkas://polis:***@a:9092");
  });

  test.each(["a:9092", "http://a:9092", "kafka://a", "kafka://", "kafka://user@a:9092", "kafka://user:%zz@a:9092", "kafka://a:9092/topic"])(
    "refuse %j as a Kafka cluster",
    (text) => expect(faultsOf({ KAFKA_URL: text })).toHaveLength(1),
  );

  test("name what a setting of Kafka lacks", () => {
    expect(faultsOf({ KAFKA_PREFIX: "a" })).toEqual(["KAFKA_PREFIX needs KAFKA_URL, which is not set"]);
    expect(faultsOf({ KAFKA_CERT_FILE: "cert.pem" })).toEqual(["KAFKA_CERT_FILE needs KAFKA_KEY_FILE, which is not set"]);
    expect(faultsOf({ KAFKA_URL: "kafka://a:1", KAFKA_PREFIX: "a b", KAFKA_REPLICAS: "0" })).toHaveLength(2);
  });

  test("refuse a URL without its two slashes, and a host that is a number or no address", () => {
    for (const wrong of [
      { POSTGRES_URL: "postgres:polis" },
      { HOST: "8080" },
      { HOST: "300.1.1.1" },
      { ORDERS_URL: "1.2.3:50051" },
      { HOST: "a:b" },
    ])
      expect(() => readSettings(wrong, table), JSON.stringify(wrong)).toThrow(SettingsError);
    for (const host of ["0.0.0.0", "::", "::1", "polis", "polis_1.internal."]) expect(readSettings({ HOST: host }, table).host).toBe(host);
    const shown = describeSettings({ OTEL_EXPORTER_OTLP_ENDPOINT: "https://token@h" }, table);
    expect(shown.find(({ name }) => name === "OTEL_EXPORTER_OTLP_ENDPOINT")?.value).toBe("https://***@h");
  });

  test("refuse a URL with a space in it, and a secret of nothing but spaces", () => {
    expect(faultsOf({ POSTGRES_URL: "postgres://u:a secret@h/db" })).toHaveLength(1);
    expect(faultsOf({ POSTGRES_URL: "postgres://u:a secret@h/db" })[0]).not.toContain("a secret");
    expect(faultsOf({ POLIS_SECRET: " ".repeat(40) })).toHaveLength(1);
    const shown = describeSettings({ POSTGRES_URL: "postgres://u:p@ssword@h/db" }, table).find(({ name }) => name === "POSTGRES_URL");
    expect(shown?.value).toBe("postgres://u:***@h/db");
  });

  test("take RabbitMQ's address as it is written everywhere, and show it without its password", () => {
    const rabbit = (RABBITMQ_URL: string) => readSettings({ RABBITMQ_URL }, table).rabbit.url;
    expect(rabbit("amqp://a")).toEqual({ hosts: ["a:5672"], tls: false, user: { name: "guest", password: "guest" }, vhost: "/" });
    expect(rabbit("amqps://polis:p%40ss@a,b:5679/shop%2Feast")).toEqual({
      hosts: ["a:5671", "b:5679"],
      tls: true,
      user: { name: "polis", password: "p@ss" },
      vhost: "shop/east",
    });
    const shown = describeSettings({ RABBITMQ_URL: "amqp://polis:secret@a/shop" }, table).find(({ name }) => name === "RABBITMQ_URL");
    expect(shown?.value).toBe("amqp://polis:***@a:5672/shop");
  });

  test.each([
    "a:5672",
    "http://a",
    "amqp://",
    "amqp://user@a",
    "amqp://user:%zz@a",
    "amqp://a:99999",
    "amqp://a/b/c",
    "amqp://a,[::1]:5672",
  ])("refuse %s as RabbitMQ's address", (RABBITMQ_URL) => expect(faultsOf({ RABBITMQ_URL })).toHaveLength(1));

  test("take Redis' address as it is written everywhere, and show it without its password", () => {
    const redis = (REDIS_URL: string) => readSettings({ REDIS_URL }, table).redis.url;
    expect(redis("redis://a")).toEqual({ host: "a", port: 6379, tls: false, user: undefined, database: 0 });
    expect(redis("redis://:p%40ss@127.0.0.1:6380/")).toEqual({
      host: "127.0.0.1",
      port: 6380,
      tls: false,
      user: { name: "default", password: "p@ss" },
      database: 0,
    });
    expect(redis("rediss://polis:p:s@[::1]/3")).toEqual({
      host: "::1",
      port: 6379,
      tls: true,
      user: { name: "polis", password: "p:s" },
      database: 3,
    });
    const shown = (REDIS_URL: string) => describeSettings({ REDIS_URL }, table).find(({ name }) => name === "REDIS_URL")?.value;
    expect(shown("rediss://polis:secret@[::1]:1/3")).toBe("rediss://polis:***@[::1]:1/3");
    expect(shown("redis://:secret@a")).toBe("redis://default:***@a:6379/0");
    expect(shown("redis://a")).toBe("redis://a:6379/0");
  });

  test.each([
    "a:6379",
    "http://a",
    "redis://",
    "redis://a,b",
    "redis://127.0.0.1:1,127.0.0.1:2",
    "redis://a/abc",
    "redis://a/1/2",
    "redis://a?db=1",
    "redis://a:99999",
    "redis://::1",
    "redis://user@a",
    "redis://user:@a",
    "redis://:%zz@a",
    "redis://%zz:secret@a",
    "redis://[fe80::1%25eth0]",
  ])("refuse %s as Redis' address", (REDIS_URL) => {
    const [fault = "", ...more] = faultsOf({ REDIS_URL });
    expect(more).toEqual([]);
    expect(fault).toMatch(/^REDIS_URL must be redis:\/\/host, of one host; /);
    expect(fault).not.toContain("secret");
  });

  test.each(["a", "a:", ":1", "a:0", "a:1,", "a b:1", "::1:5", "a:99999", "http://a:1"])("refuse %j as an address", (text) =>
    expect(faultsOf({ ORDERS_URL: text })).toHaveLength(1),
  );

  test.each(["orders:50051", "10.0.0.1:1", "[fe80::1]:65535", "a.b-c.example.:80"])("take %j as an address", (text) =>
    expect(faultsOf({ ORDERS_URL: text })).toEqual([]),
  );

  test("refuse a direct database beside none", () =>
    expect(faultsOf({ POSTGRES_DIRECT_URL: "postgres://h/d" })).toEqual(["POSTGRES_DIRECT_URL needs POSTGRES_URL, which is not set"]));

  test("refuse one port for both HTTP and gRPC, unless it is any free one", () => {
    expect(faultsOf({ GRPC_PORT: "8085" }, { port: "8085" })).toEqual(["GRPC_PORT is 8085, and so is --port: each needs one of its own"]);
    expect(faultsOf({}, { "grpc-port": "8080" })).toEqual(["--grpc-port is 8080, and so is PORT: each needs one of its own"]);
    expect(faultsOf({ PORT: "0", GRPC_PORT: "0" })).toEqual([]);
  });

  test("refuse a sampler of traces that OpenTelemetry would take for another, and an argument that it would take for everything", () => {
    const [sampler, argument, ...more] = faultsOf({ OTEL_TRACES_SAMPLER: "bogus", OTEL_TRACES_SAMPLER_ARG: "10%" });
    expect(sampler).toMatch(/^OTEL_TRACES_SAMPLER must be one of always_on, /);
    expect(argument).toMatch(/^OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1/);
    expect(more).toEqual([]);
    expect(faultsOf({ OTEL_TRACES_SAMPLER: "parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG: "0.1" })).toEqual([]);
  });

  test("are listed with their values and where these come from, secrets masked", () => {
    const env = {
      POLIS_SECRET: "s".repeat(40),
      POSTGRES_URL: "postgres://me:pa:ss@h:5432/polis?password=pass&sslmode=require",
      GRPC_PORT: "x",
    };
    const lines = new Map(describeSettings(env, table, { port: "81" }).map((line) => [line.name, line]));
    expect(lines.get("PORT")).toMatchObject({ default: "8080", value: "81", from: "flag" });
    expect(lines.get("POLIS_SECRET")).toMatchObject({ value: "***", from: "environment" });
    expect(lines.get("POSTGRES_URL")?.value).toBe("postgres://me:***@h:5432/polis?password=***&sslmode=require");
    expect(lines.get("GRPC_PORT")?.value).toContain("wrong");
    expect(lines.get("OTEL_EXPORTER_OTLP_ENDPOINT")).toMatchObject({ value: "-", from: "default" });
  });
});

describe("a name in the environment that no setting has", () => {
  const unknown = (...names: string[]) => unknownSettings(Object.fromEntries(names.map((name) => [name, "1"])), table, settingPrefixes);

  test("is reported with what was likely meant", () =>
    expect(unknown("POLIS_SECERT", "POSTGRES_URL_ORDRES")).toEqual([
      "POLIS_SECERT is no setting of Polis; did you mean POLIS_SECRET?",
      "POSTGRES_URL_ORDRES is no setting of Polis; did you mean POSTGRES_URL_ORDERS?",
    ]));

  test("is reported as well where it only nearly begins as ours do", () => {
    const slips = {
      GRPC_TSL: "GRPC_TLS",
      LOG_LEVLE: "LOG_LEVEL",
      ORDER_URL: "ORDERS_URL",
      POSTGRESQL_URL: "POSTGRES_URL",
      POSTGRES_URI: "POSTGRES_URL",
    };
    expect(unknown(...Object.keys(slips))).toEqual(
      Object.entries(slips).map(([name, meant]) => `${name} is no setting of Polis; did you mean ${meant}?`),
    );
  });

  test("is reported without a guess where nothing is near", () =>
    expect(unknown("POLIS_FROBNICATE")).toEqual(["POLIS_FROBNICATE is no setting of Polis"]));

  test("is left alone where it is another's, or Kubernetes put it there", () =>
    expect(
      unknown(
        "PATH",
        "POST",
        "HOSTNAME",
        "POSTGRES_USER",
        "POSTGRES_DB",
        "LOGNAME",
        "POLIS_SERVICE_HOST",
        "POLIS_PORT_8080_TCP_ADDR",
        "POLIS_SERVICE_PORT_HTTP",
      ),
    ).toEqual([]));
});
