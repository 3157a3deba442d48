-- The first schema. Times are integer microseconds since 1970; enumerations are small integers, spelt out by the
-- views at the end. Everything of ours begins with `everstep_`: the file is the user's as much as ours.

-- The schema's version, the highest run id ever given, and whether an opening has not been closed yet.
CREATE TABLE everstep_meta (
  key   TEXT    NOT NULL,
  value INTEGER NOT NULL,
  CONSTRAINT meta_key PRIMARY KEY (key)
) STRICT, WITHOUT ROWID;
INSERT INTO everstep_meta (key, value) VALUES ('schema', 1), ('run', 0), ('open', 0), ('warm', 0);

-- What the code calls workflows, call sites and builds, once each: hot rows carry 1-2 byte integers. Never deleted.
CREATE TABLE everstep_name (
  id   INTEGER PRIMARY KEY,
  kind INTEGER NOT NULL,                         -- 1 workflow, 2 attribute, 3 call site ("src/x.rs:42:9"), 4 build
  text TEXT    NOT NULL,
  CONSTRAINT name_text UNIQUE (kind, text)
) STRICT;

-- A process that drives runs. AUTOINCREMENT: a purged id must never come back, `owner` may still name it.
CREATE TABLE everstep_worker (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  name       TEXT    NOT NULL,                   -- host and process, for people
  build      INTEGER NOT NULL,                   -- everstep_name.id
  beat       INTEGER NOT NULL DEFAULT 0,         -- counts renewals; watchers time it by their own clocks
  fenced     INTEGER NOT NULL DEFAULT 0,         -- set once, by takeover or leaving; never cleared
  started_at INTEGER NOT NULL,
  CONSTRAINT worker_fenced CHECK (fenced IN (0, 1))
) STRICT;

-- Index over the journals: everything the engine asks of a run without loading it. No payloads, about 55 B a row.
CREATE TABLE everstep_run (
  id          INTEGER PRIMARY KEY,               -- dense, in the order of starts: neighbours in time share pages
  text_id     TEXT    NOT NULL,                  -- the caller's id
  workflow    INTEGER NOT NULL,                  -- everstep_name.id
  status      INTEGER NOT NULL,                  -- 0 pending 1 running 2 waiting 3 completed 4 failed 5 cancelled 6 stuck 7 paused
  owner       INTEGER NOT NULL DEFAULT 0,        -- everstep_worker.id that has it in memory; 0 = free
  wake_at     INTEGER,                           -- free: claimable from then on. owned: the maximum, or 0 = look into your inbox.
                                                 -- NULL: nothing to do before a message or a person comes
  inbox_n     INTEGER NOT NULL DEFAULT 0,        -- messages ever received: numbers them, and every end of a load compares it
  generation  INTEGER NOT NULL DEFAULT 0,        -- restarts so far
  takeovers   INTEGER NOT NULL DEFAULT 0,        -- deaths of its workers since its last entry
  crash_seq   INTEGER NOT NULL DEFAULT 0,        -- its last entry at the last such death
  created_at  INTEGER NOT NULL,
  began_at    INTEGER,                           -- when a worker first took it; set once and kept for good: what it waits for
                                                 -- first counts from then, not from when a worker comes back
  finished_at INTEGER,
  CONSTRAINT run_status CHECK (status BETWEEN 0 AND 7)
) STRICT;
CREATE UNIQUE INDEX everstep_run_text_id ON everstep_run (text_id);
-- One index for four questions: what may I claim (owner 0), which of mine got a message (owner me, wake_at 0),
-- what did the dead worker hold (owner him), when is the next timer. `workflow` before `wake_at`: runs whose
-- workflow this binary does not know must not be stepped over at every claim.
CREATE INDEX everstep_run_due ON everstep_run (owner, workflow, wake_at) WHERE wake_at IS NOT NULL;
-- What people look for. Ordinary runs never enter it, so that the hot path pays only for the test.
CREATE INDEX everstep_run_attention ON everstep_run (status, workflow, id) WHERE status IN (4, 5, 6, 7);

