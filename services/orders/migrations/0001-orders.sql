-- release: 0.1.0

CREATE TABLE orders (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL,
  amount bigint NOT NULL CHECK (amount > 0),
  currency text NOT NULL,
  description text NOT NULL,
  status text NOT NULL CHECK (status IN ('NEW', 'FINISHED', 'CANCELED')),
  reason text CHECK (reason IS NULL OR status = 'CANCELED'),
  created_at timestamptz NOT NULL
) WITH (fillfactor = 80);
COMMENT ON COLUMN orders.id IS 'UUIDv7: grows with time';
COMMENT ON COLUMN orders.amount IS 'Minor units of the currency';
COMMENT ON COLUMN orders.reason IS 'Why the order was cancelled';

-- Not on status: an order changes it once, and the change then stays within its page (HOT).
CREATE INDEX orders_user ON orders (user_id, id DESC);
