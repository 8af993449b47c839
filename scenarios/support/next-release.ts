import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { release } from "../../cli/release.ts";

const root = join(import.meta.dirname, "..", "..");
const PARTS = ["bin", "cli", "contracts", "platform", "services", "systems", "package.json", "buf.yaml", "buf.gen.yaml"];

const [major = 0, minor = 0] = release.split(".").map(Number);
/** The release after this one. */
export const nextRelease = `${major}.${minor + 1}.0`;

/**
 * This code as the next release might have it: orders tells more in OrderCreated, and tells of each order by another event as well,
 * which this release doesn't know; and its database has a migration more.
 */
export function makeNextRelease(): { readonly root: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), "polis-next-"));
  const edit = (path: string, from: string, to: string): void => {
    const text = readFileSync(join(folder, path), "utf8");
    if (!text.includes(from)) throw new Error(`${path} no longer holds what the next release changes: ${from}`);
    writeFileSync(join(folder, path), text.replace(from, to));
  };
  for (const part of PARTS) cpSync(join(root, part), join(folder, part), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  edit("package.json", `"version": "${release}"`, `"version": "${nextRelease}"`);
  const events = "contracts/polis/orders/v1/events.proto";
  edit(events, `string currency = 5 [`, `string channel = 6;\n    string currency = 5 [`);
  writeFileSync(
    join(folder, events),
    `${readFileSync(join(folder, events), "utf8")}
// An order was seen by the next release.
message OrderSeen {
  option (polis.options.v1.event) = {
    topic: "orders.events"
    key: "data.order_id"
  };
  string event_id = 1;
  string event_type = 2;
  google.protobuf.Timestamp occurred_at = 3;
  Data data = 4;

  message Data {
    string order_id = 1 [(buf.validate.field).string.uuid = true];
  }
}
`,
  );
  execFileSync(process.execPath, [join(folder, "contracts", "generate.ts")], {
    cwd: folder,
    env: { ...process.env, PATH: `${join(folder, "node_modules", ".bin")}:${process.env.PATH}` },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const publish = "tx.publish(OrderCreatedSchema, { orderId: id, userId, amount, description, currency });";
  edit(
    "services/orders/create-order.ts",
    publish,
    `${publish.replace("currency }", `currency, channel: "web" }`)}\n    tx.publish(OrderSeenSchema, { orderId: id });`,
  );
  for (const path of ["services/orders/create-order.ts", "services/orders/service.ts"])
    edit(path, "import { OrderCreatedSchema }", "import { OrderCreatedSchema, OrderSeenSchema }");
  edit("services/orders/service.ts", "publishes: [OrderCreatedSchema]", "publishes: [OrderCreatedSchema, OrderSeenSchema]");
  writeFileSync(
    join(folder, "services/orders/migrations/9001-channel.sql"),
    `-- release: ${nextRelease}\n\nALTER TABLE orders ADD COLUMN channel text NOT NULL DEFAULT 'web';\n`,
  );
  return { root: folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}
