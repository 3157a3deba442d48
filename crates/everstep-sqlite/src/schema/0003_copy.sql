-- Copies of all runs to another store, and from one.

-- What a copy says about this database: one row while one is under way, and for good once the runs have moved. Clients and
-- new workers are refused by it in their own transactions. A table, because the other store has a name.
CREATE TABLE everstep_copy (
  one   INTEGER PRIMARY KEY,
  copy  BLOB    NOT NULL,                        -- the name of the copy; both stores have it
  stage INTEGER NOT NULL,                        -- 1 leaving 2 moved 3 arriving
  other TEXT    NOT NULL,                        -- the other store, as people name it
  at    INTEGER NOT NULL,                        -- since when
  CONSTRAINT copy_once CHECK (one = 1),
  CONSTRAINT copy_name CHECK (length(copy) = 16),
  CONSTRAINT copy_stage CHECK (stage BETWEEN 1 AND 3)
) STRICT;
