//! Readers that page through a database while it is written.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use coworks_biz::store::Reader;

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
                while !over.load(Ordering::Relaxed) {
                    // The page of the last runs, and that of the tasks of one of them.
                    let runs = reader.runs(None, 50).expect("runs");
                    if let Some(run) = runs.first() {
                        reader.tasks(run.number).expect("tasks");
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