-- What few runs have; written only when there is something.
CREATE TABLE everstep_run_extra (
  run        INTEGER PRIMARY KEY,
  trace      TEXT,                               -- W3C traceparent of the caller
  parent     INTEGER,
  parent_key TEXT,
  policy     INTEGER                             -- what becomes of it when its parent ends
) STRICT;

-- How many runs there are, kept by deltas folded per batch (counting a million rows takes 290 ms).
CREATE TABLE everstep_run_count (
  workflow INTEGER NOT NULL,
  status   INTEGER NOT NULL,
  n        INTEGER NOT NULL,
  CONSTRAINT run_count_key PRIMARY KEY (workflow, status)
) STRICT, WITHOUT ROWID;

-- The ordered record of a run. A rowid table appends; only (run, seq) is indexed, which is also the trip-wire
-- against two writers. No foreign key to the run (a quarter of the speed). Bodies up to 4061 B stay in the row.
CREATE TABLE everstep_journal (
  run         INTEGER NOT NULL,
  seq         INTEGER NOT NULL,                  -- 0 = start with the input; last = outcome; no gaps
  kind        INTEGER NOT NULL,
  key         TEXT,                              -- step key, signal name, ...
  attempt     INTEGER NOT NULL,                  -- 0 for what has no attempts
  input       ANY,                               -- what the step said its input was
  input_codec INTEGER,
  body        ANY     NOT NULL,                  -- TEXT: JSON as written; BLOB: anything else
  codec       INTEGER NOT NULL,
  site        INTEGER,                           -- everstep_name.id of the call site
  build       INTEGER NOT NULL,                  -- everstep_name.id of the build that wrote it
  fingerprint INTEGER NOT NULL,
  at          INTEGER NOT NULL,
  CONSTRAINT journal_key PRIMARY KEY (run, seq)
) STRICT;

-- Reached the run, not yet in its journal. `n` comes from everstep_run.inbox_n: exact order per run, no sequence.
CREATE TABLE everstep_inbox (
  run   INTEGER NOT NULL,
  n     INTEGER NOT NULL,
  kind  INTEGER NOT NULL,                        -- 1 signal 2 request 3 child ended 4 promise settled 5 recorded 6 cancel 7 answer
  name  TEXT    NOT NULL,
  body  ANY     NOT NULL,
  codec INTEGER NOT NULL,
  id    BLOB    NOT NULL,                        -- its sender's name for it
  at    INTEGER NOT NULL,
  CONSTRAINT inbox_key PRIMARY KEY (run, n),
  CONSTRAINT inbox_id CHECK (length(id) = 16)
) STRICT;
-- A transactional step records once, however often its transaction is asked for.
CREATE UNIQUE INDEX everstep_inbox_recorded ON everstep_inbox (run, name) WHERE kind = 5;
-- Names of letters outlive them: a letter is deleted when taken, and a late duplicate must still be known.
CREATE TABLE everstep_inbox_seen (
  run INTEGER NOT NULL,
  id  BLOB    NOT NULL,
  CONSTRAINT inbox_seen_key PRIMARY KEY (run, id)
) STRICT, WITHOUT ROWID;

-- Attempts that were started and of which no outcome is known.
CREATE TABLE everstep_started (
  run       INTEGER NOT NULL,
  key       TEXT    NOT NULL,
  attempt   INTEGER NOT NULL,
  at        INTEGER NOT NULL,
  abandoned INTEGER NOT NULL,
  CONSTRAINT started_key PRIMARY KEY (run, key),
  CONSTRAINT started_abandoned CHECK (abandoned IN (0, 1))
) STRICT, WITHOUT ROWID;

-- Why a run needs a person.
CREATE TABLE everstep_stuck (
  run    INTEGER PRIMARY KEY,
  reason INTEGER NOT NULL,
  key    TEXT,
  detail TEXT    NOT NULL,
  at     INTEGER NOT NULL
) STRICT;

