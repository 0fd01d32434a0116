//! What the writer is asked: what is committed, by whoever owns the database.

use chrono::{DateTime, Utc};
use rusqlite::params;

use super::{
    BackfillRecord, DagRecord, Deletion, NoticeRecord, RunRecord, StoreError, TaskRecord, Which, Writer, read,
};

impl Writer {
    /// The number the next run gets.
    pub fn next_run(&self) -> Result<i64, StoreError> {
        self.query("SELECT coalesce(max(id), 0) + 1 FROM dag_run", [])
    }

    /// Whether a run of this DAG stands for this moment already.
    pub fn has_logical_date(&self, dag_id: &str, date: DateTime<Utc>) -> Result<bool, StoreError> {
        self.query(
            "SELECT EXISTS (SELECT 1 FROM dag_run WHERE dag_id = ? AND logical_date = ?)",
            params![dag_id, date.timestamp_micros()],
        )
    }

    /// The runs of this run id: at most one of each DAG.
    pub fn named(&self, dag_id: Option<&str>, run_id: &str) -> Result<Vec<RunRecord>, StoreError> {
        read::named(&self.connection, dag_id, run_id).map_err(|source| self.wrap(source))
    }

    /// The runs of which this holds, in the order of their numbers.
    pub fn runs(&self, which: Which) -> Result<Vec<RunRecord>, StoreError> {
        read::which(&self.connection, which).map_err(|source| self.wrap(source))
    }

    /// What is remembered of the DAGs.
    pub fn dags(&self) -> Result<Vec<DagRecord>, StoreError> {
        read::dags(&self.connection).map_err(|source| self.wrap(source))
    }

    /// The structure that a version of a DAG has, as JSON.
    pub fn structure(&self, dag_id: &str, version: &str) -> Result<Option<String>, StoreError> {
        read::structure(&self.connection, dag_id, version).map_err(|source| self.wrap(source))
    }

    /// The backfills that are not complete.
    pub fn backfills(&self) -> Result<Vec<BackfillRecord>, StoreError> {
        read::backfills(&self.connection, true).map_err(|source| self.wrap(source))
    }

    /// The number the next backfill gets.
    pub fn next_backfill(&self) -> Result<i64, StoreError> {
        self.query("SELECT coalesce(max(id), 0) + 1 FROM backfill", [])
    }

    /// Whom there is still something to tell.
    pub fn notices(&self) -> Result<Vec<NoticeRecord>, StoreError> {
        read::notices(&self.connection).map_err(|source| self.wrap(source))
    }

    /// The task instances of a run.
    pub fn tasks(&self, run: i64) -> Result<Vec<TaskRecord>, StoreError> {
        read::tasks(&self.connection, run).map_err(|source| self.wrap(source))
    }

    /// Up to `limit` objects that are to be deleted from S3 by now.
    pub fn deletions(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<Deletion>, StoreError> {
        read::deletions(&self.connection, now, limit).map_err(|source| self.wrap(source))
    }

    /// When the next object is to be deleted from S3.
    pub fn next_deletion(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        read::next_deletion(&self.connection).map_err(|source| self.wrap(source))
    }
}
