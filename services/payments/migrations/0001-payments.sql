-- release: 0.1.0

CREATE TABLE charges (
  order_id uuid PRIMARY KEY,
  user_id uuid NOT NULL,
  amount bigint NOT NULL CHECK (amount > 0),
  currency text NOT NULL,
  status text NOT NULL CHECK (status IN ('SUCCEEDED', 'FAILED')),
  reason text CHECK ((status = 'FAILED') = (reason IS NOT NULL)),
  created_at timestamptz NOT NULL
);
COMMENT ON TABLE charges IS 'What became of an order''s payment: one row an order, under the order''s id';
COMMENT ON COLUMN charges.amount IS 'Minor units of the currency';

CREATE TABLE top_ups (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL,
  account_id uuid NOT NULL,
  amount bigint NOT NULL CHECK (amount > 0),
  created_at timestamptz NOT NULL
);
COMMENT ON TABLE top_ups IS 'Money that came in, under the id of its posting in accounts';
CREATE INDEX top_ups_user ON top_ups (user_id, created_at);
