import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { authority, certificateFolder } from "#platform/config/certificates.testing.ts";
import { engineTls, readCertificates, serverNameOf } from "#platform/config/certificates.ts";

const folder = certificateFolder();
const [ours, theirs] = [authority(folder, "ours"), authority(folder, "theirs")];
const own = ours.sign("localhost");
const none = { caFile: undefined, certFile: undefined, keyFile: undefined };
const known = { ...none, caFile: ours.caFile };

describe("certificates that make no sense stop the start, and are named:", () => {
  const other = ours.sign("other");
  const garbage = import.meta.filename;
  const [good, key] = [readFileSync(ours.caFile, "utf8"), readFileSync(own.keyFile, "utf8")];
  const bundle = (name: string, ...parts: readonly string[]): string => {
    writeFileSync(join(folder, name), ["An authority", ...parts].join("\n"));
    return join(folder, name);
  };
  const cut = bundle("cut.pem", good, good.replace(/[^\n]+\n-----END/, "-----END"), good);
  const foreign = bundle("foreign.pem", good, key);
  test.each([
    [{ ...none, caFile: "/nowhere" }, "REDIS_CA_FILE: the file can't be read"],
    [{ ...none, caFile: garbage }, "REDIS_CA_FILE: the file holds no certificate in PEM"],
    [{ ...none, caFile: cut }, "REDIS_CA_FILE: block 2 of the file is no certificate in PEM"],
    [{ ...none, caFile: foreign }, "REDIS_CA_FILE: block 2 of the file is no certificate in PEM"],
    [{ ...own, caFile: undefined, certFile: garbage }, "REDIS_CERT_FILE: the file holds no certificate in PEM"],
    [{ ...own, caFile: undefined, keyFile: garbage }, "REDIS_KEY_FILE: the file holds no private key in PEM"],
    [{ ...own, caFile: undefined, keyFile: other.keyFile }, "REDIS_KEY_FILE isn't the key of the certificate in REDIS_CERT_FILE"],
  ])("%j", async (files, words) => {
    await expect(engineTls("REDIS", { tls: true, scheme: "rediss" }, files)).rejects.toThrow(words);
  });

  test("but not a bundle of authorities with words between them", async () => {
    const caFile = bundle("bundle.pem", good, "Another", readFileSync(theirs.caFile, "utf8"));
    expect(await readCertificates("REDIS", { ...none, caFile })).toEqual({ ca: readFileSync(caFile, "utf8") });
  });

  test("where nothing is encrypted", async () => {
    await expect(engineTls("REDIS", { tls: false, scheme: "rediss" }, known)).rejects.toThrow("REDIS_URL doesn't begin with rediss://");
    expect(await engineTls("REDIS", { tls: false, scheme: "rediss" }, none)).toBeUndefined();
  });
});

test.each([
  [["db.example"], { servername: "db.example" }],
  [["db.example", "db.example"], { servername: "db.example" }],
  [["a.example", "b.example"], {}],
  [["127.0.0.1"], {}],
  [["::1"], {}],
])("of %j a client says %j at the handshake", (hosts, said) => expect(serverNameOf(hosts)).toEqual(said));
