/** More than any answer of a provider has. */
const ANSWER_BYTES_MAX = 512 * 1024;
/** Of one request. Three of them, one after another, are within a client's ten seconds. */
export const REQUEST_MS = 3_000;

type Options = Omit<RequestInit, "redirect" | "signal"> & { readonly signal?: AbortSignal };

/** Fetch that follows no redirect, and whose answer has a bound: in time, and in length. */
export async function boundedFetch(url: string, options: Options): Promise<Response> {
  const { signal, ...rest } = options;
  const late = AbortSignal.timeout(REQUEST_MS);
  const answer = await fetch(url, { ...rest, redirect: "manual", signal: signal === undefined ? late : AbortSignal.any([signal, late]) });
  const { status, headers } = answer;
  const body = await boundedBody(answer);
  // Those that may have no body can't be made with one.
  return new Response([204, 205, 304].includes(status) ? null : body, { status, headers });
}

async function boundedBody({ body }: Response): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of body ?? []) {
    length += part.length;
    if (length > ANSWER_BYTES_MAX) throw new TypeError(`the answer is over ${ANSWER_BYTES_MAX} bytes`);
    parts.push(part);
  }
  return new Uint8Array(Buffer.concat(parts));
}
