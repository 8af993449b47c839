/** How long an answer may take. */
const TIMEOUT_MS = 5_000;
const ANSWER_CHARACTERS_MAX = 1_000;
const VERDICTS = new Set([401, 403, 409, 422]);

/** Asks a schema registry that speaks Confluent's API. */
export type RegistryApi = {
  /** The JSON that it answers. Throws RegistryAwayError, and RegistryRefusedError for anything but success. */
  ask(method: "GET" | "POST" | "PUT", path: string, body?: object): Promise<unknown>;
};

/** It doesn't answer, or says that it can't now: to be tried again. */
export class RegistryAwayError extends Error {
  override readonly name = "RegistryAwayError";
}

/** It answered, and the answer is no. */
export class RegistryRefusedError extends Error {
  override readonly name = "RegistryRefusedError";
  readonly status: number;
  /** The registry itself says so, of what was asked; else something in front of it may have answered in its stead. */
  readonly isVerdict: boolean;

  constructor(status: number, message: string, isVerdict: boolean) {
    super(message);
    this.status = status;
    this.isVerdict = isVerdict;
  }
}

/** The API at a URL, which may hold a user and a password for it; `signal` ends what is on its way. */
export function registryApi(url: string, signal: AbortSignal): RegistryApi {
  const base = new URL(url);
  const user = [base.username, base.password].map(decodeURIComponent).join(":");
  const headers = {
    accept: "application/vnd.schemaregistry.v1+json, application/json",
    "content-type": "application/vnd.schemaregistry.v1+json",
    ...(user === ":" ? {} : { authorization: `Basic ${Buffer.from(user).toString("base64")}` }),
  };
  base.username = base.password = "";
  const root = base.href.replace(/\/+$/, "");
  return {
    async ask(method, path, body) {
      const place = `the schema registry at ${base.host}`;
      let response: Response;
      let text: string;
      try {
        response = await fetch(`${root}${path}`, {
          method,
          headers,
          body: body === undefined ? null : JSON.stringify(body),
          // What follows a redirection asks something else than what was to be asked.
          redirect: "manual",
          signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
        });
        text = await response.text();
      } catch (cause) {
        throw new RegistryAwayError(`${place} doesn't answer`, { cause });
      }
      const { status, ok } = response;
      if (status >= 500 || status === 429 || status === 408) throw new RegistryAwayError(`${place} answers ${status}: ${said(text)}`);
      const answer = json(text);
      if (ok && answer !== undefined) return answer;
      const isVerdict = VERDICTS.has(status) && typeof (answer as { error_code?: unknown } | undefined)?.error_code === "number";
      throw new RegistryRefusedError(status, ok ? `${place} answers something else than JSON` : said(text), isVerdict);
    },
  };
}

/** What an answer says for a person. */
function said(text: string): string {
  const { message } = (json(text) ?? {}) as { message?: unknown };
  return (typeof message === "string" ? message : text.trim() || "nothing").slice(0, ANSWER_CHARACTERS_MAX);
}

function json(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}
