-- What is deleted may be written once more, by a call that is late or delivered twice: it is deleted again, for a while.
CREATE TABLE to_delete_new (
    bucket TEXT NOT NULL,
    key TEXT NOT NULL,
    due_at INTEGER NOT NULL,         -- when it is deleted, for the first time or again
    until INTEGER NOT NULL,          -- the last time
    PRIMARY KEY (bucket, key)
) WITHOUT ROWID;
INSERT INTO to_delete_new SELECT bucket, key, 0, 0 FROM to_delete;
DROP TABLE to_delete;
ALTER TABLE to_delete_new RENAME TO to_delete;
CREATE INDEX due_deletion ON to_delete (due_at);
