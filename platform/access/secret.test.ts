import { readdirSync, writeFileSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import { deploymentSecret, existingSecret } from "#platform/access/secret.ts";

const SECRET = "a secret of at least thirty-two characters";

describe("the deployment's secret", () => {
  const folders: string[] = [];
  const folder = async () => {
    const made = await mkdtemp(join(tmpdir(), "polis-secret-"));
    folders.push(made);
    return made;
  };
  afterEach(async () => {
    for (const made of folders.splice(0)) await rm(made, { recursive: true });
  });

  test("is the setting, where there is one", async () => {
    expect(await deploymentSecret({ fromSetting: SECRET, folder: await folder() })).toBe(SECRET);
    await expect(deploymentSecret({})).rejects.toThrow("POLIS_SECRET");
  });

  test("is told when it is too short, wherever it comes from", async () => {
    const data = await folder();
    const keep = (secret: string) => writeFile(join(data, "secret"), `${secret}\n`);
    const [short, enough] = ["x".repeat(31), "x".repeat(32)];
    await keep(short);
    await expect(deploymentSecret({ fromSetting: short })).rejects.toThrow("POLIS_SECRET: a secret has at least 32");
    await expect(deploymentSecret({ folder: data })).rejects.toThrow(`${join(data, "secret")}: a secret has at least 32`);
    await expect(existingSecret({ folder: data })).rejects.toThrow("at least 32");
    await expect(existingSecret({ fromSetting: short, folder: data })).rejects.toThrow("at least 32");
    await keep(enough);
    expect([await deploymentSecret({ folder: data }), await existingSecret({ folder: data })]).toEqual([enough, enough]);
  });

  test("is looked for in vain where the folder is a file, which is told", async () => {
    const file = join(await folder(), "file");
    await writeFile(file, "");
    expect(await existingSecret({ folder: file })).toBeUndefined();
    await expect(deploymentSecret({ folder: file })).rejects.toThrow(`${file} can't be the data folder`);
  });

  test("is made once, readable by its owner alone, however many start at once", async () => {
    const data = join(await folder(), "data");
    const secrets = await Promise.all(Array.from({ length: 20 }, () => deploymentSecret({ folder: data })));
    expect(new Set(secrets).size).toBe(1);
    expect(secrets[0]?.length).toBeGreaterThanOrEqual(43);
    expect(await readdir(data)).toEqual(["secret"]);
    expect((await stat(join(data, "secret"))).mode & 0o777).toBe(0o600);
    expect((await readFile(join(data, "secret"), "utf8")).trim()).toBe(secrets[0]);
    expect(await deploymentSecret({ folder: data })).toBe(secrets[0]);
  });

  test("is another starter's where that one was first, though both had found none", async () => {
    const data = await folder();
    const starting = deploymentSecret({ folder: data });
    // Its own is begun, and not yet in its place.
    while (readdirSync(data).length === 0) await turn();
    writeFileSync(join(data, "secret"), SECRET, { flag: "wx" });
    expect(await starting).toBe(SECRET);
    expect(await readFile(join(data, "secret"), "utf8")).toBe(SECRET);
    expect(await readdir(data)).toEqual(["secret"]);
  });
});
