-- The first schema. Times are integer microseconds since 1970; enumerations are small integers, spelt out by the
-- views at the end. Every name begins with `@`, which stands for the schema of the user's choice and `everstep_`.
--
-- Only what PostgreSQL's relatives have too: no sequences, foreign keys, triggers, functions of ours or extensions.
-- Texts are compared byte by byte (collation "C"), whatever the database's own collation is. Columns go from wide to
-- narrow, which saves 8 bytes a row.

-- The schema's version, the highest ids ever given, and which database this is.
CREATE TABLE @meta (
  value int8 NOT NULL,
  key   text NOT NULL,
  CONSTRAINT everstep_meta_key PRIMARY KEY (key)
) WITH (fillfactor = 20);
INSERT INTO @meta (key, value) VALUES ('schema', 1), ('run', 0), ('worker', 0), ('name', 0);
-- Tells databases apart: what is started in a user's transaction carries numbers of this one.
INSERT INTO @meta (key, value) SELECT 'identity', (random() * 9000000000000000)::int8;

-- What the code calls workflows, call sites and builds, once each: hot rows carry small integers. Never deleted.
CREATE TABLE @name (
  id   int8 NOT NULL,
  kind int2 NOT NULL,                            -- 1 workflow, 2 attribute, 3 call site ("src/x.rs:42:9"), 4 build
  text text COLLATE "C" NOT NULL,
  CONSTRAINT everstep_name_key PRIMARY KEY (id),
  CONSTRAINT everstep_name_text UNIQUE (kind, text)
);

-- A process that drives runs. Ids are never given again: `owner` may still name one. Its renewals touch this row, and
-- nobody else's writes do.
CREATE TABLE @worker (
  id         int8 NOT NULL,
  build      int8 NOT NULL,                      -- name.id
  beat       int8 NOT NULL DEFAULT 0,            -- counts renewals; watchers time it by their own clocks
  started_at int8 NOT NULL,
  fenced     bool NOT NULL DEFAULT false,        -- set once, by takeover or leaving; never cleared
  name       text NOT NULL,                      -- host and process, for people
  CONSTRAINT everstep_worker_key PRIMARY KEY (id)
) WITH (fillfactor = 20);

-- The fence: a row for each connection that writes for a worker, locked FOR SHARE in each of its transactions. Who fences
-- the worker changes these rows, and so waits for the transactions that are under way and for nothing else. One locker
-- a row: no multixacts, and a lock leaves no dead row.
CREATE TABLE @slot (
  worker int8 NOT NULL,
  slot   int2 NOT NULL,
  fenced bool NOT NULL DEFAULT false,
  CONSTRAINT everstep_slot_key PRIMARY KEY (worker, slot)
) WITH (fillfactor = 20);

-- Transactions of which a connection does not know yet that they are committed: a lost reply is asked for here.
CREATE TABLE @commit (
  id bytea NOT NULL,
  at int8  NOT NULL,
  CONSTRAINT everstep_commit_key PRIMARY KEY (id)
);

