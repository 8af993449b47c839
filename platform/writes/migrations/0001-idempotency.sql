-- release: 0.1.0

CREATE TABLE idempotency (
  key uuid PRIMARY KEY,
  content uuid NOT NULL,
  answer bytea,
  rejection text,
  detail text,
  created_at timestamptz NOT NULL
);
COMMENT ON TABLE idempotency IS 'Clients'' commands that were decided, written in the transaction of their effect';
COMMENT ON COLUMN idempotency.key IS 'Hash of (caller, method, Idempotency-Key)';
COMMENT ON COLUMN idempotency.content IS 'Hash of the request: another one under the same key is refused';
COMMENT ON COLUMN idempotency.answer IS 'The answer as Protobuf; null for a rejection';

-- Rows come in the order of their time, so a summary a block range is enough to prune by, and costs next to nothing.
CREATE INDEX idempotency_created_at ON idempotency USING brin (created_at) WITH (pages_per_range = 32);
