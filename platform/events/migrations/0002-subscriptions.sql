-- release: 0.1.0
ALTER TABLE members ADD COLUMN subscriptions text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN members.subscriptions IS 'The topics that a member reads in each of its groups, as "group topic": during a roll-out not all members of a group read the same.';
