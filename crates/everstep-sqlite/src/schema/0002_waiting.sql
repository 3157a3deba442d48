-- What runs wait for and are told, and what people do to them.

-- What people did to a run, beside its journal: written with the change itself.
CREATE TABLE everstep_act (
  run    INTEGER NOT NULL,
  n      INTEGER NOT NULL,                       -- from 1, in this order
  verb   TEXT    NOT NULL,
  who    TEXT    NOT NULL,
  why    TEXT    NOT NULL,
  at     INTEGER NOT NULL,
  detail TEXT    NOT NULL,                       -- the step's key, the other run's id
  CONSTRAINT act_key PRIMARY KEY (run, n)
) STRICT, WITHOUT ROWID;

-- What an attempt, or one before it, said last by a heartbeat.
ALTER TABLE everstep_started ADD COLUMN details ANY;
ALTER TABLE everstep_started ADD COLUMN details_codec INTEGER;

-- Who may settle which promise: whoever has the token with this SHA-256. A key has several rows when its promise was made
-- again after a cut; they are settled together.
CREATE TABLE everstep_promise (
  hash       BLOB    NOT NULL,
  run        INTEGER NOT NULL,
  key        TEXT    NOT NULL,
  generation INTEGER NOT NULL,
  expires_at INTEGER,                            -- from then on it cannot be settled
  settled    INTEGER NOT NULL DEFAULT 0,
  CONSTRAINT promise_key PRIMARY KEY (hash),
  CONSTRAINT promise_hash CHECK (length(hash) = 32),
  CONSTRAINT promise_settled CHECK (settled IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX everstep_promise_run ON everstep_promise (run, key);

-- What runs have answered to requests, by their askers' names for them; the first answer counts.
CREATE TABLE everstep_reply (
  run  INTEGER NOT NULL,
  id   BLOB    NOT NULL,
  body ANY     NOT NULL,
  at   INTEGER NOT NULL,
  CONSTRAINT reply_key PRIMARY KEY (run, id),
  CONSTRAINT reply_id CHECK (length(id) = 16)
) STRICT;

-- Whose child a run is: what a start that is made again is compared with, and who closes with whom.
ALTER TABLE everstep_run_extra ADD COLUMN parent_generation INTEGER;
ALTER TABLE everstep_run_extra ADD COLUMN digest BLOB;
CREATE INDEX everstep_run_extra_parent ON everstep_run_extra (parent, parent_key) WHERE parent IS NOT NULL;

-- `json_valid` first: a body in another encoding, or a damaged one, must not make the whole timeline fail.
DROP VIEW everstep_timeline;
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
         WHEN 24 THEN 'signal refused' WHEN 25 THEN 'request taken'
         WHEN 30 THEN 'cancel asked' WHEN 31 THEN 'deadline passed' WHEN 32 THEN 'kill asked' WHEN 33 THEN 'failing'
         WHEN 40 THEN 'patched' WHEN 41 THEN 'published' WHEN 42 THEN 'emitted' WHEN 43 THEN 'attribute set'
         WHEN 44 THEN 'child started' WHEN 45 THEN 'promise made' WHEN 46 THEN 'undo begun'
         WHEN 47 THEN 'request answered' WHEN 48 THEN 'child cancel asked'
         WHEN 60 THEN 'run completed' WHEN 61 THEN 'run failed' WHEN 62 THEN 'run cancelled' WHEN 63 THEN 'restarted'
         ELSE 'kind ' || j.kind END AS what,
       j.input AS input,
       CASE WHEN j.kind IN (10, 60) THEN j.body
            WHEN j.kind IN (22, 23, 47) AND json_valid(j.body) THEN json_extract(j.body, '$.value') END AS output,
       CASE WHEN NOT json_valid(j.body) THEN NULL
            WHEN j.kind IN (11, 24, 31, 33, 61) THEN json_extract(j.body, '$.message')
            WHEN j.kind IN (22, 23, 47) THEN json_extract(j.body, '$.failure.message')
            WHEN j.kind = 12 THEN json_extract(j.body, '$.error.message') END AS error,
       s.text AS line
FROM everstep_journal j
JOIN everstep_run r ON r.id = j.run
LEFT JOIN everstep_name s ON s.id = j.site;
