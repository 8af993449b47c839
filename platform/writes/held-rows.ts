import type { Database } from "#platform/postgres/database.ts";
import { Picture } from "#platform/writes/picture.ts";
import { type Ref, refName, type Table } from "#platform/writes/table.ts";
import { rowsOf, type SelectLock, selectStatement } from "#platform/writes/table-statements.ts";
import type { Work } from "#platform/writes/work-queue.ts";

/**
 * The works among these that name a row which somebody outside holds just now (another process, a person's SQL), together
 * with all others that name it. Only asks, and waits for nobody.
 */
export async function heldByOthers(database: Database, works: readonly Work[]): Promise<readonly (readonly Work[])[]> {
  const tables = refsByTable(works);
  const there = new Picture();
  const free = new Picture();
  const look = ([table, refs]: TableRefs, lock: SelectLock) => selectStatement(table, refs, lock);
  const answers = await database.queryAll(tables.flatMap((of) => [look(of, "none"), look(of, "skip")]));
  for (const [i, [table]] of tables.entries()) {
    there.load(table, rowsOf(table, answers[2 * i] as never));
    free.load(table, rowsOf(table, answers[2 * i + 1] as never));
  }
  const isHeld = (ref: Ref<object>): boolean => there.row(ref) !== undefined && free.row(ref) === undefined;
  const groups = new Map<string, Work[]>();
  for (const work of works) {
    const held = lockedRefs(work).find(isHeld);
    if (held === undefined) continue;
    const name = `${held.table.name} ${refName(held)}`;
    const group = groups.get(name);
    if (group === undefined) groups.set(name, [work]);
    else group.push(work);
  }
  return [...groups.values()];
}

type TableRefs = readonly [Table<object>, readonly Ref<object>[]];

const lockedRefs = ({ items }: Work): Ref<object>[] => items.flatMap(({ named }) => named.refs.filter(({ table }) => !table.immutable));

function refsByTable(works: readonly Work[]): readonly TableRefs[] {
  const tables = new Map<Table<object>, Map<string, Ref<object>>>();
  for (const ref of works.flatMap(lockedRefs)) {
    const refs = tables.get(ref.table) ?? new Map<string, Ref<object>>();
    tables.set(ref.table, refs.set(refName(ref), ref));
  }
  return [...tables].map(([table, refs]) => [table, [...refs.values()]]);
}
