import { createPrivateKey } from "node:crypto";
import { isLoopback, type SettingType } from "#platform/config/setting-types.ts";
import { MASK } from "#platform/telemetry/mask.ts";

/** A provider as an operator has set it. */
export type ProviderSettings = {
  readonly name: string;
  readonly clientId: string;
  /** Addresses of mail count as confirmed, whatever it says of them itself. */
  readonly trustsEmail: boolean;
} & (
  | { readonly kind: "oidc"; readonly issuer: string; readonly clientSecret: string }
  | { readonly kind: "apple"; readonly teamId: string; readonly keyId: string; readonly privateKey: string }
  | { readonly kind: "vk" }
);

type Fields = Readonly<Record<string, unknown>>;
/** What is wrong with a field, as it follows its name. */
class Fault extends Error {}

const NOT_JSON = Symbol("not JSON");
const PROVIDERS_MAX = 50;
const GOOGLE = "https://accounts.google.com";
const SECRETS: readonly string[] = ["clientSecret", "privateKey"];

/** What each of the providers that are known by their names needs; any other is OpenID Connect by its issuer. */
const fieldsByName: Readonly<Record<string, readonly string[]>> = {
  google: ["clientId", "clientSecret"],
  apple: ["clientId", "teamId", "keyId", "privateKey"],
  vk: ["clientId"],
};
const fieldsOfOthers = ["issuer", "clientId", "clientSecret"];
const fieldsOf = (name: string): readonly string[] => fieldsByName[name] ?? fieldsOfOthers;

/** A JSON list of providers, each an object by its name. */
export const providerList: SettingType<readonly ProviderSettings[]> = {
  must: 'a JSON list such as [{"name":"google","clientId":"…","clientSecret":"…"},{"name":"work","issuer":"https://…","clientId":"…","clientSecret":"…"}]',
  parse(text) {
    try {
      return read(text);
    } catch (error) {
      if (error instanceof Fault) return undefined;
      throw error;
    }
  },
  fault(text) {
    try {
      read(text);
      return undefined;
    } catch (error) {
      if (error instanceof Fault) return error.message;
      throw error;
    }
  },
  show: (list) => (list.length === 0 ? "-" : JSON.stringify(list.map(shown))),
};

/** As it was set, but for its secrets. */
function shown(provider: ProviderSettings): object {
  const fields: Fields = provider;
  const names = ["name", ...fieldsOf(provider.name), ...(provider.trustsEmail ? ["trustsEmail"] : [])];
  return Object.fromEntries(names.map((name) => [name, SECRETS.includes(name) ? MASK : fields[name]]));
}

function read(text: string): ProviderSettings[] {
  const list = parsed(text);
  if (list === NOT_JSON) throw new Fault("it isn't JSON");
  if (!Array.isArray(list)) throw new Fault("it isn't a list");
  if (list.length > PROVIDERS_MAX) throw new Fault(`it has ${list.length} providers; ${PROVIDERS_MAX} at the most`);
  const providers = list.map((entry: unknown, index) => readOne(entry, `[${index}]`));
  const twice = providers.find(({ name }, index) => providers.findIndex((other) => other.name === name) !== index);
  if (twice !== undefined) throw new Fault(`two are named ${twice.name}`);
  return providers;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // What the parser says of it shows a part of the text, and so perhaps of a secret.
    return NOT_JSON;
  }
}

function readOne(entry: unknown, at: string): ProviderSettings {
  if (typeof entry !== "object" || entry === null || Array.isArray(entry)) throw new Fault(`${at} isn't an object`);
  const fields = entry as Fields;
  const name = textOf(fields, "name", at);
  if (!/^[a-z][a-z0-9-]{0,31}$/.test(name)) throw new Fault(`${at}.name must be a word of a-z, 0-9 and -, at most 32`);
  const known = ["name", "trustsEmail", ...fieldsOf(name)];
  const unknown = Object.keys(fields).find((field) => !known.includes(field));
  if (unknown !== undefined) throw new Fault(`${at}.${unknown.slice(0, 40)} is no field of ${name}; it has ${known.join(", ")}`);
  const { trustsEmail = false } = fields;
  if (typeof trustsEmail !== "boolean") throw new Fault(`${at}.trustsEmail must be true or false`);
  const common = { name, clientId: textOf(fields, "clientId", at), trustsEmail };
  if (name === "vk") return { kind: "vk", ...common };
  if (name === "apple") {
    const [teamId, keyId] = [textOf(fields, "teamId", at), textOf(fields, "keyId", at)];
    return { kind: "apple", ...common, teamId, keyId, privateKey: privateKeyOf(fields, at) };
  }
  const issuer = name === "google" ? GOOGLE : issuerOf(fields, at);
  return { kind: "oidc", ...common, issuer, clientSecret: textOf(fields, "clientSecret", at) };
}

function textOf(fields: Fields, field: string, at: string): string {
  const value = fields[field];
  if (value === undefined) throw new Fault(`${at}.${field} is missing`);
  if (typeof value !== "string" || value.trim() === "") throw new Fault(`${at}.${field} must be a text`);
  return value;
}

function issuerOf(fields: Fields, at: string): string {
  const issuer = textOf(fields, "issuer", at);
  const url = /\s/.test(issuer) || !URL.canParse(issuer) ? undefined : new URL(issuer);
  const isSafe = url?.protocol === "https:" || (url?.protocol === "http:" && isLoopback(url.hostname));
  if (url === undefined || !isSafe || url.search !== "" || url.hash !== "" || url.username !== "")
    throw new Fault(`${at}.issuer must be a URL that begins with https://, without a query`);
  return issuer;
}

/** Apple's are P-256, in PKCS #8. */
function privateKeyOf(fields: Fields, at: string): string {
  const pem = textOf(fields, "privateKey", at);
  if (!isP256(pem)) throw new Fault(`${at}.privateKey must be the text of Apple's .p8 file, with \\n for the ends of its lines`);
  return pem;
}

function isP256(pem: string): boolean {
  try {
    return createPrivateKey(pem).asymmetricKeyDetails?.namedCurve === "prime256v1";
  } catch {
    return false;
  }
}
