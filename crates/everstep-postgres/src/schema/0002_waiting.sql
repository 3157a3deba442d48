-- What runs wait for and are told, and what people do to them.

-- What people did to a run, beside its journal: written with the change itself.
CREATE TABLE @act (
  run    int8 NOT NULL,
  n      int8 NOT NULL,                          -- from 1, in this order
  at     int8 NOT NULL,
  verb   text NOT NULL,
  who    text NOT NULL,
  why    text NOT NULL,
  detail text NOT NULL,                          -- the step's key, the other run's id
  CONSTRAINT everstep_act_key PRIMARY KEY (run, n)
);

-- What an attempt, or one before it, said last by a heartbeat.
ALTER TABLE @started ADD COLUMN details_codec int2;
ALTER TABLE @started ADD COLUMN details bytea;

-- Who may settle which promise: whoever has the token with this SHA-256. A key has several rows when its promise was made
-- again after a cut; they are settled together.
CREATE TABLE @promise (
  run        int8  NOT NULL,
  generation int8  NOT NULL,
  expires_at int8,                               -- from then on it cannot be settled
  settled    bool  NOT NULL DEFAULT false,
  hash       bytea NOT NULL,
  key        text COLLATE "C" NOT NULL,
  CONSTRAINT everstep_promise_key PRIMARY KEY (hash),
  CONSTRAINT everstep_promise_hash CHECK (length(hash) = 32)
);
CREATE INDEX everstep_promise_run ON @promise (run, key);

-- What runs have answered to requests, by their askers' names for them; the first answer counts.
CREATE TABLE @reply (
  run   int8  NOT NULL,
  at    int8  NOT NULL,
  codec int2  NOT NULL,
  id    bytea NOT NULL,
  body  bytea NOT NULL,
  CONSTRAINT everstep_reply_key PRIMARY KEY (run, id),
  CONSTRAINT everstep_reply_id CHECK (length(id) = 16)
);

-- Whose child a run is: what a start that is made again is compared with, and who closes with whom.
ALTER TABLE @run_extra ADD COLUMN parent_generation int8;
ALTER TABLE @run_extra ADD COLUMN digest bytea;
CREATE INDEX everstep_run_extra_parent ON @run_extra (parent, parent_key) WHERE parent IS NOT NULL;

-- Bodies of codec 0 are JSON as it was written. What a body says is looked at only where JSON is certain: nothing that
-- somebody damaged may make the whole timeline fail.
CREATE VIEW @timeline AS
SELECT r.text_id AS run,
       j.seq AS seq,
       to_timestamp(j.at / 1000000.0) AS time,
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
       CASE WHEN j.input_codec = 0 THEN convert_from(j.input, 'UTF8') END AS input,
       CASE WHEN j.codec = 0 THEN convert_from(j.body, 'UTF8') END AS body,
       s.text AS line
FROM @journal j
JOIN @run r ON r.id = j.run
LEFT JOIN @name s ON s.id = j.site;
