import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";

/** The text of the file that a setting names; undefined where it names none. Throws, naming the setting, where it can't be read. */
async function settingFile(setting: string, path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new Error(`${setting}: the file can't be read`, { cause: error });
  }
}

/** Where the certificates of `<NAME>_CA_FILE`, `_CERT_FILE` and `_KEY_FILE` are. */
type CertificateFiles = {
  readonly caFile: string | undefined;
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
};

/** Certificates in PEM, as clients take them. */
export type Certificates = { readonly ca?: string | undefined; readonly cert?: string | undefined; readonly key?: string | undefined };

/**
 * What the files hold. Throws, naming the setting, where one can't be read, or holds something else (an authority that isn't one
 * would go unnoticed, and nobody be believed), or where key and certificate don't belong together.
 */
export async function readCertificates(name: string, files: CertificateFiles): Promise<Certificates> {
  const settings = { ca: `${name}_CA_FILE`, cert: `${name}_CERT_FILE`, key: `${name}_KEY_FILE` };
  const [ca, cert, key] = await Promise.all([
    settingFile(settings.ca, files.caFile),
    settingFile(settings.cert, files.certFile),
    settingFile(settings.key, files.keyFile),
  ]);
  if (ca !== undefined) checkAuthorities(settings.ca, ca);
  if (cert === undefined || key === undefined) return { ca };
  const isPair = parsed(settings.cert, NO_CERTIFICATE, () => new X509Certificate(cert)).checkPrivateKey(
    parsed(settings.key, "the file holds no private key in PEM", () => createPrivateKey(key)),
  );
  if (!isPair) throw new Error(`${settings.key} isn't the key of the certificate in ${settings.cert}`);
  return { ca, cert, key };
}

/** The same for an engine; undefined where its connection isn't encrypted. Throws also where a file is set though the URL isn't of `scheme`, which encrypts. */
export async function engineTls(
  engine: string,
  { tls, scheme }: { readonly tls: boolean; readonly scheme: string },
  files: CertificateFiles,
): Promise<Certificates | undefined> {
  if (tls) return readCertificates(engine, files);
  if ([files.caFile, files.certFile, files.keyFile].some((file) => file !== undefined))
    throw new Error(`${engine}_CA_FILE, _CERT_FILE or _KEY_FILE is set, but ${engine}_URL doesn't begin with ${scheme}://`);
  return undefined;
}

const NO_CERTIFICATE = "the file holds no certificate in PEM";

/** Each of them: who reads a bundle passes over what stands behind one that can't be read, without a word. */
function checkAuthorities(setting: string, pem: string): void {
  const blocks = pem.split(/(?=^-----BEGIN )/m).filter((block) => block.startsWith("-----BEGIN "));
  if (blocks.length === 0) throw new Error(`${setting}: ${NO_CERTIFICATE}`);
  for (const [i, block] of blocks.entries())
    parsed(
      setting,
      blocks.length === 1 ? NO_CERTIFICATE : `block ${i + 1} of the file is no certificate in PEM`,
      () => new X509Certificate(block),
    );
}

function parsed<T>(setting: string, fault: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new Error(`${setting}: ${fault}`, { cause: error });
  }
}

/**
 * The name that a client says at the handshake, for what stands in front of several servers: the libraries say none by themselves. An
 * address is no name; and where the hosts differ there is none, as a client knows but one for all.
 */
export function serverNameOf(hosts: readonly string[]): { readonly servername?: string } {
  const [name, ...others] = new Set(hosts);
  return name === undefined || others.length > 0 || isIP(name) !== 0 ? {} : { servername: name };
}