-- Ends of journals that people took back: one packed row per cut, not a row per entry.
CREATE TABLE everstep_archive (
  id         INTEGER PRIMARY KEY,
  run        INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  why        TEXT    NOT NULL,
  from_seq   INTEGER NOT NULL,
  body       TEXT    NOT NULL,                   -- the entries, a JSON array
  at         INTEGER NOT NULL
) STRICT;
CREATE INDEX everstep_archive_run ON everstep_archive (run);

-- What runs say about themselves: ctx.attribute, ctx.publish, ctx.emit. Beside the journal, for readers.
CREATE TABLE everstep_attribute (
  run   INTEGER NOT NULL,
  name  INTEGER NOT NULL,                        -- everstep_name.id
  value ANY     NOT NULL,
  CONSTRAINT attribute_key PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX everstep_attribute_find ON everstep_attribute (name, value, run);
CREATE TABLE everstep_state (
  run INTEGER NOT NULL, name TEXT NOT NULL, body ANY, seq INTEGER NOT NULL, at INTEGER NOT NULL,
  CONSTRAINT state_key PRIMARY KEY (run, name)
) STRICT;
-- `n` is counted by the run, so that a replay gives the same offsets.
CREATE TABLE everstep_stream (
  run INTEGER NOT NULL, name TEXT NOT NULL, n INTEGER NOT NULL, body ANY, at INTEGER NOT NULL,
  CONSTRAINT stream_key PRIMARY KEY (run, name, n)
) STRICT;

CREATE VIEW everstep_runs AS
SELECT r.text_id AS id,
       w.text AS workflow,
       CASE r.status WHEN 0 THEN 'pending' WHEN 1 THEN 'running' WHEN 2 THEN 'waiting' WHEN 3 THEN 'completed'
                     WHEN 4 THEN 'failed' WHEN 5 THEN 'cancelled' WHEN 6 THEN 'stuck' ELSE 'paused' END AS status,
       strftime('%Y-%m-%dT%H:%M:%fZ', r.created_at / 1000000.0, 'unixepoch') AS created,
       strftime('%Y-%m-%dT%H:%M:%fZ', r.finished_at / 1000000.0, 'unixepoch') AS finished
FROM everstep_run r JOIN everstep_name w ON w.id = r.workflow;

-- `json_valid` first: a body in another encoding, or a damaged one, must not make the whole timeline fail.
CREATE VIEW everstep_timeline AS
SELECT r.text_id AS run,
       j.seq AS seq,
       strftime('%Y-%m-%dT%H:%M:%fZ', j.at / 1000000.0, 'unixepoch') AS time,
       j.key AS key,
       j.attempt AS attempt,
       CASE j.kind
         WHEN 0 THEN 'started' WHEN 1 THEN 'began' WHEN 2 THEN 'resumed' WHEN 3 THEN 'reseeded'
         WHEN 10 THEN 'done' WHEN 11 THEN 'failed' WHEN 12 THEN 'attempt failed' WHEN 13 THEN 'answered'
         WHEN 20 THEN 'fired' WHEN 21 THEN 'signal taken' WHEN 22 THEN 'promise settled' WHEN 23 THEN 'child ended'
         WHEN 30 THEN 'cancel asked'
         WHEN 40 THEN 'patched' WHEN 41 THEN 'published' WHEN 42 THEN 'emitted' WHEN 43 THEN 'attribute set'
         WHEN 44 THEN 'child started' WHEN 45 THEN 'promise made' WHEN 46 THEN 'undo begun'
         WHEN 60 THEN 'run completed' WHEN 61 THEN 'run failed' WHEN 62 THEN 'run cancelled' WHEN 63 THEN 'restarted'
         ELSE 'kind ' || j.kind END AS what,
       j.input AS input,
       CASE WHEN j.kind IN (10, 60) THEN j.body END AS output,
       CASE WHEN NOT json_valid(j.body) THEN NULL
            WHEN j.kind IN (11, 61) THEN json_extract(j.body, '$.message')
            WHEN j.kind = 12 THEN json_extract(j.body, '$.error.message') END AS error,
       s.text AS line
FROM everstep_journal j
JOIN everstep_run r ON r.id = j.run
LEFT JOIN everstep_name s ON s.id = j.site;
