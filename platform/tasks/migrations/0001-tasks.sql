-- release: 0.1.0
CREATE TABLE tasks (
  id uuid PRIMARY KEY,
  type text NOT NULL,
  queue text NOT NULL,
  priority integer NOT NULL,
  key text,
  concurrency_key text,
  state text NOT NULL CHECK (state IN ('WAITING', 'BLOCKED', 'RUNNING', 'DONE', 'FAILED', 'CANCELED')),
  offered boolean NOT NULL,
  run_at timestamptz NOT NULL,
  attempts integer NOT NULL DEFAULT 0,
  postponed integer NOT NULL DEFAULT 0,
  worker uuid CHECK ((worker IS NOT NULL) = (state = 'RUNNING')),
  claim uuid,
  progress real,
  result text,
  cause text,
  payload bytea NOT NULL,
  traceparent text NOT NULL,
  actor text NOT NULL,
  causation_id text NOT NULL,
  enqueued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  started_at timestamptz,
  ended_at timestamptz CHECK ((ended_at IS NOT NULL) = (state IN ('DONE', 'FAILED', 'CANCELED'))),
  forget_at timestamptz
);
-- A task is written and changed twice within moments, as a rule; nothing is won by compressing what it carries.
ALTER TABLE tasks ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE tasks SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = -1);
COMMENT ON TABLE tasks IS 'Work that is done later, once each, and what became of it. The row is the truth; a broker carries ids at the most.';
COMMENT ON COLUMN tasks.id IS 'UUIDv7, or derived from type and key, so that a key is taken once';
COMMENT ON COLUMN tasks.state IS 'BLOCKED: behind another of its concurrency key; of those one at a time is WAITING or RUNNING';
COMMENT ON COLUMN tasks.offered IS 'A broker was given its id when it became due, or was to be given it: whoever looks into the table leaves it to the broker for a while';
COMMENT ON COLUMN tasks.run_at IS 'Not before';
COMMENT ON COLUMN tasks.attempts IS 'Tries so far, without those that ended because something else was away';
COMMENT ON COLUMN tasks.postponed IS 'How often in a row it was put off because something else was away';
COMMENT ON COLUMN tasks.worker IS 'Who runs it (task_workers)';
COMMENT ON COLUMN tasks.claim IS 'Of its last try: what an earlier one still writes is refused, though its worker be the same';
COMMENT ON COLUMN tasks.progress IS '0 to 1, as the task says';
COMMENT ON COLUMN tasks.cause IS 'What its last try failed by';
COMMENT ON COLUMN tasks.forget_at IS 'When the row may be deleted; null for what isn''t ended, or failed and waits for somebody''s decision';

CREATE INDEX tasks_due ON tasks (queue, offered, priority, run_at, id) WHERE state = 'WAITING';
CREATE INDEX tasks_running ON tasks (queue, worker) WHERE state = 'RUNNING';
CREATE INDEX tasks_blocked ON tasks (queue, concurrency_key, run_at, id) WHERE state = 'BLOCKED';
CREATE UNIQUE INDEX tasks_one_of_a_key ON tasks (queue, concurrency_key) WHERE state IN ('WAITING', 'RUNNING') AND concurrency_key IS NOT NULL;
CREATE INDEX tasks_failed ON tasks (queue, ended_at) WHERE state = 'FAILED';
CREATE INDEX tasks_forgotten ON tasks (forget_at) WHERE forget_at IS NOT NULL;

CREATE UNLOGGED TABLE task_workers (
  id uuid PRIMARY KEY,
  lease_until timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE task_workers IS 'Who runs tasks now: a process has one row, and renews it. Without it, or once its lease has ended, what it ran is given to others, and nothing it may still write counts. Unlogged on purpose: after a crash of the server everybody begins anew.';

CREATE TABLE task_schedules (
  name text PRIMARY KEY,
  cron text NOT NULL,
  time_zone text NOT NULL,
  next_at timestamptz NOT NULL,
  fired_at timestamptz
);
COMMENT ON TABLE task_schedules IS 'When tasks are enqueued by the calendar. Who holds a row enqueues its task and writes the next time, in one transaction: so each time counts once.';
COMMENT ON COLUMN task_schedules.fired_at IS 'The first of the times that were acted on last';
