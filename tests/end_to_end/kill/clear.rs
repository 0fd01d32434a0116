//! Runs that have ended are cleared while nobody serves, so that kills meet calls of a later generation.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Storm, ask};
use crate::harness::PATIENCE;

/// What a task instance is told apart by: the run number, the task and the map index.
pub type Name = (i64, String, i64);

/// What was cleared.
#[derive(Debug, Default)]
pub struct Clears {
    /// How often each run was.
    runs: BTreeMap<i64, u64>,
    /// How often each task instance was, and the interruptions it had had by then: they are counted anew.
    tasks: BTreeMap<Name, (i64, u64)>,
}

impl Clears {
    pub fn of_run(&self, number: i64) -> u64 {
        self.runs.get(&number).copied().unwrap_or_default()
    }

    pub fn of_task(&self, name: &Name) -> (i64, u64) {
        self.tasks.get(name).copied().unwrap_or_default()
    }

    pub fn count(&self) -> u64 {
        self.runs.values().sum()
    }
}

/// From where each kind of run is run again.
const FROM: [(&str, &str); 4] = [
    ("storm_chain", "second"),
    ("storm_later", "answer.call"),
    ("storm_retry", "flaky"),
    ("storm_bulk", "large"),
];

impl Storm {
    /// Clears one of the runs that have ended, where there is any.
    pub(super) async fn clear(&mut self) -> bool {
        let (biz, from) = FROM[self.chance.below(FROM.len() as u64) as usize];
        let sql = "SELECT id, run_id FROM dag_run
                   WHERE dag_id = ? AND state = 'success' AND idempotency_key LIKE 'key-%' ORDER BY id DESC LIMIT 1";
        let found = self.server.look().0.query_row(sql, [biz], |row| Ok((row.get(0)?, row.get(1)?)));
        let Ok((number, run_id)): Result<(i64, String), _> = found else { return false };
        let interruptions = self.server.look().interruptions(number);
        let begin = Instant::now();
        let arguments = ["retry", &run_id, "--biz", biz, "--from", from, "--output", "json"];
        let ended = loop {
            let ended = ask(&self.world, &arguments, None).await;
            match ended.code() {
                0 => break ended,
                // Somebody who triggers has the database.
                3 if begin.elapsed() < PATIENCE => {}
                _ => panic!("{ended:?}\n{}", self.told()),
            }
        };
        let cleared = ended.json()["cleared"].as_array().cloned().unwrap_or_default();
        assert!(!cleared.is_empty(), "{ended:?}");
        *self.clears.runs.entry(number).or_default() += 1;
        for instance in cleared {
            let instance = instance.as_str().unwrap();
            let (task, index) = match instance.strip_suffix(']').and_then(|text| text.split_once('[')) {
                Some((task, index)) => (task, index.parse().unwrap()),
                None => (instance, -1),
            };
            let name = (number, task.to_owned(), index);
            let before = interruptions[&(name.1.clone(), name.2)];
            let (times, interruptions) = self.clears.tasks.entry(name).or_default();
            *times += 1;
            *interruptions += before;
        }
        true
    }
}
