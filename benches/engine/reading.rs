//! Readers that page through a database while it is written.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use coworks_biz::store::Reader;

/// The rows of a page.
const PAGE: u32 = 50;

/// How long a reader looks at a page.
const PAUSE: Duration = Duration::from_millis(10);

/// Threads that read until this is dropped.
pub struct Reading {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Reading {
    pub fn start(db: &Path, readers: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let read = |_| {
            let (db, over) = (db.to_owned(), Arc::clone(&over));
            std::thread::spawn(move || {
                let reader = Reader::open(&db).expect("a database");
                let mut last: Option<(String, i32)> = None;
                while !over.load(Ordering::Relaxed) {
                    // The page of the last runs, and the next one of the tasks of the last of them.
                    let runs = reader.runs(None, PAGE).expect("runs");
                    if let Some(run) = runs.first() {
                        let after = last.as_ref().map(|(task, index)| (task.as_str(), *index));
                        let tasks = reader.tasks_after(run.number, after, PAGE).expect("tasks");
                        last = tasks.last().map(|task| (task.task_id.to_string(), task.map_index));
                    }
                    std::thread::sleep(PAUSE);
                }
            })
        };
        let threads = (0..readers).map(read).collect();
        Self { over, threads }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a reader");
        }
    }
}
