-- Times are microseconds since the epoch, UTC. States are Airflow's words.

-- One row: who this file belongs to. The id is part of the keys of asynchronous results.
CREATE TABLE engine (id TEXT NOT NULL);

CREATE TABLE dag_run (
    id INTEGER PRIMARY KEY,          -- the run number, as in trace ids
    dag_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    uuid TEXT NOT NULL UNIQUE,
    run_type TEXT NOT NULL,
    state TEXT NOT NULL,
    version TEXT NOT NULL,           -- fingerprint of the structure it began with
    conf TEXT NOT NULL,              -- JSON
    logical_date INTEGER NOT NULL,
    data_interval_start INTEGER NOT NULL,
    data_interval_end INTEGER NOT NULL,
    start_date INTEGER NOT NULL,
    end_date INTEGER,
    UNIQUE (dag_id, run_id),
    UNIQUE (dag_id, logical_date)
);

-- A row exists from the moment the task is ready, or ends without running.
CREATE TABLE task_instance (
    run INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    map_index INTEGER NOT NULL,      -- -1 when it is not mapped
    state TEXT NOT NULL,
    try_number INTEGER NOT NULL,
    interruptions INTEGER NOT NULL,
    generation INTEGER NOT NULL,     -- of its call: part of its Idempotency-Key and its S3 key
    start_date INTEGER,              -- of the current try
    end_date INTEGER,
    due_at INTEGER,                  -- when it is called again: a retry, or the deadline of a wait
    waits_for TEXT,                  -- JSON: what a wait is about
    error TEXT,                      -- of the last failed attempt
    PRIMARY KEY (run, task_id, map_index)
) WITHOUT ROWID;

CREATE TABLE xcom (
    run INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    map_index INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT,                      -- JSON, or
    blob TEXT,                       -- the name of the file that holds it
    PRIMARY KEY (run, task_id, map_index, key)
) WITHOUT ROWID;

-- Every transition, append-only.
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    task_id TEXT,                    -- null for the run itself
    map_index INTEGER,
    try_number INTEGER,
    at INTEGER NOT NULL,
    state TEXT NOT NULL,
    detail TEXT
);
CREATE INDEX event_of_run ON event (run);

-- Pieces of the log of an attempt, in order; records are lines of JSON.
CREATE TABLE log (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    map_index INTEGER NOT NULL,
    try_number INTEGER NOT NULL,
    records TEXT NOT NULL
);
CREATE INDEX log_of_run ON log (run, task_id);

-- Results that were read and committed, and are now to be deleted from S3.
CREATE TABLE to_delete (
    bucket TEXT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (bucket, key)
) WITHOUT ROWID;
