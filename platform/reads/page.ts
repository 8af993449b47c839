import type { Sql } from "#platform/postgres/database.ts";
import { CallError } from "#platform/rpc/call-error.ts";
import { rowsOf, snakeCase, type Table } from "#platform/writes/table.ts";

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
    const after = readToken(request.pageToken, query.by.length);
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

function readToken(token: string, length: number): readonly string[] {
  try {
    const values: unknown = JSON.parse(Buffer.from(token, "base64url").toString());
    if (
      Array.isArray(values) &&
      values.length === length &&
      values.every((value) => typeof value === "string" && /^[0-9a-zA-Z:.+-]{1,64}$/.test(value))
    )
      return values;
  } catch {
    // Said below.
  }
  throw new CallError("INVALID_ARGUMENT", "validation_failed", "The request breaks a rule.", {
    violations: [{ field: "pageToken", rule: "page_token", message: "must be the nextPageToken of a page before" }],
  });
}
