import { type Client, type Connection, DatabaseError, type FieldDef, type QueryResultRow, type Submittable } from "pg";
import type { Rows } from "#platform/postgres/database.ts";
import { endsSession, isPreparedInVain } from "#platform/postgres/errors.ts";
import { typeParsers } from "#platform/postgres/type-parsers.ts";

/** A statement as it goes out: its values as the driver sends them, and a name where it is prepared once a connection. */
export type Sendable = {
  readonly text: string;
  readonly values: readonly (string | Buffer | null)[];
  readonly name: string | undefined;
};

/** What became of a statement; `tag` is what the server calls it: `INSERT 0 5`, `COMMIT`. */
export type Answer = ({ readonly tag: string } & Rows<QueryResultRow>) | { readonly error: unknown };

/**
 * Sends statements with one Sync behind them all, and gives the answer of each. It costs one write, one read and one wake-up
 * on both sides instead of one a statement. They run in order; where one fails, the server skips those behind it, which get
 * the same error (PostgreSQL, Pipelining). Never rejects.
 */
export function sendTogether(client: Client, statements: readonly Sendable[]): Promise<readonly Answer[]> {
  return new Promise((resolve) => {
    client.query(new RoundTrip(client.connection, statements, resolve));
  });
}

/** How the rows of a statement are read; undefined where it has none. */
type Shape = { readonly names: readonly string[]; readonly parsers: readonly ((text: string) => unknown)[] } | undefined;

/** The statements that a connection has prepared. Once a shape is known, the server isn't asked for it again. */
type Prepared = {
  readonly shapes: Map<string, Shape>;
  /** Were to be prepared in a round trip that failed: the server may have them or not. */
  readonly doubtful: Set<string>;
};

const preparedOn = new WeakMap<Connection, Prepared>();

function preparedBy(connection: Connection): Prepared {
  let prepared = preparedOn.get(connection);
  if (prepared === undefined) {
    prepared = { shapes: new Map(), doubtful: new Set() };
    preparedOn.set(connection, prepared);
  }
  return prepared;
}

/** What pg's connection takes; its types ask for more than it does. */
type Wire = {
  readonly stream: { cork(): void; uncork(): void; destroy(): void };
  parse(statement: { text: string; name: string }): void;
  bind(values: { statement: string; values: readonly (string | Buffer | null)[] }): void;
  describe(what: { type: "P" }): void;
  close(what: { type: "S"; name: string }): void;
  execute(): void;
  sync(): void;
};

type CommandComplete = { readonly text: string };

/** One round trip, as pg's client sends it and hands it the server's messages (the interface of pg-cursor). */
class RoundTrip implements Submittable {
  /** Called once; pg wraps it where it sets a time limit. */
  callback: (error?: unknown) => void;
  readonly #statements: readonly Sendable[];
  readonly #prepared: Prepared;
  readonly #answers: Answer[] = [];
  #shape: Shape;
  #rows: QueryResultRow[] = [];
  #unreadable: { readonly error: unknown } | undefined;

  constructor(connection: Connection, statements: readonly Sendable[], done: (answers: readonly Answer[]) => void) {
    this.#statements = statements;
    this.#prepared = preparedBy(connection);
    this.callback = (error) => {
      if (error !== undefined && error !== null) {
        this.#doubt(isPreparedInVain(error));
        while (this.#answers.length < statements.length) this.#answers.push({ error });
        // Lost, about to end, or its answers still to come: nothing more can be sent over it.
        if (!(error instanceof DatabaseError) || endsSession(error)) connection.stream.destroy();
      }
      done(this.#answers);
    };
  }

  /** What wasn't answered is prepared or not; and where it was `inVain`, so is what was known before. */
  #doubt(inVain: boolean): void {
    const { shapes, doubtful } = this.#prepared;
    for (const { name } of this.#statements.slice(this.#answers.length)) {
      if (name === undefined || (shapes.has(name) && !inVain)) continue;
      shapes.delete(name);
      doubtful.add(name);
    }
  }

  submit(connection: Connection): void {
    const wire = connection as unknown as Wire;
    const { shapes, doubtful } = this.#prepared;
    const sent = new Set<string>();
    wire.stream.cork();
    try {
      for (const { text, name = "", values } of this.#statements) {
        const isKnown = name !== "" && (shapes.has(name) || sent.has(name));
        if (!isKnown) {
          if (doubtful.delete(name)) wire.close({ type: "S", name });
          wire.parse({ text, name });
          sent.add(name);
        }
        wire.bind({ statement: name, values });
        if (!shapes.has(name)) wire.describe({ type: "P" });
        wire.execute();
      }
      wire.sync();
    } finally {
      wire.stream.uncork();
    }
  }

  handleRowDescription({ fields }: { fields: FieldDef[] }): void {
    this.#shape = {
      names: fields.map(({ name }) => name),
      parsers: fields.map(({ dataTypeID }) => typeParsers.getTypeParser(dataTypeID, "text") as (text: string) => unknown),
    };
  }

  handleDataRow({ fields }: { fields: (string | null)[] }): void {
    const name = this.#statements[this.#answers.length]?.name;
    const shape = this.#shape ?? (name === undefined ? undefined : this.#prepared.shapes.get(name));
    if (shape === undefined || this.#unreadable !== undefined) return;
    const row: Record<string, unknown> = {};
    try {
      for (const [i, field] of shape.names.entries()) {
        const text = fields[i] as string | null;
        row[field] = text === null ? null : shape.parsers[i]?.(text);
      }
      this.#rows.push(row);
    } catch (error) {
      this.#unreadable = { error };
    }
  }

  handleCommandComplete({ text: tag }: CommandComplete): void {
    const name = this.#statements[this.#answers.length]?.name;
    if (name !== undefined && !this.#prepared.shapes.has(name)) this.#prepared.shapes.set(name, this.#shape);
    this.#answers.push(this.#unreadable ?? { tag, rows: this.#rows, rowCount: Number(tag.slice(tag.lastIndexOf(" ") + 1)) || 0 });
    this.#shape = undefined;
    this.#rows = [];
    this.#unreadable = undefined;
  }

  handleEmptyQuery(): void {
    this.handleCommandComplete({ text: "" });
  }

  /** What comes behind it in the round trip would be taken for data: the connection can't be used any more. */
  handleCopyInResponse(): void {
    this.callback(new Error("COPY FROM STDIN isn't spoken here"));
  }

  /** Of COPY TO STDOUT: rows that nobody reads. */
  handleCopyData(): void {}

  /** Told when the server is through with the round trip: only then does the connection know whether a transaction is left open. */
  handleError(error: unknown, connection: Connection): void {
    if (!(error instanceof DatabaseError) || endsSession(error)) {
      this.callback(error);
      return;
    }
    const tell = () => {
      connection.off("readyForQuery", tell).off("end", tell);
      this.callback(error);
    };
    // Runs after pg's own listener, which notes the state. A server that goes before it says so has ended the connection.
    connection.on("readyForQuery", tell).on("end", tell);
  }

  handleReadyForQuery(): void {
    this.callback();
  }
}
