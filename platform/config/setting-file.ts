import { readFile } from "node:fs/promises";

/** The text of the file that a setting names; undefined where it names none. Throws, naming the setting, where it can't be read. */
export async function settingFile(setting: string, path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new Error(`${setting}: the file can't be read`, { cause: error });
  }
}

/** Certificates as an engine's client takes them; undefined where its connection isn't encrypted. */
export type EngineTls = { readonly ca?: string | undefined; readonly cert?: string | undefined; readonly key?: string | undefined };

/**
 * What the files of `<ENGINE>_CA_FILE`, `_CERT_FILE` and `_KEY_FILE` hold. Throws, naming the setting, where one can't be read, or is
 * given though the URL says that nothing is encrypted.
 */
export async function engineTls(
  engine: string,
  { tls, scheme }: { readonly tls: boolean; readonly scheme: string },
  files: { readonly caFile: string | undefined; readonly certFile: string | undefined; readonly keyFile: string | undefined },
): Promise<EngineTls | undefined> {
  const [ca, cert, key] = await Promise.all([
    settingFile(`${engine}_CA_FILE`, files.caFile),
    settingFile(`${engine}_CERT_FILE`, files.certFile),
    settingFile(`${engine}_KEY_FILE`, files.keyFile),
  ]);
  if (tls) return { ca, cert, key };
  if ([ca, cert, key].some((file) => file !== undefined))
    throw new Error(`${engine}_CA_FILE, _CERT_FILE or _KEY_FILE is set, but ${engine}_URL doesn't begin with ${scheme}://`);
  return undefined;
}
