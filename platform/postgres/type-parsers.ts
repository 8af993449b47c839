import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { type CustomTypesConfig, types } from "pg";

type Parse = (text: string) => unknown;

const ZERO = 48;
const digits = (text: string, from: number, to: number): number => {
  let n = 0;
  for (let i = from; i < to; i++) n = n * 10 + text.charCodeAt(i) - ZERO;
  return n;
};

/** What follows the seconds: a fraction, and the offset from UTC. */
const TAIL = /^(?:\.(\d{1,6}))?([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?$/;
const YEAR_MIN = 100;

/**
 * A timestamptz as Protobuf's Timestamp, with its microseconds.
 * @throws RangeError for what a Timestamp can't hold: infinity, years before 1 or after 9999.
 */
function parseTimestamp(text: string): Timestamp {
  let seconds = Number.NaN;
  let nanos = 0;
  if (text.charCodeAt(4) === 45 && text.charCodeAt(10) === 32) {
    const year = digits(text, 0, 4);
    const [month, day] = [digits(text, 5, 7), digits(text, 8, 10)];
    const [hours, minutes, wholeSeconds] = [digits(text, 11, 13), digits(text, 14, 16), digits(text, 17, 19)];
    // Date.UTC takes years below 100 for those of the twentieth century.
    seconds =
      (year < YEAR_MIN
        ? Date.parse(`${text.slice(0, 10)}T${text.slice(11, 19)}Z`)
        : Date.UTC(year, month - 1, day, hours, minutes, wholeSeconds)) / 1000;
    if (text.charCodeAt(19) === 46 && text.endsWith("+00")) {
      const end = text.length - 3;
      nanos = digits(text, 20, end) * 10 ** (9 - (end - 20));
    } else if (text.length !== 22 || !text.endsWith("+00")) {
      const tail = TAIL.exec(text.slice(19));
      if (tail === null) seconds = Number.NaN;
      else {
        nanos = Number((tail[1] ?? "").padEnd(9, "0"));
        const offsetS = Number(tail[3]) * 3600 + Number(tail[4] ?? 0) * 60 + Number(tail[5] ?? 0);
        seconds -= tail[2] === "-" ? -offsetS : offsetS;
      }
    }
  }
  if (Number.isNaN(seconds)) throw new RangeError(`${text} is no google.protobuf.Timestamp`);
  return { $typeName: "google.protobuf.Timestamp", seconds: BigInt(seconds), nanos };
}

/** bytea in the server's hex format. */
const parseBytes = (text: string): Buffer => Buffer.from(text.slice(2), "hex");

/** An array of one dimension whose elements need no quotes, or only those around each. */
const arrayOf =
  (parse: Parse): Parse =>
  (text) =>
    text === "{}"
      ? []
      : text
          .slice(1, -1)
          .split(",")
          .map((element) =>
            element === "NULL" ? null : parse(element.startsWith('"') ? element.slice(1, -1).replaceAll("\\\\", "\\") : element),
          );

const asText: Parse = (text) => text;

/** By the type's OID (pg_type.dat). What isn't here is parsed as pg does by default. */
const parsers = new Map<number, Parse>([
  [17, parseBytes],
  [20, BigInt],
  [1001, arrayOf(parseBytes)],
  [1016, arrayOf(BigInt)],
  [1082, asText], // date
  [1114, asText], // timestamp without time zone: says no moment
  [1184, parseTimestamp],
  [1185, arrayOf(parseTimestamp)],
]);

/** bigint stays bigint, timestamptz is a Timestamp, bytea a Buffer, date and timestamp are text. Given to a client, never to the process. */
export const typeParsers: CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: "text" | "binary") =>
    (format === "binary" ? undefined : parsers.get(oid)) ?? types.getTypeParser(oid, format)) as CustomTypesConfig["getTypeParser"],
};
