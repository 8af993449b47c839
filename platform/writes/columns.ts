import { type DescEnum, type DescField, type DescMessage, type MessageShape, ScalarType } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";

/** How one field of a row is kept in a column. */
export type Column<T> = {
  readonly type: string;
  /** The value as an element of an array literal of PostgreSQL. */
  readonly encode: (value: T) => string;
  /** The value from what the driver gives. */
  readonly decode: (raw: unknown) => T;
};

/** The columns of a row, by the row's field names in lowerCamelCase; the database has them in snake_case. */
export type Columns<R> = { readonly [K in keyof R]-?: Column<R[K]> };

/** A text as an element of an array literal of PostgreSQL. */
export const quote = (text: string): string => `"${text.includes('"') || text.includes("\\") ? text.replace(/["\\]/g, "\\$&") : text}"`;
const asIs = (raw: unknown): never => raw as never;

export const uuid: Column<string> = { type: "uuid", encode: asIs, decode: asIs };
export const text: Column<string> = { type: "text", encode: quote, decode: asIs };
export const bigint: Column<bigint> = { type: "bigint", encode: String, decode: asIs };
export const integer: Column<number> = { type: "integer", encode: String, decode: asIs };
export const boolean: Column<boolean> = { type: "boolean", encode: String, decode: asIs };
export const bytes: Column<Uint8Array> = {
  type: "bytea",
  encode: (value) => `"\\\\x${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("hex")}"`,
  decode: asIs,
};

let lastSeconds: bigint | undefined;
let lastNanos: number | undefined;
let lastText = "";

/** timestamptz; microseconds are kept, what is finer is cut off. */
export const timestamp: Column<Timestamp> = {
  type: "timestamptz",
  encode: ({ seconds, nanos }) => {
    // The rows of a batch share their millisecond more often than not.
    if (seconds === lastSeconds && nanos === lastNanos) return lastText;
    const iso = new Date(Number(seconds) * 1000 + Math.floor(nanos / 1_000_000)).toISOString();
    const micros = Math.floor(nanos / 1000) % 1000;
    lastSeconds = seconds;
    lastNanos = nanos;
    lastText = micros === 0 ? iso : `${iso.slice(0, -1)}${String(micros).padStart(3, "0")}Z`;
    return lastText;
  },
  decode: asIs,
};

/** null in the database is undefined in the row. */
export const optional = <T>(column: Column<T>): Column<T | undefined> => ({
  type: column.type,
  encode: (value) => (value === undefined ? "NULL" : column.encode(value)),
  decode: (raw) => (raw === null ? undefined : column.decode(raw)),
});

/** One of a few words. */
export const oneOf = <const T extends string>(...words: readonly T[]): Column<T> => ({
  type: "text",
  encode: (value) => value,
  decode: (raw) => {
    if (!words.includes(raw as T)) throw new Error(`${String(raw)} is none of ${words.join(", ")}`);
    return raw as T;
  },
});

/** An enum of a contract, kept by its name. */
function enumeration(schema: DescEnum): Column<number> {
  const numbers = new Map(schema.values.map((value) => [value.name, value.number]));
  return {
    type: "text",
    encode: (value) => {
      const name = schema.value[value]?.name;
      if (name === undefined) throw new Error(`${value} is no value of ${schema.typeName}`);
      return name;
    },
    decode: (raw) => {
      const number = numbers.get(raw as string);
      if (number === undefined) throw new Error(`${String(raw)} is no name of ${schema.typeName}`);
      return number;
    },
  };
}

const scalars: Partial<Record<ScalarType, Column<never>>> = {
  [ScalarType.STRING]: text as unknown as Column<never>,
  [ScalarType.INT64]: bigint as unknown as Column<never>,
  [ScalarType.INT32]: integer as unknown as Column<never>,
  [ScalarType.BOOL]: boolean as unknown as Column<never>,
  [ScalarType.BYTES]: bytes as unknown as Column<never>,
};

/**
 * The columns of a table that holds messages of a contract: a scalar by its type, an enum by name, a Timestamp as
 * timestamptz, an optional field as a nullable column. Fields named `id` or `…_id` are uuids.
 */
export function columnsOf<D extends DescMessage>(schema: D): Columns<Omit<MessageShape<D>, "$typeName" | "$unknown">> {
  const columns = schema.fields.map((field) => [field.localName, columnOf(field)] as const);
  return Object.fromEntries(columns) as unknown as Columns<Omit<MessageShape<D>, "$typeName" | "$unknown">>;
}

function columnOf(field: DescField): Column<never> {
  const column = plainColumnOf(field);
  return field.fieldKind === "scalar" && field.proto.proto3Optional ? (optional(column) as unknown as Column<never>) : column;
}

function plainColumnOf(field: DescField): Column<never> {
  if (field.fieldKind === "enum") return enumeration(field.enum) as unknown as Column<never>;
  if (field.fieldKind === "message" && field.message.typeName === TimestampSchema.typeName) return timestamp as unknown as Column<never>;
  if (field.fieldKind === "scalar" && field.scalar === ScalarType.STRING && (field.name === "id" || field.name.endsWith("_id")))
    return uuid as unknown as Column<never>;
  const column = field.fieldKind === "scalar" ? scalars[field.scalar] : undefined;
  if (column === undefined) throw new Error(`${field.parent.typeName}.${field.name} has no column type; list the table's columns by hand`);
  return column;
}
