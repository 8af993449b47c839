import { isUuid } from "#platform/ids.ts";
import type { Sql } from "#platform/postgres/database.ts";
import { validationFailed } from "#platform/rpc/validation.ts";
import { snakeCase, type Table } from "#platform/writes/table.ts";
import { rowsOf } from "#platform/writes/table-statements.ts";

const PAGE_SIZE_DEFAULT = 50;

export type PageRequest = { readonly pageSize: number; readonly pageToken: string };

/**
 * One page of a table's rows: those that equal `where` (what is undefined is left out), in the order of `by`, whose last
 * field is unique. Pages go on after the last row seen, so that rows that come in between neither repeat nor hide any.
 */
export async function page<R extends object>(
  sql: Sql,
  table: Table<R>,
  query: {
    readonly where: { readonly [K in keyof R & string]?: R[K] | undefined };
    readonly by: readonly (keyof R & string)[];
    readonly newestFirst?: boolean;
  },
  request: PageRequest,
): Promise<{ rows: R[]; nextPageToken: string }> {
  const size = request.pageSize === 0 ? PAGE_SIZE_DEFAULT : request.pageSize;
  const values: unknown[] = [];
  const param = (field: keyof R & string, value: unknown): string => {
    const column = table.columns.get(field);
    if (column === undefined) throw new Error(`${table.name} has no ${field}`);
    return `$${values.push(value)}::${column.type}`;
  };
  const conditions = Object.entries(query.where)
    .filter(([, value]) => value !== undefined)
    .map(([field, value]) => `${snakeCase(field)} = ${param(field as keyof R & string, single(table, field as keyof R & string, value))}`);
  const names = query.by.map(snakeCase);
  if (request.pageToken !== "") {
    const after = readToken(
      request.pageToken,
      query.by.map((field) => table.columns.get(field)?.type),
    );
    conditions.push(
      `(${names.join(", ")}) ${query.newestFirst ? "<" : ">"} (${query.by.map((field, i) => param(field, after[i])).join(", ")})`,
    );
  }
  const order = names.map((name) => `${name} ${query.newestFirst ? "DESC" : "ASC"}`).join(", ");
  const columns = [...table.columns.values()].map(({ name }) => name).join(", ");
  const answer = await sql.query({
    name: `page ${table.name} ${conditions.length} ${Object.keys(query.where)
      .filter((f) => query.where[f as keyof R & string] !== undefined)
      .join(" ")} ${request.pageToken !== ""}`,
    text: `SELECT ${columns} FROM ${table.name}${conditions.length === 0 ? "" : ` WHERE ${conditions.join(" AND ")}`} ORDER BY ${order} LIMIT $${values.push(size + 1)}`,
    values,
  });
  const rows = rowsOf(table, answer);
  const last = rows[size - 1];
  if (rows.length <= size || last === undefined) return { rows, nextPageToken: "" };
  return { rows: rows.slice(0, size), nextPageToken: makeToken(query.by.map((field) => single(table, field, last[field]))) };
}

const single = <R extends object>(table: Table<R>, field: keyof R & string, value: unknown): string => {
  const column = table.columns.get(field);
  return column?.type === "text" && typeof value === "string" ? value : String(column?.encode(value as never));
};

const makeToken = (values: readonly string[]): string => Buffer.from(JSON.stringify(values)).toString("base64url");

/** What a value of a column's type looks like in a token: what we wrote there, and nothing that the database would choke on. */
const isValueOf: { readonly [type: string]: (text: string) => boolean } = {
  uuid: isUuid,
  timestamptz: (text) => {
    if (!/^(?!0000)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(\d{3})?Z$/.test(text)) return false;
    const ms = Date.parse(`${text.slice(0, 23)}Z`);
    // A day or an hour that there isn't comes back as another.
    return !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(text.slice(0, 23));
  },
  bigint: (text) => /^-?\d{1,19}$/.test(text) && BigInt.asIntN(64, BigInt(text)) === BigInt(text),
  integer: (text) => /^-?\d{1,10}$/.test(text) && (Number(text) | 0) === Number(text),
  text: (text) => text.isWellFormed() && !text.includes("\0"),
};

/** The values of a token, one for each of these column types. Throws `validation_failed` for one that we can't have given. */
function readToken(token: string, types: readonly (string | undefined)[]): readonly string[] {
  const checks = types.map((type = "") => {
    const check = isValueOf[type];
    if (check === undefined) throw new Error(`no page token can hold a ${type || "column that isn't there"}`);
    return check;
  });
  try {
    const values: unknown = JSON.parse(Buffer.from(token, "base64url").toString());
    if (
      Array.isArray(values) &&
      values.length === checks.length &&
      values.every((value, i) => typeof value === "string" && checks[i]?.(value))
    )
      return values;
  } catch {
    // Said below.
  }
  throw validationFailed([{ field: "pageToken", rule: "page_token", message: "must be the nextPageToken of a page before" }]);
}
