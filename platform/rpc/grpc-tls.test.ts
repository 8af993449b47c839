import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { ConformanceService } from "#contracts/polis/conformance/v1/conformance_pb.ts";
import { authority, certificateFolder } from "#platform/config/certificates.testing.ts";
import { testLog } from "#platform/postgres/database.testing.ts";
import { createClient } from "#platform/rpc/client.ts";
import { conformanceEndpoint, failure, tokens, user } from "#platform/rpc/conformance.testing.ts";
import { startGrpcServer } from "#platform/rpc/grpc-server.ts";
import { openGrpcTls } from "#platform/rpc/grpc-tls.ts";
import { grpcTransport } from "#platform/rpc/grpc-transport.ts";

const folder = certificateFolder();
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const [ours, theirs] = [authority(folder, "ours"), authority(folder, "theirs")];
const none = { certFile: undefined, keyFile: undefined, caFile: undefined };
const LOOK_EVERY_MS = 20;

type Settings = Parameters<typeof openGrpcTls>[0];

async function open(settings: Settings) {
  const tls = await openGrpcTls(settings, testLog, LOOK_EVERY_MS);
  closing.push(() => tls?.close());
  return tls;
}

async function serve(settings: Settings): Promise<number> {
  const server = await startGrpcServer({
    endpoints: [conformanceEndpoint()],
    tokens,
    tls: await open(settings),
    host: "localhost",
    port: 0,
  });
  closing.push(() => server.close({ drainMs: 50 }));
  return server.port;
}

/** A call over a connection of its own. */
async function ask(settings: Settings, ...addresses: string[]): Promise<string> {
  const transport = grpcTransport({ addresses, tokens, tls: await open(settings) });
  try {
    return (await createClient(ConformanceService, transport, { caller: user }).ask({ text: "over TLS" }, { timeoutMs: 5_000 })).text;
  } finally {
    transport.close();
  }
}

describe("with GRPC_TLS on", async () => {
  const own = ours.sign("localhost");
  const server: Settings = { mode: "on", ...own, caFile: undefined };
  const client: Settings = { ...none, mode: "on", caFile: ours.caFile };

  test("a caller that knows the authority is served, and needs no certificate", async () => {
    expect(await ask(client, `localhost:${await serve(server)}`)).toBe("over TLS");
  });

  test("a peer may be known by its address", async () => {
    const port = await serve({ ...server, ...ours.sign("127.0.0.1") });
    expect(await ask(client, `127.0.0.1:${port}`)).toBe("over TLS");
  });

  test("a caller that doesn't, or doesn't encrypt, gets nowhere", async () => {
    const port = await serve(server);
    const plain: Settings = { ...none, mode: "off" };
    for (const settings of [{ ...client, caFile: theirs.caFile }, { ...client, caFile: undefined }, plain])
      expect(await failure(ask(settings, `localhost:${port}`))).toMatchObject({ status: "UNAVAILABLE" });
  });

  test("a peer whose certificate names none of the hosts that were asked for isn't believed", async () => {
    const port = await serve({ ...server, ...ours.sign("another.example") });
    expect(await failure(ask(client, `localhost:${port}`))).toMatchObject({ status: "UNAVAILABLE" });
    // Of several addresses, each may be the one.
    const last = await serve(server);
    expect(await ask(client, "nowhere.invalid:1", `localhost:${last}`)).toBe("over TLS");
  });
});

describe("with GRPC_TLS mutual", () => {
  test("who has a certificate of the authority is served, and nobody else", async () => {
    const settings: Settings = { mode: "mutual", ...ours.sign("localhost"), caFile: ours.caFile };
    const address = `localhost:${await serve(settings)}`;
    expect(await ask({ ...settings, ...ours.sign("caller") }, address)).toBe("over TLS");
    const strangers: Settings[] = [
      { ...none, mode: "on", caFile: ours.caFile },
      { ...settings, ...theirs.sign("caller") },
    ];
    for (const stranger of strangers) expect(await failure(ask(stranger, address))).toMatchObject({ status: "UNAVAILABLE" });
  });

  test("certificates are changed without a stop, and a pair that doesn't fit changes nothing", async () => {
    const files = join(folder, "changing");
    const settings: Settings = { mode: "mutual", ...ours.sign("localhost", files), caFile: join(folder, "both-ca.pem") };
    const authorities = (...of: (typeof ours)[]) =>
      writeFileSync(settings.caFile ?? "", of.map(({ caFile }) => readFileSync(caFile, "utf8")).join("\n"));
    authorities(ours);
    const address = `localhost:${await serve(settings)}`;
    const old: Settings = { mode: "mutual", ...ours.sign("old"), caFile: ours.caFile };
    const young: Settings = { mode: "mutual", ...theirs.sign("young"), caFile: theirs.caFile };
    expect(await ask(old, address)).toBe("over TLS");
    expect(await failure(ask(young, address))).toMatchObject({ status: "UNAVAILABLE" });

    writeFileSync(settings.keyFile ?? "", "half of a key");
    authorities(ours, theirs);
    expect(await ask(old, address)).toBe("over TLS");
    theirs.sign("localhost", files);
    await vi.waitFor(async () => expect(await ask(young, address)).toBe("over TLS"), { timeout: 5_000 });
    // The authority is still taken, but the server has shown another's certificate since.
    expect(await failure(ask(old, address))).toMatchObject({ status: "UNAVAILABLE" });
  });
});

test.each([
  { said: { mode: "mutual", ...none }, fault: "needs GRPC_CERT_FILE, GRPC_KEY_FILE and GRPC_CA_FILE" },
  { said: { mode: "on", ...none, caFile: "/nowhere/ca.pem" }, fault: "GRPC_CA_FILE: the file can't be read" },
  { said: { mode: "off", ...none, caFile: "/some/ca.pem" }, fault: "but GRPC_TLS is off" },
] as { said: Settings; fault: string }[])("settings that make no sense stop the start: $fault", async ({ said, fault }) => {
  await expect(openGrpcTls(said, testLog)).rejects.toThrow(fault);
});

test("a key that isn't the certificate's stops the start, and so does a server without a certificate", async () => {
  const [one, other] = [ours.sign("one"), ours.sign("other")];
  const mixed: Settings = { mode: "on", certFile: one.certFile, keyFile: other.keyFile, caFile: undefined };
  await expect(openGrpcTls(mixed, testLog)).rejects.toThrow("GRPC_KEY_FILE isn't the key of the certificate in GRPC_CERT_FILE");
  await expect(serve({ ...none, mode: "on" })).rejects.toThrow("a process that serves gRPC needs GRPC_CERT_FILE and GRPC_KEY_FILE");
});
