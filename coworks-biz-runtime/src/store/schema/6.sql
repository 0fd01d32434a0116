-- What comes last in a run comes last in the tree of events: that costs one page, where the key of two columns
-- had SQLite share out the pages beside it.

-- A key has room for so many runs. Fails where there are others.
CREATE TEMP TABLE numbers (run INTEGER CHECK (run BETWEEN 0 AND 2147483647));
INSERT INTO numbers SELECT run FROM event GROUP BY run;
DROP TABLE numbers;

CREATE TABLE event_new (
    id INTEGER PRIMARY KEY,          -- the run number << 32 | a number that counts up in the run
    task_id TEXT,                    -- null for the run itself
    map_index INTEGER,
    try_number INTEGER,
    at INTEGER,
    state TEXT,                      -- null where something was logged and nothing else came about
    detail TEXT,
    records TEXT,                    -- a piece of the log of this try: lines of JSON
    run INTEGER AS (id >> 32),
    seq INTEGER AS (id & 4294967295)
);
INSERT INTO event_new
    SELECT run << 32 | row_number() OVER (PARTITION BY run ORDER BY seq),
           task_id, map_index, try_number, at, state, detail, records
    FROM event ORDER BY run, seq;
DROP TABLE event;
ALTER TABLE event_new RENAME TO event;

-- What a task returned is in its row where that is short, as it nearly always is. `xcom` is what it was: all values.
ALTER TABLE task_instance ADD COLUMN value TEXT;
ALTER TABLE xcom RENAME TO xcom_value;
CREATE VIEW xcom (run, task_id, map_index, key, value, blob) AS
    SELECT run, task_id, map_index, key, value, blob FROM xcom_value
    UNION ALL
    SELECT run, task_id, map_index, 'return_value', value, NULL FROM task_instance WHERE value IS NOT NULL;
