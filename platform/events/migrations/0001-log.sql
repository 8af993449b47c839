-- release: 0.1.0
CREATE TABLE topics (
  name text PRIMARY KEY,
  partitions integer NOT NULL CHECK (partitions > 0),
  retention_ms bigint NOT NULL CHECK (retention_ms > 0)
);

CREATE TABLE partitions (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  topic text NOT NULL REFERENCES topics,
  partition integer NOT NULL,
  next_offset bigint NOT NULL DEFAULT 0,
  UNIQUE (topic, partition)
) WITH (fillfactor = 10);
COMMENT ON COLUMN partitions.next_offset IS 'Raised by every append, which so holds the row until it commits: offsets are in the order of commits and have no gaps, whoever appends.';

CREATE TABLE log (
  partition_id integer NOT NULL REFERENCES partitions,
  last_offset bigint NOT NULL,
  count integer NOT NULL CHECK (count > 0),
  appended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  records bytea NOT NULL,
  PRIMARY KEY (partition_id, last_offset)
);
ALTER TABLE log ALTER COLUMN records SET STORAGE EXTERNAL;
COMMENT ON TABLE log IS 'Records, many in a row, as platform/events/record-batch.ts has them; a row holds the offsets from last_offset - count + 1 to last_offset of its partition.';

CREATE TABLE groups (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE
);

CREATE TABLE positions (
  group_id integer NOT NULL REFERENCES groups,
  partition_id integer NOT NULL REFERENCES partitions,
  position bigint NOT NULL DEFAULT 0,
  generation bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (group_id, partition_id)
) WITH (fillfactor = 10);
COMMENT ON COLUMN positions.position IS 'The offset that the group handles next; nothing at or above it is pruned.';
COMMENT ON COLUMN positions.generation IS 'Raised whenever a member takes the partition. Never below the milliseconds of the clock, so that it rises even over a log that was made anew.';

CREATE UNLOGGED TABLE members (
  member uuid PRIMARY KEY,
  groups integer[] NOT NULL,
  alive_until timestamptz NOT NULL
) WITH (fillfactor = 10);
COMMENT ON TABLE members IS 'Processes that consume. Unlogged, as leases are.';

CREATE UNLOGGED TABLE leases (
  group_id integer NOT NULL,
  partition_id integer NOT NULL,
  member uuid NOT NULL,
  generation bigint NOT NULL,
  PRIMARY KEY (group_id, partition_id)
);
COMMENT ON TABLE leases IS 'Which member holds which partition, for as long as the member is alive. Unlogged on purpose: after a crash of the server it is empty, and what the last appends wrote may be gone, since they need not wait for the disk. So no member can fetch or commit on from a position that it read before the crash.';
