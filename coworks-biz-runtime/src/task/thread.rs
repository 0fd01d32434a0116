//! Functions that are not async: they have a thread, which nobody can stop.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::error::Result;
use crate::run::Key;
use crate::value::Json;

/// A task instance: the number of its run, and its key there.
type Id = (i64, Key);

/// The threads that go on after their attempt was given up, by a timeout or by somebody. The next attempt at the same
/// task instance waits for its thread: what it does is never under way twice.
#[derive(Debug, Default)]
pub struct Threads(Mutex<HashMap<Id, watch::Receiver<()>>>);

/// So many may go on at once: the threads of a process have an end, and the engine needs some.
const MOST: usize = 64;

impl Threads {
    /// Whether so many go on already that no other one may.
    pub(super) fn are_many(&self) -> bool {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).len() >= MOST
    }

    /// Awaits what a thread does, once that of an earlier attempt has ended. Given up, it goes on.
    pub(super) async fn run(
        self: &Arc<Self>,
        id: Id,
        work: BoxFuture<'static, Result<Option<Json>>>,
    ) -> Result<Option<Json>> {
        let earlier = self.0.lock().unwrap_or_else(|e| e.into_inner()).get(&id).cloned();
        if let Some(mut earlier) = earlier {
            tracing::warn!("waits for the thread of an earlier attempt, which has not ended");
            // Nothing is ever sent: it is closed once the thread has ended.
            while earlier.changed().await.is_ok() {}
        }
        let mut thread = Thread { threads: Arc::clone(self), id, work: Some(work) };
        let output = match &mut thread.work {
            Some(work) => work.await,
            None => Ok(None),
        };
        thread.work = None;
        output
    }
}

/// What a thread does, for as long as somebody awaits it.
struct Thread {
    threads: Arc<Threads>,
    id: Id,
    work: Option<BoxFuture<'static, Result<Option<Json>>>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        // Where the runtime is gone, there is no next attempt in this process.
        let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) else { return };
        let (over, goes_on) = watch::channel(());
        self.threads.0.lock().unwrap_or_else(|e| e.into_inner()).insert(self.id, goes_on);
        let (threads, id) = (Arc::clone(&self.threads), self.id);
        runtime.spawn(async move {
            // Whatever it ends with comes too late.
            let _ = AssertUnwindSafe(work).catch_unwind().await;
            threads.0.lock().unwrap_or_else(|e| e.into_inner()).remove(&id);
            drop(over);
        });
    }
}
