import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import forge from "node-forge";
import { afterAll } from "vitest";

/** A folder for a file's certificates, which goes with its tests. */
export function certificateFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "polis-tls-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  return folder;
}

const { pki } = forge;

const HOUR_MS = 3_600_000;
const inAnHour = (): Date => new Date(Date.now() + HOUR_MS);

/** A certificate for a key. */
function certificate(
  names: { readonly subject: string; readonly issuer: string },
  publicKey: string,
  key: forge.pki.rsa.PrivateKey,
  extensions: object[],
  until = inAnHour(),
): string {
  const made = pki.createCertificate();
  made.publicKey = pki.publicKeyFromPem(publicKey);
  made.serialNumber = randomBytes(8).toString("hex").replace(/^./, "1");
  made.validity.notBefore = new Date(Date.now() - HOUR_MS);
  made.validity.notAfter = until;
  made.setSubject([{ name: "commonName", value: names.subject }]);
  made.setIssuer([{ name: "commonName", value: names.issuer }]);
  made.setExtensions(extensions);
  made.sign(key, forge.md.sha256.create());
  return pki.certificateToPem(made);
}

const keyPair = () =>
  generateKeyPairSync("rsa", {
    modulusLength: 2048,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });

/** An authority that signs certificates, which it writes into files. */
export function authority(folder: string, name: string) {
  const { publicKey, privateKey } = keyPair();
  const key = pki.privateKeyFromPem(privateKey);
  const caFile = join(folder, `${name}-ca.pem`);
  writeFileSync(caFile, certificate({ subject: name, issuer: name }, publicKey, key, [{ name: "basicConstraints", cA: true }]));
  return {
    caFile,
    /** For a name or an address. */
    sign(host: string, files = join(folder, `${name}-${host}`), until = inAnHour()) {
      const own = keyPair();
      const paths = { certFile: `${files}.pem`, keyFile: `${files}.key` };
      const extensions = [{ name: "subjectAltName", altNames: [isIP(host) === 0 ? { type: 2, value: host } : { type: 7, ip: host }] }];
      writeFileSync(paths.certFile, certificate({ subject: host, issuer: name }, own.publicKey, key, extensions, until));
      writeFileSync(paths.keyFile, own.privateKey);
      return paths;
    },
  };
}
