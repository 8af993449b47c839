import { expect, test } from "vitest";
import { frameHeader, unframe } from "#platform/schemas/wire-format.ts";

const payload = Buffer.from([0x0a, 0x01, 0x78]);

test.each([
  { indexes: [0], written: "00" },
  { indexes: [1], written: "0202" },
  { indexes: [1, 0], written: "040200" },
  { indexes: [64], written: "028001" },
])("a message at $indexes of its file follows the header that other clients write and read", ({ indexes, written }) => {
  const header = frameHeader(258, indexes);
  expect(header.toString("hex")).toBe(`0000000102${written}`);
  expect(unframe(Buffer.concat([header, payload]))).toEqual({ schemaId: 258, payload });
});

test("a message without a header is taken as it is; one whose header is cut off is refused", () => {
  expect(unframe(payload)).toEqual({ schemaId: undefined, payload });
  expect(unframe(Buffer.alloc(0)).payload).toHaveLength(0);
  for (const broken of ["00", "0000000102", "0000000102028", "000000010204"])
    expect(() => unframe(Buffer.from(broken, "hex"))).toThrow("cut off");
});
