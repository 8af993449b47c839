import type { Rows, Statement } from "#platform/postgres/database.ts";
import { type Column, quote } from "#platform/writes/columns.ts";
import { KEY, type Ref, snakeCase, type Table } from "#platform/writes/table.ts";

type AnyColumn = { readonly name: string } & Column<never>;

/** By table, and by what else tells the statement apart: texts are long and sent all the time, so each is made once. */
const texts = new WeakMap<object, Map<string, string>>();

function textOf(table: object, statement: string, make: () => string): string {
  let known = texts.get(table);
  if (known === undefined) {
    known = new Map();
    texts.set(table, known);
  }
  let text = known.get(statement);
  if (text === undefined) {
    text = make();
    known.set(statement, text);
  }
  return text;
}

/** `$1::uuid[], $2::text[]`: a parameter for each column. */
const parameters = (columns: readonly { readonly type: string }[]): string =>
  columns.map(({ type }, i) => `$${i + 1}::${type}[]`).join(", ");

function columnArray<R>(rows: readonly R[], field: keyof R & string, column: Column<never>): string {
  let literal = "{";
  for (const row of rows) literal += `${literal.length === 1 ? "" : ","}${column.encode(row[field] as never)}`;
  return `${literal}}`;
}

/**
 * One statement that inserts all rows, in the order of their keys: two batches meet at an index in the same order. With
 * `ifAbsent` rows that are there already stay as they are.
 */
export function insertStatement<R extends object>(table: Table<R>, rows: readonly R[], ifAbsent: boolean): Statement {
  const sorted = [...rows].sort((a, b) => (table.keyOf(a) < table.keyOf(b) ? -1 : 1));
  const name = ifAbsent ? "ensure" : "insert";
  const text = textOf(table, name, () => {
    const columns = [...table.columns.values()];
    const names = columns.map((column) => column.name).join(", ");
    return `INSERT INTO ${table.name} (${names}) SELECT * FROM unnest(${parameters(columns)})${ifAbsent ? " ON CONFLICT DO NOTHING" : ""}`;
  });
  const values: string[] = [];
  for (const [field, column] of table.columns) values.push(columnArray(sorted, field, column));
  return { name: `${name} ${table.name}`, text, values };
}

export type Change<R extends object> = { readonly row: R; readonly loaded: R };

/** One statement that changes rows by their keys, in the columns in which some row differs from what was loaded; none where none does. */
export function updateStatements<R extends object>(table: Table<R>, changes: readonly Change<R>[]): Statement[] {
  const differs = (field: keyof R & string): boolean => changes.some(({ row, loaded }) => row[field] !== loaded[field]);
  const changed = [...table.columns].filter(([field]) => differs(field));
  const key = table.columns.get(table.key);
  if (changed.length === 0 || key === undefined) return [];
  const columns = [[table.key, key] as const, ...changed];
  const rows = changes.map(({ row }) => row);
  const text = textOf(table, `update ${changed.map(([field]) => field).join(" ")}`, () => {
    const sets = changed.map(([, { name }]) => `${name} = u.${name}`).join(", ");
    const names = columns.map(([, { name }]) => name).join(", ");
    const arrays = parameters(columns.map(([, column]) => column));
    return `UPDATE ${table.name} SET ${sets} FROM unnest(${arrays}) u (${names}) WHERE ${table.name}.${key.name} = u.${key.name}`;
  });
  return [{ name: `update ${table.name}`, text, values: columns.map(([field, column]) => columnArray(rows, field, column)) }];
}

/** Whether rows that are read are locked, in the order of their keys: not, all, or those that nobody else holds, which alone are read then. */
export type SelectLock = "none" | "wait" | "skip";

/** One statement that reads the rows of one table that `refs` name. Rows that never change are never locked. */
export function selectStatement<R extends object>(table: Table<R>, refs: readonly Ref<R>[], lock: SelectLock): Statement {
  const groups = new Map<string, Ref<R>[]>();
  for (const ref of refs) {
    const group = groups.get(ref.by);
    if (group === undefined) groups.set(ref.by, [ref]);
    else group.push(ref);
  }
  const values: string[] = [];
  for (const [by, group] of groups) {
    if (by === KEY) values.push(textArray(group, ({ value }) => value));
    else fieldsOf(table, by).forEach((_, i) => void values.push(textArray(group, ({ values: of }) => of?.[i] ?? "")));
  }
  const taken = table.immutable ? "none" : lock;
  const name = `read ${taken} ${table.name} ${[...groups.keys()].join(" ")}`;
  return { name, text: textOf(table, name, () => selectText(table, [...groups.keys()], taken)), values };
}

const fieldsOf = <R extends object>(table: Table<R>, index: string): readonly (keyof R & string)[] => table.unique[index]?.fields ?? [];

/** The select for refs by the key and by these unique indexes, with the parameters in the same order. */
function selectText<R extends object>(table: Table<R>, by: readonly string[], lock: SelectLock): string {
  const columns = [...table.columns.values()].map(({ name }) => `t.${name}`).join(", ");
  const key = snakeCase(table.key);
  let count = 0;
  const parameter = (field: keyof R & string): string => {
    count += 1;
    return `$${count}::${(table.columns.get(field) as AnyColumn | undefined)?.type ?? "text"}[]`;
  };
  const keys = by.map((index) => {
    if (index === KEY) return `SELECT unnest(${parameter(table.key)}) AS k`;
    const fields = fieldsOf(table, index);
    const arrays = fields.map(parameter).join(", ");
    const on = fields.map((field) => `x.${snakeCase(field)} = u.${snakeCase(field)}`).join(" AND ");
    return `SELECT x.${key} AS k FROM unnest(${arrays}) u (${fields.map(snakeCase).join(", ")}) JOIN ${table.name} x ON ${on}`;
  });
  count = 0;
  const where = by.length === 1 && by[0] === KEY ? `= ANY(${parameter(table.key)})` : `IN (${keys.join(" UNION ")})`;
  const order = lock === "none" ? "" : ` ORDER BY t.${key} FOR NO KEY UPDATE OF t${lock === "skip" ? " SKIP LOCKED" : ""}`;
  return `SELECT ${columns} FROM ${table.name} t WHERE t.${key} ${where}${order}`;
}

function textArray<R extends object>(refs: readonly Ref<R>[], read: (ref: Ref<R>) => string): string {
  let literal = "{";
  for (const ref of refs) literal += `${literal.length === 1 ? "" : ","}${quote(read(ref))}`;
  return `${literal}}`;
}

/** The rows of an answer of the database. */
export const rowsOf = <R extends object>(table: Table<R>, answer: Rows<Record<string, unknown>>): R[] => answer.rows.map(table.fromRow);
