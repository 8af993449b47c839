-- release: 0.1.0
-- The key-value store where it is PostgreSQL. What is `kept` is in the server's log as all data are; what is `passing` isn't, and is
-- gone after a crash of the server.

CREATE TABLE kept_values (
  key text COLLATE "C" PRIMARY KEY,
  value bytea NOT NULL,
  expires_at timestamptz NOT NULL
);
CREATE INDEX kept_values_expired ON kept_values (expires_at);
CREATE UNLOGGED TABLE passing_values (LIKE kept_values INCLUDING ALL);

CREATE TABLE kept_members (
  key text COLLATE "C",
  member text COLLATE "C",
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (key, member)
);
CREATE INDEX kept_members_expired ON kept_members (expires_at);
CREATE UNLOGGED TABLE passing_members (LIKE kept_members INCLUDING ALL);

-- The items of a feed go with it.
CREATE TABLE kept_feeds (
  key text COLLATE "C" PRIMARY KEY,
  expires_at timestamptz NOT NULL
);
CREATE INDEX kept_feeds_expired ON kept_feeds (expires_at);
CREATE TABLE kept_items (
  key text COLLATE "C" REFERENCES kept_feeds ON DELETE CASCADE,
  member text COLLATE "C",
  score double precision NOT NULL,
  PRIMARY KEY (key, member)
);
CREATE INDEX kept_items_by_score ON kept_items (key, score DESC, member DESC);
CREATE UNLOGGED TABLE passing_feeds (LIKE kept_feeds INCLUDING ALL);
CREATE UNLOGGED TABLE passing_items (LIKE kept_items INCLUDING ALL, FOREIGN KEY (key) REFERENCES passing_feeds ON DELETE CASCADE);

-- What was taken of a limit, by parts of its window: `parts` are their numbers, `counts` what was taken in each.
CREATE TABLE kept_windows (
  key text COLLATE "C" PRIMARY KEY,
  parts bigint[] NOT NULL,
  counts bigint[] NOT NULL,
  -- Whether the last one who asked got what it wanted: for its statement's RETURNING alone.
  is_taken boolean NOT NULL,
  expires_at timestamptz NOT NULL
);
CREATE INDEX kept_windows_expired ON kept_windows (expires_at);
CREATE UNLOGGED TABLE passing_windows (LIKE kept_windows INCLUDING ALL);
