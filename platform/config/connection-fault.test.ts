import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, createServer, type Server } from "node:net";
import { connect, createServer as createSecureServer, type TlsOptions } from "node:tls";
import { SocketClosedUnexpectedlyError } from "@redis/client";
import { describe, expect, onTestFinished, test } from "vitest";
import { authority, certificateFolder } from "#platform/config/certificates.testing.ts";
import { type Certificates, readCertificates } from "#platform/config/certificates.ts";
import { connectionFault } from "#platform/config/connection-fault.ts";

const folder = certificateFolder();
const [ours, theirs] = [authority(folder, "ours"), authority(folder, "theirs")];
const none = { caFile: undefined, certFile: undefined, keyFile: undefined };
type Files = Parameters<typeof readCertificates>[1];
type Signed = Pick<Files & { certFile: string; keyFile: string }, "certFile" | "keyFile">;

/** A server's own options, which demand a certificate of our authority where `isMutual`. */
const server = ({ certFile, keyFile }: Signed, isMutual = false): TlsOptions => ({
  cert: readFileSync(certFile),
  key: readFileSync(keyFile),
  ...(isMutual ? { ca: readFileSync(ours.caFile), requestCert: true, rejectUnauthorized: true } : {}),
});
const own = ours.sign("localhost");
const over = ours.sign("localhost", `${folder}/over`, new Date(Date.now() - 60_000));
const secure = (options: TlsOptions) => createSecureServer(options, (socket) => void socket.on("error", () => undefined));

/** What is told of a connection to this server by who has these files. */
async function told(listening: Server, files: Files, maxVersion: "TLSv1.2" | "TLSv1.3" = "TLSv1.3"): Promise<unknown> {
  listening.listen(0, "127.0.0.1");
  await once(listening, "listening");
  onTestFinished(() => void listening.close());
  const tls = await readCertificates("REDIS", files);
  const { port } = listening.address() as AddressInfo;
  const socket = connect({ port, host: "127.0.0.1", servername: "localhost", maxVersion, ...tls });
  const [error] = await once(socket, "error").catch((thrown: unknown) => [thrown]);
  return connectionFault("REDIS", tls, error);
}

const known = { ...none, caFile: ours.caFile };

describe("a connection that fails for what settings say is told in their words", () => {
  test.each([
    ["an authority that isn't known", server(own), none, "REDIS_CA_FILE must name who signs its certificate"],
    ["another authority", server(own), { ...none, caFile: theirs.caFile }, "REDIS_CA_FILE: none of its authorities signs"],
    ["another host", server(ours.sign("elsewhere")), known, "REDIS_URL: its certificate is for another host"],
    ["a certificate whose time is over", server(over), known, "REDIS_URL: its certificate isn't valid now"],
    ["a certificate that is wanted", server(own, true), known, /REDIS_URL: .* want a certificate|REDIS_CERT_FILE: it wants a certificate/],
  ] as const)("%s", async (_, options, files, words) => {
    for (const version of ["TLSv1.2", "TLSv1.3"] as const)
      expect(await told(secure(options), files, version)).toMatchObject({
        message: expect.stringMatching(words),
        cause: expect.anything(),
      });
  });

  test("a server that doesn't encrypt", async () => {
    const plain = createServer((socket) => void socket.on("error", () => undefined).end("AMQP\0\0\x09\x01"));
    expect(await told(plain, known)).toMatchObject({ message: "REDIS_URL: it doesn't encrypt there" });
  });

  test("an end before a word is said, of which a certificate may be the reason, or its want", () => {
    const closed = (code: string) => Object.assign(new Error("closed"), { code });
    for (const error of [closed("ECONNRESET"), closed("CONN_CLOSE"), new SocketClosedUnexpectedlyError()]) {
      const said = (tls: Certificates | undefined) => String(connectionFault("REDIS", tls, error));
      expect(said(undefined)).toContain("REDIS_URL: it ends the connection before a word is said; it may take TLS alone there");
      expect(said({})).toContain("it may want a certificate, REDIS_CERT_FILE");
      expect(said({ cert: "" })).toContain("it may not believe the certificate in REDIS_CERT_FILE");
    }
  });

  test("but nothing is made of what has nothing to do with them", () => {
    for (const error of [Object.assign(new Error("refused"), { code: "ECONNREFUSED" }), "no error", undefined])
      expect(connectionFault("REDIS", {}, error)).toBe(error);
  });
});
