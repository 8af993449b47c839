import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { settingPrefixes } from "#platform/config/platform-settings.ts";
import { readSettings, unknownSettings } from "#platform/config/settings.ts";
import { settingsTable, systems } from "../cli/systems.ts";

// Nothing here runs Docker: what can be told without it is told.

type Service = {
  readonly image: string;
  readonly command?: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: object;
};

const folder = import.meta.dirname;
const compose = parse(readFileSync(join(folder, "compose.yaml"), "utf8"), { merge: true }) as { services: Record<string, Service> };
const ours = Object.entries(compose.services).filter(([, { image }]) => image === "polis");
const [system] = systems;
const names = system?.services.map(({ name }) => name) ?? [];

/** As Compose fills them in, from an environment that has all. */
const filled = (environment: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(environment).map(([name, value]) => [name, value.replaceAll(/\$\{[A-Z_]+:\?[^}]*\}/g, "x".repeat(40))]),
  );

describe("deploy/compose.yaml", () => {
  test("runs every service of the order payments, each in a process of its own under the name by which the others look for it", () => {
    const commands = ["gateway", ...names].map((name) => [name, ["start", "--services", name]]);
    expect(Object.fromEntries(ours.map(([name, { command }]) => [name, command]))).toEqual(Object.fromEntries(commands));
  });

  test.each(ours)("gives %s settings that there are, and none that is wrong", (_, { environment }) => {
    expect(unknownSettings(environment, settingsTable, settingPrefixes)).toEqual([]);
    expect(Object.keys(environment).filter((name) => !JSON.stringify(settingsTable).includes(`"${name}"`))).toEqual([]);
    expect(() => readSettings(filled(environment), settingsTable)).not.toThrow();
  });

  test("waits for what is there, and for health only where it is looked at", () => {
    for (const { depends_on: needs = {} } of Object.values(compose.services))
      for (const [name, { condition }] of Object.entries(needs)) {
        expect(compose.services).toHaveProperty(name);
        if (condition === "service_healthy") expect(compose.services[name]?.healthcheck).toBeDefined();
      }
  });
});

test("the image gets files that are there, past its .dockerignore", () => {
  const root = join(folder, "..");
  const ignored = readFileSync(join(folder, "Dockerfile.dockerignore"), "utf8").split("\n");
  const copied = [...readFileSync(join(folder, "Dockerfile"), "utf8").matchAll(/^COPY (.+) \S+$/gm)].flatMap(([, from = ""]) =>
    from.split(" "),
  );
  expect(copied.length).toBeGreaterThan(5);
  for (const path of copied) {
    expect(existsSync(join(root, path)), path).toBe(true);
    expect(ignored).toContain(`!${path}`);
  }
});

test("nothing that the image runs imports what is there for tests, which isn't in it", () => {
  const root = join(folder, "..");
  const folders = ["bin", "cli", "contracts", "platform", "services", "systems"];
  const files = folders.flatMap((each) =>
    readdirSync(join(root, each), { recursive: true, encoding: "utf8" }).map((file) => join(root, each, file)),
  );
  const shipped = files.filter((file) => /\.[jt]s$/.test(file) && !/\.(test|testing)\.ts$/.test(file));
  expect(shipped.length).toBeGreaterThan(100);
  expect(shipped.filter((file) => /\.testing\.ts["']|from "vitest/.test(readFileSync(file, "utf8")))).toEqual([]);
});
