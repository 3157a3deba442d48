-- Copies of all runs to another store, and from one.

-- What a copy says about this database: one row while one is under way, and for good once the runs have moved. Clients and
-- new workers are refused by it in their own transactions, which read this table; whoever sets the mark locks the table,
-- and so waits for them. A table, because the other store has a name.
CREATE TABLE @copy (
  at    int8  NOT NULL,                          -- since when
  one   int2  NOT NULL,
  stage int2  NOT NULL,                          -- 1 leaving 2 moved 3 arriving
  copy  bytea NOT NULL,                          -- the name of the copy; both stores have it
  other text  NOT NULL,                          -- the other store, as people name it
  CONSTRAINT everstep_copy_key PRIMARY KEY (one),
  CONSTRAINT everstep_copy_once CHECK (one = 1),
  CONSTRAINT everstep_copy_name CHECK (length(copy) = 16),
  CONSTRAINT everstep_copy_stage CHECK (stage BETWEEN 1 AND 3)
);
