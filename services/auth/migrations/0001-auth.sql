-- release: 0.1.0

CREATE TABLE users (
  id uuid PRIMARY KEY,
  status text NOT NULL CHECK (status IN ('ACTIVE', 'BLOCKED', 'DELETED')),
  email text,
  phone text,
  password_hash text,
  roles text NOT NULL,
  token_version integer NOT NULL,
  session_epoch integer NOT NULL,
  locale text NOT NULL,
  blocked_reason text,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX users_email ON users (email);
CREATE UNIQUE INDEX users_phone ON users (phone);
COMMENT ON COLUMN users.email IS 'In lower case, confirmed';
COMMENT ON COLUMN users.phone IS 'E.164, confirmed';
COMMENT ON COLUMN users.password_hash IS 'argon2id, in the PHC format';
COMMENT ON COLUMN users.roles IS 'Beside user, which everybody has; names with spaces between, sorted';
COMMENT ON COLUMN users.token_version IS 'Access tokens of an earlier one are refused';
COMMENT ON COLUMN users.session_epoch IS 'Sessions of another one are over';

CREATE TABLE sessions (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL,
  epoch integer NOT NULL,
  generation integer NOT NULL,
  device text NOT NULL,
  address text NOT NULL,
  second_factor boolean NOT NULL,
  created_at timestamptz NOT NULL,
  last_used_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  ended_at timestamptz
);
CREATE INDEX sessions_user ON sessions (user_id, id);
CREATE INDEX sessions_over ON sessions (coalesce(ended_at, expires_at));
COMMENT ON COLUMN sessions.epoch IS 'The user''s session_epoch for which it is good: all of a user''s end at once by another';
COMMENT ON COLUMN sessions.generation IS 'Of the refresh token that is good; each refresh makes the next. The token itself is derived, and kept nowhere';
COMMENT ON COLUMN sessions.last_used_at IS 'When that refresh token was made';

CREATE TABLE challenges (
  id uuid PRIMARY KEY,
  purpose text NOT NULL,
  user_id uuid,
  email text,
  phone text,
  password_hash text,
  session_epoch integer,
  locale text NOT NULL,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  used_at timestamptz
);
CREATE INDEX challenges_over ON challenges (expires_at);
COMMENT ON TABLE challenges IS 'Codes that were sent. The code itself is derived from the id, and kept nowhere';
COMMENT ON COLUMN challenges.user_id IS 'Whose account it is for; null where there is none, which is told to nobody';
COMMENT ON COLUMN challenges.password_hash IS 'Of an account that is to be made';

CREATE TABLE signing_keys (
  id uuid PRIMARY KEY,
  private_key bytea NOT NULL,
  public_jwk text NOT NULL,
  created_at timestamptz NOT NULL,
  signs_from timestamptz NOT NULL
);
COMMENT ON COLUMN signing_keys.private_key IS 'PKCS #8, sealed under the secret of the deployment';
COMMENT ON COLUMN signing_keys.signs_from IS 'Before that it is only published, so that every gateway knows it when it is used';

CREATE TABLE revocations (
  id uuid PRIMARY KEY,
  session_id uuid,
  user_id uuid,
  api_key_id uuid,
  version_min integer NOT NULL,
  expires_at timestamptz NOT NULL,
  transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX revocations_transaction ON revocations (transaction_id);
CREATE INDEX revocations_over ON revocations (expires_at);
COMMENT ON TABLE revocations IS 'Access tokens that are good no more, until they would have expired';
COMMENT ON COLUMN revocations.user_id IS 'All of its tokens of a version before version_min; null where it is a session''s';
COMMENT ON COLUMN revocations.transaction_id IS 'By which a reader finds what was committed since it last looked, however late';

COMMENT ON COLUMN challenges.session_epoch IS 'Of a second factor: the user''s when it was asked for; by another one, whoever knew the password of before is too late';

CREATE TABLE second_factors (
  user_id uuid PRIMARY KEY,
  totp_secret bytea,
  pending_secret bytea,
  sealed_by text NOT NULL,
  pending_until timestamptz,
  last_step integer NOT NULL,
  recovery_codes text NOT NULL,
  on_since timestamptz
);
CREATE INDEX second_factors_sealed_by ON second_factors (sealed_by);
COMMENT ON COLUMN second_factors.totp_secret IS 'Of the authenticator app, sealed under the secret of the deployment; null where no second factor is asked for';
COMMENT ON COLUMN second_factors.pending_secret IS 'One that was made and not confirmed yet, sealed as well';
COMMENT ON COLUMN second_factors.sealed_by IS 'The name of the key under which the secret is sealed, so that those of a key that is going are found';
COMMENT ON COLUMN second_factors.last_step IS 'The time step (RFC 6238) of the last code that was used: it and those before aren''t good any more';
COMMENT ON COLUMN second_factors.recovery_codes IS 'Those that weren''t used: HMACs under a key of the secret itself, in base64url, with spaces between';

CREATE TABLE api_keys (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL,
  name text NOT NULL,
  secret_hash bytea NOT NULL,
  scopes text NOT NULL,
  created_at timestamptz NOT NULL,
  expires_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz
);
CREATE INDEX api_keys_user ON api_keys (user_id, id) WHERE revoked_at IS NULL;
COMMENT ON COLUMN api_keys.secret_hash IS 'SHA-256 of 32 random bytes, which nobody guesses: a slow hash would only be slow';
COMMENT ON COLUMN api_keys.scopes IS 'With spaces between, sorted';
COMMENT ON COLUMN api_keys.last_used_at IS 'To the minute';

CREATE TABLE identities (
  id uuid PRIMARY KEY,
  provider text NOT NULL,
  issuer text NOT NULL,
  subject text NOT NULL,
  user_id uuid NOT NULL,
  email text,
  linked_at timestamptz NOT NULL,
  unlinked_at timestamptz
);
CREATE UNIQUE INDEX identities_subject ON identities (issuer, subject);
CREATE INDEX identities_user ON identities (user_id, id) WHERE unlinked_at IS NULL;
CREATE INDEX identities_over ON identities (unlinked_at) WHERE unlinked_at IS NOT NULL;
COMMENT ON TABLE identities IS 'Users of outside providers, and whose account each of them signs in to';
COMMENT ON COLUMN identities.provider IS 'The operator''s name for it, to be shown';
COMMENT ON COLUMN identities.issuer IS 'Who vouches for the subject: a name that an operator gives to another provider finds nobody of the one before';
COMMENT ON COLUMN identities.email IS 'What the provider said when it was linked; who it is, the subject decides alone';
COMMENT ON COLUMN identities.unlinked_at IS 'Since when it signs in to nothing; the row goes a day later, unless it is linked again';
