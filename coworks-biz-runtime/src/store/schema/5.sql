-- What has come about and what was logged are one table, in the order of both, and one tree: the rows of a run
-- lie together, and no index is written besides.
CREATE TABLE event_new (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,            -- counts up in the run
    task_id TEXT,                    -- null for the run itself
    map_index INTEGER,
    try_number INTEGER,
    at INTEGER,
    state TEXT,                      -- null where something was logged and nothing else came about
    detail TEXT,
    records TEXT,                    -- a piece of the log of this try: lines of JSON
    PRIMARY KEY (run, seq)
) WITHOUT ROWID;
INSERT INTO event_new
    SELECT run, id, task_id, map_index, try_number, at, state, detail, NULL FROM event ORDER BY run, id;
INSERT INTO event_new
    SELECT run, id + (SELECT ifnull(max(id), 0) FROM event), task_id, map_index, try_number, NULL, NULL, NULL, records
    FROM log ORDER BY run, id;
DROP TABLE event;
DROP TABLE log;
ALTER TABLE event_new RENAME TO event;

-- A run that has not ended is in no index of those that have.
DROP INDEX dag_run_ended;
CREATE INDEX dag_run_ended ON dag_run (end_date) WHERE end_date IS NOT NULL;
