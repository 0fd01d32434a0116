-- A run is queued before it begins, and a task that was cleared has no state: both columns may be
-- null from here on, which SQLite only does by making the tables anew.

CREATE TABLE dag_run_new (
    id INTEGER PRIMARY KEY,          -- the run number, as in trace ids
    dag_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    uuid TEXT NOT NULL UNIQUE,
    run_type TEXT NOT NULL,          -- manual, scheduled, backfill
    state TEXT NOT NULL,
    version TEXT NOT NULL,           -- fingerprint of the structure it goes on with
    conf TEXT NOT NULL,              -- JSON
    logical_date INTEGER NOT NULL,
    data_interval_start INTEGER NOT NULL,
    data_interval_end INTEGER NOT NULL,
    queued_at INTEGER NOT NULL,
    start_date INTEGER,              -- null until it begins
    end_date INTEGER,
    idempotency_key TEXT,            -- of its trigger
    backfill INTEGER,                -- the one it is part of
    stopped TEXT,                    -- cancelled, timed_out: it ends failed, whatever its tasks do
    held TEXT,                       -- why it does not go on, until somebody decides
    UNIQUE (dag_id, run_id),
    UNIQUE (dag_id, logical_date)
);
INSERT INTO dag_run_new
    SELECT id, dag_id, run_id, uuid, run_type, state, version, conf, logical_date, data_interval_start,
           data_interval_end, start_date, start_date, end_date, NULL, NULL, NULL, NULL
    FROM dag_run;
DROP TABLE dag_run;
ALTER TABLE dag_run_new RENAME TO dag_run;
CREATE UNIQUE INDEX run_of_key ON dag_run (dag_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX open_run ON dag_run (state) WHERE end_date IS NULL;
CREATE INDEX run_of_backfill ON dag_run (backfill) WHERE backfill IS NOT NULL;

CREATE TABLE task_instance_new (
    run INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    map_index INTEGER NOT NULL,      -- -1 when it is not mapped
    state TEXT,                      -- null when it was cleared and waits again
    try_number INTEGER NOT NULL,
    tries_before INTEGER NOT NULL,   -- those before it was last cleared
    interruptions INTEGER NOT NULL,
    generation INTEGER NOT NULL,     -- of its call: part of its Idempotency-Key and its S3 key
    start_date INTEGER,              -- of the current try
    end_date INTEGER,
    due_at INTEGER,                  -- when it is called again: a retry, or the deadline of a wait
    waits_for TEXT,                  -- JSON: what a wait is about
    error TEXT,                      -- of the last failed attempt
    outcome INTEGER,                 -- of its success: the arm of a branch, the number of items of a list
    PRIMARY KEY (run, task_id, map_index)
) WITHOUT ROWID;
INSERT INTO task_instance_new
    SELECT run, task_id, map_index, state, try_number, 0, interruptions, generation, start_date, end_date,
           due_at, waits_for, error, outcome
    FROM task_instance;
DROP TABLE task_instance;
ALTER TABLE task_instance_new RENAME TO task_instance;

-- What is remembered of a DAG beside its runs.
CREATE TABLE dag (
    dag_id TEXT PRIMARY KEY,
    paused INTEGER NOT NULL,
    schedule TEXT,                   -- as the program last had it, with its time zone
    schedule_since INTEGER,          -- since when it is so, where it has changed and that still matters
    ticked INTEGER                   -- until when its ticks are accounted for
) WITHOUT ROWID;

-- The structures that runs have begun with.
CREATE TABLE dag_version (
    dag_id TEXT NOT NULL,
    version TEXT NOT NULL,
    structure TEXT NOT NULL,         -- JSON
    PRIMARY KEY (dag_id, version)
) WITHOUT ROWID;

CREATE TABLE backfill (
    id INTEGER PRIMARY KEY,
    dag_id TEXT NOT NULL,
    from_date INTEGER NOT NULL,
    to_date INTEGER NOT NULL,
    reprocess TEXT NOT NULL,         -- none, failed, all
    max_active_runs INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    completed_at INTEGER
);
-- One at a time.
CREATE UNIQUE INDEX open_backfill ON backfill (dag_id) WHERE completed_at IS NULL;

-- Who is still to be told of what: e-mail, webhook, callback.
CREATE TABLE notice (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    way TEXT NOT NULL,               -- email, webhook, callback
    notice TEXT NOT NULL,            -- JSON
    tries INTEGER NOT NULL,
    due_at INTEGER NOT NULL
);

-- For what is listed, and for what is removed.
CREATE INDEX dag_run_ended ON dag_run (end_date);
CREATE INDEX dag_run_of_type ON dag_run (dag_id, run_type, logical_date);
CREATE INDEX dag_run_of_dag ON dag_run (dag_id);
CREATE INDEX xcom_blob ON xcom (blob) WHERE blob IS NOT NULL;
CREATE INDEX notice_of_run ON notice (run);
