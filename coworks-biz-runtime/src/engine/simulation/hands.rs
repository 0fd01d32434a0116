//! The hands of a simulated engine: they only note what is wanted.

use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::BoxFuture;
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::random::Random;
use crate::engine::hands::{Errand, Hands};
use crate::engine::host::RunHost;
use crate::engine::waiter::Wanted;
use crate::task::Attempt;

/// What an engine wants.
pub(super) enum Wish {
    Begin(u64, Box<Attempt>, RunHost),
    Go(Errand),
    Look(Wanted),
}

impl std::fmt::Debug for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Begin(number, what, _) => write!(f, "attempt {number} of {:?}", what.key()),
            Self::Go(errand) => write!(f, "{errand:?}"),
            Self::Look(Wanted::Watch(watch)) => write!(f, "a look for {:?}", watch.who),
            Self::Look(_) => f.write_str("a look"),
        }
    }
}

/// Where wishes are noted, and what runs are named by.
#[derive(Clone)]
pub(super) struct Noted(Arc<Mutex<(Vec<Wish>, Random)>>);

impl Noted {
    pub(super) fn new(random: Random) -> Self {
        Self(Arc::new(Mutex::new((Vec::new(), random))))
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<Wish>, Random)> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn take(&self) -> Vec<Wish> {
        std::mem::take(&mut self.lock().0)
    }
}

impl Hands for Noted {
    fn name_run(&mut self) -> Uuid {
        let mut noted = self.lock();
        // In their order, as those of a clock are.
        let (high, low) = (noted.1.next().to_be_bytes(), noted.1.next().to_be_bytes());
        let bytes = [high[0], high[1], high[2], high[3], high[4], low[0], low[1], low[2], low[3], low[4]];
        uuid::Builder::from_unix_timestamp_millis(1_800_000_000_000, &bytes).into_uuid()
    }

    fn begin(&mut self, number: u64, what: Attempt, host: RunHost) -> Option<AbortHandle> {
        self.lock().0.push(Wish::Begin(number, Box::new(what), host));
        None
    }

    fn last_ended(&mut self, _: u64, _: Option<AbortHandle>) {}

    fn go(&mut self, errand: Errand, _: BoxFuture<'static, ()>) {
        self.lock().0.push(Wish::Go(errand));
    }

    fn look(&self, wanted: Wanted) {
        self.lock().0.push(Wish::Look(wanted));
    }
}
