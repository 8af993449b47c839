import type { Statement } from "#platform/postgres/database.ts";
import type { Locked, Locks } from "#platform/writes/definitions.ts";
import { KEY, Ref, type Table } from "#platform/writes/table.ts";
import { type Change, insertStatement, updateStatements } from "#platform/writes/table-statements.ts";

// biome-ignore lint/suspicious/noExplicitAny: a picture holds rows of every table
type AnyTable = Table<any>;
type Row = object;
type State = "loaded" | "inserted" | "ensured" | "updated";
/** `loaded` is what the database has of a row that was updated. */
type Entry = { readonly row: Row; readonly state: State; readonly loaded: Row | undefined };
type TablePicture = {
  readonly table: AnyTable;
  readonly rows: Map<string, Entry>;
  readonly indexes: ReadonlyMap<string, Map<string, string>>;
};
type Undo = { readonly picture: TablePicture; readonly key: string; readonly before: Entry | undefined };

/**
 * The rows that a batch works on: loaded and locked once, then changed by one item after the other, so that a later item
 * sees what an earlier one left. What the item that runs did can be taken back alone.
 */
export class Picture {
  readonly #tables = new Map<AnyTable, TablePicture>();
  /** What the item that runs has changed so far. */
  readonly #journal: Undo[] = [];

  load(table: AnyTable, rows: readonly Row[]): void {
    for (const row of rows) this.#put(this.#of(table), table.keyOf(row), { row, state: "loaded", loaded: undefined });
    this.begin();
  }

  /** The next item runs: what was changed so far stays. */
  begin(): void {
    this.#journal.length = 0;
  }

  /** Takes back what the item that runs has changed. */
  undo(): void {
    for (let change = this.#journal.pop(); change !== undefined; change = this.#journal.pop())
      replace(change.picture, change.key, change.before);
  }

  row<R extends object>(ref: Ref<R>): R | undefined {
    const picture = this.#of(ref.table);
    const key = ref.by === KEY ? ref.value : picture.indexes.get(ref.by)?.get(ref.value);
    return key === undefined ? undefined : (picture.rows.get(key)?.row as R | undefined);
  }

  /** The rows in the shape in which they were named. */
  locked<L extends Locks>(locks: L): Locked<L> {
    if (locks === undefined) return undefined as Locked<L>;
    if (locks instanceof Ref) return this.row(locks) as Locked<L>;
    if (Array.isArray(locks)) return locks.map((ref) => ref && this.row(ref)) as Locked<L>;
    const rows: Record<string, unknown> = {};
    for (const [name, inner] of Object.entries(locks)) rows[name] = this.locked(inner as Locks);
    return rows as Locked<L>;
  }

  /** Throws UniqueValueTaken where another row has a value that must be unique. */
  insert(table: AnyTable, row: Row): void {
    const picture = this.#of(table);
    const key = table.keyOf(row);
    if (picture.rows.has(key)) throw new Error(`${table.name} ${key} is there already; name it in \`lock\` and decide`);
    this.#put(picture, key, { row, state: "inserted", loaded: undefined });
  }

  ensure(table: AnyTable, row: Row): void {
    const picture = this.#of(table);
    const key = table.keyOf(row);
    if (!picture.rows.has(key)) this.#put(picture, key, { row, state: "ensured", loaded: undefined });
  }

  /** Throws UniqueValueTaken as well. */
  update(table: AnyTable, row: Row): void {
    const picture = this.#of(table);
    const key = table.keyOf(row);
    const before = picture.rows.get(key);
    if (table.immutable) throw new Error(`rows of ${table.name} never change`);
    if (before === undefined || before.state === "ensured") throw new Error(`${table.name} ${key} isn't known; nothing to update`);
    if (before.row === row) return;
    const inserted = before.state === "inserted";
    this.#put(picture, key, {
      row,
      state: inserted ? "inserted" : "updated",
      loaded: inserted ? undefined : (before.loaded ?? before.row),
    });
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
      picture = { table, rows: new Map(), indexes: new Map(Object.keys(table.unique).map((index) => [index, new Map()])) };
      this.#tables.set(table, picture);
    }
    return picture;
  }

  #put(picture: TablePicture, key: string, entry: Entry): void {
    for (const [index, keys] of picture.indexes) {
      const value = picture.table.uniqueValueOf(index, entry.row);
      const holder = value === undefined ? undefined : keys.get(value);
      if (holder !== undefined && holder !== key) throw new UniqueValueTaken(picture.table, index);
    }
    this.#journal.push({ picture, key, before: picture.rows.get(key) });
    replace(picture, key, entry);
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

function replace({ table, rows, indexes }: TablePicture, key: string, after: Entry | undefined): void {
  for (const [index, keys] of indexes) {
    const before = rows.get(key);
    const old = before && table.uniqueValueOf(index, before.row);
    if (old !== undefined) keys.delete(old);
    const now = after && table.uniqueValueOf(index, after.row);
    if (now !== undefined) keys.set(now, key);
  }
  if (after === undefined) rows.delete(key);
  else rows.set(key, after);
}