-- Index over the journals: everything the engine asks of a run without loading it. No payloads.
CREATE TABLE @run (
  id          int8 NOT NULL,                     -- nearly in the order of starts: neighbours in time share pages
  workflow    int8 NOT NULL,                     -- name.id
  owner       int8 NOT NULL DEFAULT 0,           -- worker.id that has it in memory; 0 = free
  wake_at     int8,                              -- free: claimable from then on. owned: the maximum, or at most 0 = look into your inbox.
                                                 -- NULL: nothing to do before a message or a person comes
  inbox_n     int8 NOT NULL DEFAULT 0,           -- messages ever received: numbers them, and every end of a load compares it
  generation  int8 NOT NULL DEFAULT 0,           -- restarts so far
  takeovers   int8 NOT NULL DEFAULT 0,           -- deaths of its workers since its last entry
  crash_seq   int8 NOT NULL DEFAULT 0,           -- its last entry at the last such death
  created_at  int8 NOT NULL,
  began_at    int8,                              -- when a worker first took it; set once and kept for good: what it waits for
                                                 -- first counts from then, not from when a worker comes back
  finished_at int8,
  status      int2 NOT NULL,                     -- 0 pending 1 running 2 waiting 3 completed 4 failed 5 cancelled 6 stuck 7 paused
  text_id     text COLLATE "C" NOT NULL,         -- the caller's id
  CONSTRAINT everstep_run_key PRIMARY KEY (id),
  CONSTRAINT everstep_run_status CHECK (status BETWEEN 0 AND 7)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE UNIQUE INDEX everstep_run_text_id ON @run (text_id);
-- One index for four questions: what may I claim (owner 0), which of mine got a message (owner me, wake_at 0),
-- what did the dead worker hold (owner him), when is the next timer. `workflow` before `wake_at`: runs whose
-- workflow this binary does not know must not be stepped over at every claim.
CREATE INDEX everstep_run_due ON @run (owner, workflow, wake_at) WHERE wake_at IS NOT NULL;
-- What people look for. Ordinary runs never enter it, so that the hot path pays only for the test.
CREATE INDEX everstep_run_attention ON @run (status, workflow, id) WHERE status IN (4, 5, 6, 7);

-- What few runs have; written only when there is something.
CREATE TABLE @run_extra (
  run        int8 NOT NULL,
  parent     int8,
  policy     int2,                               -- what becomes of it when its parent ends
  trace      text,                               -- W3C traceparent of the caller
  parent_key text COLLATE "C",
  CONSTRAINT everstep_run_extra_key PRIMARY KEY (run)
);

-- The ordered record of a run. The key is also the trip-wire against two writers.
CREATE TABLE @journal (
  run         int8  NOT NULL,
  seq         int8  NOT NULL,                    -- 0 = start with the input; last = outcome; no gaps
  at          int8  NOT NULL,
  site        int8,                              -- name.id of the call site
  build       int8  NOT NULL,                    -- name.id of the build that wrote it
  fingerprint int4  NOT NULL,                    -- 32 bits, here with a sign
  attempt     int4  NOT NULL,                    -- 0 for what has no attempts; 32 bits, here with a sign
  kind        int4  NOT NULL,
  codec       int2  NOT NULL,                    -- of the body; 256 more if codec 0 has bytes that are no text
  input_codec int2,
  key         text COLLATE "C",                  -- step key, signal name, ...
  input       bytea,                             -- what the step said its input was
  body        bytea NOT NULL,
  CONSTRAINT everstep_journal_key PRIMARY KEY (run, seq)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.2);

-- Reached the run, not yet in its journal. `n` comes from run.inbox_n: exact order per run, no sequence.
CREATE TABLE @inbox (
  run   int8  NOT NULL,
  n     int8  NOT NULL,
  at    int8  NOT NULL,
  kind  int4  NOT NULL,                          -- 1 signal 2 request 3 child ended 4 promise settled 5 recorded 6 cancel 7 answer
  codec int2  NOT NULL,
  id    bytea NOT NULL,                          -- its sender's name for it
  name  text COLLATE "C" NOT NULL,
  body  bytea NOT NULL,
  CONSTRAINT everstep_inbox_key PRIMARY KEY (run, n),
  CONSTRAINT everstep_inbox_id CHECK (length(id) = 16)
) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
-- A transactional step records once, however often its transaction is asked for.
CREATE UNIQUE INDEX everstep_inbox_recorded ON @inbox (run, name) WHERE kind = 5;
-- Names of letters outlive them: a letter is deleted when taken, and a late duplicate must still be known.
CREATE TABLE @inbox_seen (
  run int8  NOT NULL,
  id  bytea NOT NULL,
  CONSTRAINT everstep_inbox_seen_key PRIMARY KEY (run, id)
);

-- Attempts that were started and of which no outcome is known.
CREATE TABLE @started (
  run       int8 NOT NULL,
  at        int8 NOT NULL,
  attempt   int4 NOT NULL,                       -- as in the journal
  abandoned bool NOT NULL,
  key       text COLLATE "C" NOT NULL,
  CONSTRAINT everstep_started_key PRIMARY KEY (run, key)
);

-- Why a run needs a person.
CREATE TABLE @stuck (
  run    int8 NOT NULL,
  at     int8 NOT NULL,
  reason int2 NOT NULL,
  key    text COLLATE "C",
  detail text NOT NULL,
  CONSTRAINT everstep_stuck_key PRIMARY KEY (run)
);

-- Ends of journals that people took back: one packed row per cut, not a row per entry. A long one goes on in the next rows,
-- whose from_seq is below 0.
CREATE TABLE @archive (
  run        int8  NOT NULL,
  n          int8  NOT NULL,                     -- from 1, in this order
  generation int8  NOT NULL,
  from_seq   int8  NOT NULL,
  at         int8  NOT NULL,
  why        text  NOT NULL,
  body       text  NOT NULL,                     -- the entries, a JSON array
  CONSTRAINT everstep_archive_key PRIMARY KEY (run, n)
);

-- What runs say about themselves: ctx.attribute, ctx.publish, ctx.emit. Beside the journal, for readers.
CREATE TABLE @attribute (
  run    int8 NOT NULL,
  name   int8 NOT NULL,                          -- name.id
  class  int2 NOT NULL,                          -- 1 number, 2 text, 3 time, 4 bool: what compares with what
  number numeric,                                -- of a number, a time or a bool
  text   text COLLATE "C",                       -- of a text; of a number that is no integer: as it was written
  CONSTRAINT everstep_attribute_key PRIMARY KEY (run, name)
);
CREATE INDEX everstep_attribute_number ON @attribute (name, class, number, run) WHERE number IS NOT NULL;
CREATE INDEX everstep_attribute_text ON @attribute (name, text, run) WHERE class = 2;
CREATE TABLE @state (
  run int8 NOT NULL, seq int8 NOT NULL, at int8 NOT NULL, codec int2 NOT NULL, name text COLLATE "C" NOT NULL, body bytea NOT NULL,
  CONSTRAINT everstep_state_key PRIMARY KEY (run, name)
);
-- `n` is counted by the run, so that a replay gives the same offsets.
CREATE TABLE @stream (
  run int8 NOT NULL, n int8 NOT NULL, at int8 NOT NULL, codec int2 NOT NULL, name text COLLATE "C" NOT NULL, body bytea NOT NULL,
  CONSTRAINT everstep_stream_key PRIMARY KEY (run, name, n)
);

CREATE VIEW @runs AS
SELECT r.text_id AS id,
       w.text AS workflow,
       CASE r.status WHEN 0 THEN 'pending' WHEN 1 THEN 'running' WHEN 2 THEN 'waiting' WHEN 3 THEN 'completed'
                     WHEN 4 THEN 'failed' WHEN 5 THEN 'cancelled' WHEN 6 THEN 'stuck' ELSE 'paused' END AS status,
       to_timestamp(r.created_at / 1000000.0) AS created,
       to_timestamp(r.finished_at / 1000000.0) AS finished
FROM @run r JOIN @name w ON w.id = r.workflow;
