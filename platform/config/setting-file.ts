import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";

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
  if (ca !== undefined) parsed(settings.ca, "certificate", () => new X509Certificate(ca));
  if (cert === undefined || key === undefined) return { ca };
  const isPair = parsed(settings.cert, "certificate", () => new X509Certificate(cert)).checkPrivateKey(
    parsed(settings.key, "private key", () => createPrivateKey(key)),
  );
  if (!isPair) throw new Error(`${settings.key} isn't the key of the certificate in ${settings.cert}`);
  return { ca, cert, key };
}

/** The same for an engine; undefined where its connection isn't encrypted. Throws also where one is given though its URL says so. */
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

function parsed<T>(setting: string, what: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new Error(`${setting}: the file holds no ${what} in PEM`, { cause: error });
  }
}
