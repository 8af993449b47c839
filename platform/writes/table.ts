import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { type Column, type Columns, columnsOf } from "#platform/writes/columns.ts";

/** Names a row by its key, or by the fields of a unique index. */
export class Ref<R extends object> {
  readonly table: Table<R>;
  /** KEY, or the name of a unique index. */
  readonly by: string;
  /** The values as one text: what the picture of a batch finds a row by. */
  readonly value: string;
  /** The values of the unique index, in the order of its fields. */
  readonly values: readonly string[] | undefined;

  constructor(table: Table<R>, by: string, value: string, values: readonly string[] | undefined) {
    this.table = table;
    this.by = by;
    this.value = value;
    this.values = values;
  }
}

/** What a ref is told apart by from others of its table. No text of PostgreSQL holds the separator. */
export const refName = ({ by, value }: Ref<object>): string => (by === KEY ? value : `${by}${SEPARATOR}${value}`);

/** The same among the refs of all tables. */
export const fullRefName = (ref: Ref<object>): string => `${ref.table.name} ${refName(ref)}`;

/** A unique index: a row can be named by its fields, none of which may be null then. */
export type Unique<R extends object> = {
  readonly fields: readonly (keyof R & string)[];
  /** The code of the rejection that a second row under the same values gets. */
  readonly taken: string;
};

export type TableOptions<R extends object> = {
  /** The primary key, a uuid or a text; `id` unless said. */
  readonly key?: keyof R & string;
  /** Unique indexes beside the key; the database has one as `<table>_<name>`, in snake_case. */
  readonly unique?: { readonly [name: string]: Unique<R> };
  /** Rows never change, so naming one takes no lock. */
  readonly immutable?: boolean;
};

/** A table of a service, as the batch reads and writes it. */
export type Table<R extends object> = {
  readonly name: string;
  readonly key: keyof R & string;
  readonly unique: { readonly [name: string]: Unique<R> };
  readonly immutable: boolean;
  readonly columns: ReadonlyMap<keyof R & string, { readonly name: string } & Column<never>>;
  /** The row of this key. */
  row(key: string): Ref<R>;
  /** The row that the unique index `index` has under these values, in the order of its fields. */
  rowBy(index: string, ...values: readonly string[]): Ref<R>;
  keyOf(row: R): string;
  /** The row's value in a unique index, undefined where a field is null. */
  uniqueValueOf(index: string, row: R): string | undefined;
  fromRow(raw: Record<string, unknown>): R;
};

const SEPARATOR = "\u0000";
export const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
export const KEY = "key";

/** A table whose rows are messages of a contract. */
export const messageTable = <D extends DescMessage>(
  name: string,
  schema: D,
  options: TableOptions<MessageShape<D>> = {},
): Table<MessageShape<D>> => makeTable(name, columnsOf(schema) as unknown as Columns<MessageShape<D>>, options, () => create(schema));

/** A table whose rows are plain objects. */
export const table = <R extends object>(name: string, columns: Columns<R>, options: TableOptions<R> = {}): Table<R> =>
  makeTable(name, columns, options, () => ({}));

function makeTable<R extends object>(name: string, columns: Columns<R>, options: TableOptions<R>, make: () => object): Table<R> {
  const entries = Object.entries<Column<never>>(columns as never).map(([field, column]) => ({ field, name: snakeCase(field), column }));
  const key = options.key ?? ("id" as keyof R & string);
  const unique = options.unique ?? {};
  const fieldsOf = (index: string): readonly (keyof R & string)[] => unique[index]?.fields ?? [];
  /** A value as the picture compares it. The database compares uuids whatever their case, and texts as they are written. */
  const comparable = (field: keyof R & string, value: string): string => (columns[field].type === "uuid" ? value.toLowerCase() : value);
  const made: Table<R> = {
    name,
    key,
    unique,
    immutable: options.immutable ?? false,
    columns: new Map(entries.map(({ field, name, column }) => [field as keyof R & string, { ...column, name }])),
    row: (value) => new Ref(made, KEY, comparable(key, value), undefined),
    rowBy: (index, ...values) => {
      const compared = fieldsOf(index).map((field, i) => comparable(field, values[i] ?? ""));
      return new Ref(made, index, compared.join(SEPARATOR), compared);
    },
    keyOf: (row) => row[key] as string,
    uniqueValueOf: (index, row) => {
      const values: string[] = [];
      for (const field of fieldsOf(index)) {
        const value = row[field];
        if (value === undefined) return undefined;
        values.push(comparable(field, String(value)));
      }
      return values.length === 1 ? values[0] : values.join(SEPARATOR);
    },
    fromRow: (raw) => {
      const row = make() as Record<string, unknown>;
      for (const { field, name, column } of entries) {
        const value = column.decode(raw[name]);
        if (value !== undefined) row[field] = value;
      }
      return row as R;
    },
  };
  return made;
}

/** The code of the rejection that a constraint of the database stands for, if it is one of the table's unique indexes. */
export const takenCode = (table: Pick<Table<object>, "name" | "unique">, constraint: string): string | undefined =>
  Object.entries(table.unique).find(([index]) => `${table.name}_${snakeCase(index)}` === constraint)?.[1].taken;
