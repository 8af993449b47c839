-- release: 0.1.0
CREATE TABLE inbox_groups (
  id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE
);
COMMENT ON TABLE inbox_groups IS 'Consumer groups of this service, numbered so that the inbox stays narrow.';

CREATE TABLE inbox (
  event_id uuid NOT NULL,
  handled_at timestamptz NOT NULL DEFAULT now(),
  group_id smallint NOT NULL,
  PRIMARY KEY (group_id, event_id)
);
COMMENT ON TABLE inbox IS 'Events that a group has handled, written with what it wrote: each has its effect once, however often it comes. Kept longer than the log keeps events.';

CREATE TABLE fences (
  group_id smallint NOT NULL,
  topic text NOT NULL,
  partition integer NOT NULL,
  generation bigint NOT NULL,
  PRIMARY KEY (group_id, topic, partition)
) WITH (fillfactor = 10);
COMMENT ON TABLE fences IS 'The member that may write for a partition of a group, by its generation. Locked by every write, parking and replay, so that a member which was frozen, and whose partition another has taken, writes nothing.';

CREATE TABLE dead_letters (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  group_id smallint NOT NULL,
  topic text NOT NULL,
  partition integer NOT NULL,
  key text NOT NULL,
  event_id uuid NOT NULL,
  state text NOT NULL CHECK (state IN ('retrying', 'dead', 'waiting')),
  tries integer NOT NULL DEFAULT 0,
  next_try_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  cause text,
  record bytea NOT NULL,
  UNIQUE (group_id, event_id)
);
ALTER TABLE dead_letters ALTER COLUMN record SET STORAGE EXTERNAL;
CREATE INDEX dead_letters_by_key ON dead_letters (group_id, topic, partition, key, id);
-- What is to be tried is found without a look at what is dead or waits, however much that is.
CREATE INDEX dead_letters_by_next_try ON dead_letters (group_id, topic, partition, next_try_at) WHERE state = 'retrying';
COMMENT ON TABLE dead_letters IS 'Events that failed, and what came after them under the same key, in order. A key with rows here collects its later events behind them; the first row of a key is retrying, and tried at next_try_at, or dead, and waits for somebody; those behind it are waiting.';
COMMENT ON COLUMN dead_letters.record IS 'The event with its headers: a batch of one, see platform/events/record-batch.ts.';
