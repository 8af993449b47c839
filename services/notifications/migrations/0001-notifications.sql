-- release: 0.1.0

CREATE TABLE notifications (
  id uuid PRIMARY KEY,
  content uuid NOT NULL,
  user_id uuid,
  template text NOT NULL,
  locale text NOT NULL,
  email text,
  phone text,
  params text NOT NULL,
  status text NOT NULL CHECK (status IN ('QUEUED', 'SENT', 'FAILED', 'EXPIRED')),
  reason text,
  created_at timestamptz NOT NULL,
  expires_at timestamptz,
  ended_at timestamptz
);
CREATE INDEX notifications_created ON notifications (created_at);
COMMENT ON COLUMN notifications.content IS 'Derived from all that was asked for: a repeat says the same';
COMMENT ON COLUMN notifications.params IS 'JSON; erased when it has ended, for codes are among them';

CREATE TABLE mailbox (
  id uuid PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('email', 'sms')),
  recipient text NOT NULL,
  subject text NOT NULL,
  text text NOT NULL,
  html text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX mailbox_created ON mailbox (created_at);
CREATE INDEX mailbox_recipient ON mailbox (recipient, created_at);
COMMENT ON TABLE mailbox IS 'What would have been sent, where no server is set that sends it: for developers and tests';
