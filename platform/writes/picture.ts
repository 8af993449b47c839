import { strict as assert } from "node:assert";
import type { Statement } from "#platform/postgres/database.ts";
import type { Locked, Locks } from "#platform/writes/definitions.ts";
import { type Change, insertStatement, KEY, type Ref, type Table, updateStatements } from "#platform/writes/table.ts";

// biome-ignore lint/suspicious/noExplicitAny: a picture holds rows of every table
type AnyTable = Table<any>;
type Row = object;
type State = "loaded" | "inserted" | "ensured" | "updated";
/** `loaded` is what the database has of a row that was updated. */
type Entry = { readonly row: Row; readonly state: State; readonly loaded?: Row };
type TablePicture = { readonly rows: Map<string, Entry>; readonly indexes: Map<string, Map<string, string>> };

/**
 * The rows that a batch works on: loaded and locked once, then changed by one item after the other, so that a later item
 * sees what an earlier one left. What an item did can be taken back alone.
 */
export class Picture {
  readonly #tables = new Map<AnyTable, TablePicture>();

  load(table: AnyTable, rows: readonly Row[]): void {
    for (const row of rows) this.#put(table, { row, state: "loaded" });
  }

  row<R extends object>(ref: Ref<R>): R | undefined {
    const picture = this.#of(ref.table);
    const key = ref.by === KEY ? ref.value : picture.indexes.get(ref.by)?.get(ref.value);
    return key === undefined ? undefined : (picture.rows.get(key)?.row as R | undefined);
  }

  /** The rows in the shape in which they were named. */
  locked<L extends Locks>(locks: L): Locked<L> {
    if (locks === undefined) return undefined as Locked<L>;
    if (isRef(locks)) return this.row(locks) as Locked<L>;
    if (Array.isArray(locks)) return locks.map((ref) => (ref === undefined ? undefined : this.row(ref))) as Locked<L>;
    return Object.fromEntries(Object.entries(locks).map(([name, inner]) => [name, this.locked(inner as Locks)])) as Locked<L>;
  }

  /** Each change returns how to take it back. */
  insert(table: AnyTable, row: Row): () => void {
    const key = table.keyOf(row);
    assert(!this.#of(table).rows.has(key), `${table.name} ${key} is there already; name it in \`lock\` and decide`);
    return this.#put(table, { row, state: "inserted" });
  }

  ensure(table: AnyTable, row: Row): () => void {
    return this.#of(table).rows.has(table.keyOf(row)) ? () => undefined : this.#put(table, { row, state: "ensured" });
  }

  update(table: AnyTable, row: Row): () => void {
    assert(!table.immutable, `rows of ${table.name} never change`);
    const key = table.keyOf(row);
    const before = this.#of(table).rows.get(key);
    assert(before !== undefined, `${table.name} ${key} isn't there; nothing to update`);
    assert(before.state !== "ensured", `${table.name} ${key} was ensured, so nobody knows what it is`);
    if (before.row === row) return () => undefined;
    if (before.state === "inserted") return this.#put(table, { row, state: "inserted" });
    return this.#put(table, { row, state: "updated", loaded: before.loaded ?? before.row });
  }

  /** What brings the database to this picture: tables by name, rows by key, so that batches meet in one order. */
  flush(): Statement[] {
    const statements: Statement[] = [];
    const tables = [...this.#tables].sort(([a], [b]) => (a.name < b.name ? -1 : 1));
    for (const [table, { rows }] of tables) {
      const inserted: Row[] = [];
      const ensured: Row[] = [];
      const updated: Change<Row>[] = [];
      for (const { row, state, loaded } of rows.values()) {
        if (state === "inserted") inserted.push(row);
        else if (state === "ensured") ensured.push(row);
        else if (state === "updated" && loaded !== undefined) updated.push({ row, loaded });
      }
      if (inserted.length > 0) statements.push(insertStatement(table, inserted, false));
      if (ensured.length > 0) statements.push(insertStatement(table, ensured, true));
      statements.push(...updateStatements(table, updated));
    }
    return statements;
  }

  #of(table: AnyTable): TablePicture {
    let picture = this.#tables.get(table);
    if (picture === undefined) {
      picture = { rows: new Map(), indexes: new Map(Object.keys(table.unique).map((index) => [index, new Map()])) };
      this.#tables.set(table, picture);
    }
    return picture;
  }

  #put(table: AnyTable, entry: Entry): () => void {
    const picture = this.#of(table);
    const key = table.keyOf(entry.row);
    for (const [index, keys] of picture.indexes) {
      const value = table.uniqueValueOf(index, entry.row);
      const holder = value === undefined ? undefined : keys.get(value);
      if (holder !== undefined && holder !== key) throw new UniqueValueTaken(table, index);
    }
    const before = picture.rows.get(key);
    replace(table, picture, key, before, entry);
    return () => replace(table, picture, key, entry, before);
  }
}

/** A second row under the values of a unique index; told by the picture before the database would. */
export class UniqueValueTaken extends Error {
  override readonly name = "UniqueValueTaken";
  readonly code: string;

  constructor(table: AnyTable, index: string) {
    super(`${table.name} has a row with this ${index}`);
    this.code = table.unique[index]?.taken ?? "";
  }
}

function replace(table: AnyTable, { rows, indexes }: TablePicture, key: string, before: Entry | undefined, after: Entry | undefined): void {
  if (after === undefined) rows.delete(key);
  else rows.set(key, after);
  for (const [index, keys] of indexes) {
    const old = before && table.uniqueValueOf(index, before.row);
    if (old !== undefined) keys.delete(old);
    const now = after && table.uniqueValueOf(index, after.row);
    if (now !== undefined) keys.set(now, key);
  }
}

export const isRef = (value: unknown): value is Ref<object> =>
  typeof value === "object" && value !== null && "table" in value && "by" in value && "value" in value;

/** All refs that `locks` names, whatever its shape. */
export function refsOf(locks: Locks): readonly Ref<object>[] {
  if (locks === undefined) return [];
  if (isRef(locks)) return [locks];
  if (Array.isArray(locks)) return locks.filter(isRef);
  return Object.values(locks).flatMap((inner) => refsOf(inner as Locks));
}
