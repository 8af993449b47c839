-- release: 0.1.0
CREATE TABLE cards (
  id uuid PRIMARY KEY,
  text text NOT NULL CHECK (text <> 'refused'),
  reader text NOT NULL
);
