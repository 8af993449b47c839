import type { Certificates } from "#platform/config/certificates.ts";

/** As Node and OpenSSL name a chain that ends in no authority that is known. */
const UNKNOWN_AUTHORITY = new Set([
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "CERT_SIGNATURE_FAILURE",
]);

/** An end that the other side makes, as Node and clients of engines name it. */
const ENDED = new Set(["ECONNRESET", "EPIPE", "CONN_CLOSE", "SocketClosedUnexpectedlyError"]);

/**
 * Why a client hasn't come to an engine, in words of the settings that may mend it, with the fault itself as its cause; what has
 * nothing to do with them is given back as it is.
 */
export function connectionFault(engine: string, tls: Certificates | undefined, error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const said = faultIn(engine, tls, error);
  return said === undefined ? error : new Error(said, { cause: error });
}

function faultIn(engine: string, tls: Certificates | undefined, error: Error): string | undefined {
  const { code = "", message } = error as Error & { readonly code?: string };
  const { name } = error.constructor;
  const [url, ca, cert] = [`${engine}_URL`, `${engine}_CA_FILE`, `${engine}_CERT_FILE`];
  const wants = tls?.cert === undefined ? `it may want a certificate, ${cert}` : `it may not believe the certificate in ${cert}`;
  // It may go before its reason comes, or give none.
  if (ENDED.has(code) || ENDED.has(name))
    return `${url}: it ends the connection before a word is said; ${tls === undefined ? "it may take TLS alone there" : wants}`;
  if (tls === undefined) return undefined;
  if (UNKNOWN_AUTHORITY.has(code))
    return tls.ca === undefined
      ? `${ca} must name who signs its certificate: no authority that Node knows does`
      : `${ca}: none of its authorities signs the certificate that is shown`;
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") return `${url}: its certificate is for another host`;
  if (code === "CERT_HAS_EXPIRED" || code === "CERT_NOT_YET_VALID") return `${url}: its certificate isn't valid now`;
  if (/wrong version number|packet length too long/i.test(message)) return `${url}: it doesn't encrypt there`;
  // Redis takes a greeting of TLS for a line that isn't at its end.
  if (name === "ConnectionTimeoutError") return `${url}: it doesn't answer, or doesn't encrypt there`;
  if (/alert certificate required|alert handshake failure/i.test(message) && tls.cert === undefined)
    return `${cert}: it wants a certificate`;
  if (/alert (unknown ca|.*certificate|decrypt error)/i.test(message)) return `${cert}: it doesn't believe the certificate`;
  return undefined;
}
