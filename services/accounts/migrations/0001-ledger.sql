-- release: 0.1.0

CREATE TABLE account_kinds (
  kind text PRIMARY KEY,
  one_per_owner boolean NOT NULL
);
COMMENT ON TABLE account_kinds IS 'What accounts there are; kinds are data';
INSERT INTO account_kinds VALUES ('current', true);

CREATE TABLE accounts (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL,
  kind text NOT NULL REFERENCES account_kinds,
  currency text NOT NULL,
  balance bigint NOT NULL CHECK (balance >= 0),
  owner_key uuid CONSTRAINT accounts_owner_key UNIQUE,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL
) WITH (fillfactor = 70);
COMMENT ON COLUMN accounts.id IS 'UUIDv7: grows with time';
COMMENT ON COLUMN accounts.balance IS 'Minor units; what the account''s postings add up to';
COMMENT ON COLUMN accounts.owner_key IS 'Hash of owner and kind where the kind allows one an owner, else null';
CREATE INDEX accounts_user ON accounts (user_id, id);

CREATE TABLE house_accounts (
  id uuid PRIMARY KEY,
  name text NOT NULL,
  currency text NOT NULL
);
COMMENT ON TABLE house_accounts IS 'Accounts of the house, without a limit: their balance is summed from the postings and never stored, so that no row is fought over';

CREATE TABLE postings (
  id uuid PRIMARY KEY,
  posting_id uuid NOT NULL,
  leg integer NOT NULL,
  outcome text NOT NULL CHECK (outcome IN ('POSTED', 'REJECTED', 'VOIDED')),
  reason text,
  content uuid,
  debit_account_id uuid,
  credit_account_id uuid CHECK (credit_account_id <> debit_account_id),
  amount bigint NOT NULL,
  currency text NOT NULL,
  reference_order_id uuid,
  created_at timestamptz NOT NULL,
  CHECK (CASE WHEN outcome = 'POSTED' THEN amount > 0 AND debit_account_id IS NOT NULL AND credit_account_id IS NOT NULL ELSE amount = 0 END)
);
COMMENT ON TABLE postings IS 'Double entry, a row a leg: one amount that leaves one account and reaches another. Never changed, never deleted';
COMMENT ON COLUMN postings.id IS 'The posting id for the first leg, derived from it for the others';
COMMENT ON COLUMN postings.posting_id IS 'The business id: what happens under it happens once; rejections and voids hold it as well';
COMMENT ON COLUMN postings.content IS 'Hash of what was asked for; null for a void';
COMMENT ON COLUMN postings.amount IS 'Minor units; 0 where nothing was posted';
CREATE INDEX postings_debit ON postings (debit_account_id, created_at, id);
CREATE INDEX postings_credit ON postings (credit_account_id, created_at, id);

CREATE VIEW transactions AS
  SELECT id, debit_account_id AS account_id, amount, 'DEBIT' AS type, reference_order_id, created_at FROM postings WHERE outcome = 'POSTED'
  UNION ALL
  SELECT id, credit_account_id AS account_id, amount, 'CREDIT' AS type, reference_order_id, created_at FROM postings WHERE outcome = 'POSTED';
COMMENT ON VIEW transactions IS 'Each posting as each of its two accounts sees it';
