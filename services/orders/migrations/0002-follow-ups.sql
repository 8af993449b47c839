-- release: 0.1.0
CREATE TABLE follow_ups (
  id text PRIMARY KEY CHECK (id = 'all'),
  looked_through uuid NOT NULL
);
COMMENT ON TABLE follow_ups IS 'One row: orders before this id have ended, or have a task that follows them up';
