-- release: 0.1.0
CREATE TABLE outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  count integer NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  records bytea NOT NULL
);
-- Rows come and go; nothing is won by compressing them.
ALTER TABLE outbox ALTER COLUMN records SET STORAGE EXTERNAL;
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_insert_threshold = -1);
COMMENT ON TABLE outbox IS 'Events of committed transactions, one row a transaction, until the relay has published them. Ids are taken after the locks of the rows that the events tell of, so they keep the order of a key; they are not in the order of commits.';
COMMENT ON COLUMN outbox.records IS 'platform/events/record-batch.ts';

CREATE UNLOGGED TABLE outbox_lease (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  token uuid NOT NULL,
  lease_until timestamptz NOT NULL
);
COMMENT ON TABLE outbox_lease IS 'Which relay may work: one. Unlogged on purpose: it is empty after a crash of the server, so that a relay which published into a log on that server, without waiting for the disk, can no longer delete what the log may have lost.';

CREATE TABLE outbox_parked (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  topic text NOT NULL,
  key text NOT NULL,
  event_id text NOT NULL,
  cause text,
  parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  retry boolean NOT NULL DEFAULT false,
  record bytea NOT NULL
);
ALTER TABLE outbox_parked ALTER COLUMN record SET STORAGE EXTERNAL;
CREATE INDEX outbox_parked_by_key ON outbox_parked (topic, key);
CREATE INDEX outbox_parked_retry ON outbox_parked (id) WHERE retry;
COMMENT ON TABLE outbox_parked IS 'Events that the log refused for good, and what came after them under the same topic and key.';
COMMENT ON COLUMN outbox_parked.retry IS 'Somebody has asked for it to be published once more; until then the relay doesn''t read it.';
COMMENT ON COLUMN outbox_parked.cause IS 'Why it was refused; null for one that only waits behind another.';
