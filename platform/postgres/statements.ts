import type { Client, QueryResultRow } from "pg";
import type { Rows, Statement } from "#platform/postgres/database.ts";
import { parameter } from "#platform/postgres/parameters.ts";

/** Prepared statements a connection; more of them are sent unprepared. */
const PREPARED_MAX = 1_000;

export type Send = {
  <R extends QueryResultRow = QueryResultRow>(client: Client, statement: Statement): Promise<Rows<R>>;
  /** Sends all or, where a value of one can't be converted, throws and sends none. */
  all(client: Client, statements: readonly Statement[]): Promise<Rows<QueryResultRow>>[];
};

type Config = { text: string; values: (string | Buffer | null)[]; name?: string };

/**
 * Sends statements over pg. Prepared ones get a name from their text: the driver refuses one name for two texts, but after what
 * it should have stopped is on its way.
 */
export function makeSend(preparedStatements: boolean): Send {
  const names = new Map<string, string>();
  const nameOf = (text: string): string | undefined => {
    let name = names.get(text);
    if (name === undefined && names.size < PREPARED_MAX) {
      name = `p${names.size}`;
      names.set(text, name);
    }
    return name;
  };
  const configOf = ({ text, values, name }: Statement): Config => {
    const config: Config = { text, values: values?.map(parameter) ?? [] };
    const prepared = preparedStatements && name !== undefined ? nameOf(text) : undefined;
    return prepared === undefined ? config : { ...config, name: prepared };
  };
  const sendConfig = async <R extends QueryResultRow>(client: Client, config: Config): Promise<Rows<R>> => {
    const { rows, rowCount } = await client.query<R>(config);
    return { rows, rowCount: rowCount ?? 0 };
  };
  const send = async <R extends QueryResultRow>(client: Client, statement: Statement): Promise<Rows<R>> =>
    sendConfig<R>(client, configOf(statement));
  return Object.assign(send, {
    all: (client: Client, statements: readonly Statement[]) => statements.map(configOf).map((config) => sendConfig(client, config)),
  });
}
