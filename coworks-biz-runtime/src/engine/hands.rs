//! Who does what the engine has decided and cannot do itself. What comes of it comes back as messages.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};
use uuid::Uuid;

use super::attempts::store;
use super::carrier::{Carriers, Work};
use super::host::RunHost;
#[cfg(feature = "s3")]
use super::host::Shared;
use super::message::{Ended, Message};
#[cfg(feature = "s3")]
use super::waiter::{Waiter, Wanted, waiter};
use crate::store::Deletion;
use crate::task::{Attempt, End, attempt};

/// What is done beside attempts.
#[derive(Debug)]
#[allow(dead_code, reason = "who works on tokio is given the work, and does not ask what it is")]
pub(super) enum Errand {
    /// Somebody is told of something: the number of the notice.
    Tell(i64),
    /// Objects are deleted from S3.
    Delete(Vec<Deletion>),
}

/// Whoever works for an engine: [`Tokio`], or the world of a simulation.
pub(super) trait Hands: Send {
    /// The name of a new run: of version 7.
    fn name_run(&mut self) -> Uuid;

    /// Begins an attempt of this number.
    fn begin(&mut self, number: u64, what: Attempt, host: RunHost) -> Option<AbortHandle>;

    /// Attempts begin as soon as the disk has what was written.
    fn soon(&self) {}

    /// The attempt of this number has ended, and no other one is under way.
    fn last_ended(&mut self, number: u64, handle: Option<AbortHandle>);

    /// Goes on an errand, by this work.
    fn go(&mut self, errand: Errand, work: BoxFuture<'static, ()>);

    /// Looks for an object, or does not any more.
    #[cfg(feature = "s3")]
    fn look(&self, wanted: Wanted);
}

/// Works on tokio. Attempts are cut off when it goes.
pub(super) struct Tokio {
    tokio: Handle,
    attempts: JoinSet<()>,
    carriers: Arc<Carriers>,
    /// The last attempt, where none is under way: its number, when it ended, and what carried it.
    last: Option<(u64, Instant, AbortHandle)>,
    #[cfg(feature = "s3")]
    waiter: Waiter,
}

impl Tokio {
    /// Works on the runtime of the caller.
    pub(super) fn new(#[cfg(feature = "s3")] shared: &Arc<Shared>) -> Self {
        #[cfg(feature = "s3")]
        let waiter = {
            let (waiter, looker) = waiter(&shared.clock);
            tokio::spawn(looker.look_around(Arc::clone(shared)));
            waiter
        };
        Self {
            tokio: Handle::current(),
            attempts: JoinSet::new(),
            carriers: Arc::default(),
            last: None,
            #[cfg(feature = "s3")]
            waiter,
        }
    }

    /// Has an attempt carried: by who carried the last one, if that still waits for more.
    fn carry(&mut self, mut work: Work, number: u64) -> AbortHandle {
        if let Some((last, ended, carrier)) = self.last.take() {
            self.carriers.gap.note(ended.elapsed());
            match self.carriers.give(work, number, last) {
                Ok(()) => return carrier,
                Err(back) => work = back,
            }
        }
        while self.attempts.try_join_next().is_some() {}
        let carriers = Arc::clone(&self.carriers);
        self.attempts.spawn_on(async move { carriers.carry(work, number).await }, &self.tokio)
    }
}

impl Hands for Tokio {
    fn name_run(&mut self) -> Uuid {
        Uuid::now_v7()
    }

    fn begin(&mut self, number: u64, what: Attempt, host: RunHost) -> Option<AbortHandle> {
        let shared = Arc::clone(&host.shared);
        let (busy, under_way) = (shared.clock.busy(), self.carriers.count());
        let work = async move {
            let (run, key) = (what.run.number, what.key());
            let ended = AssertUnwindSafe(async {
                let mut end = attempt(Arc::new(host), what).await;
                let stored = store(&shared, &mut end).await;
                (end, stored)
            });
            // An attempt catches the panics of a user's code; one around it must not keep its slot for ever.
            let (end, (xcoms, items)) = ended.catch_unwind().await.unwrap_or_else(|_| {
                (
                    End::failed("panicked outside the task's own code: an error of coworks-biz"),
                    Default::default(),
                )
            });
            drop(under_way);
            shared.tell(Message::Ended(Ended { run, key, number, end: Box::new(end), xcoms, items }));
            drop(busy);
        };
        Some(self.carry(work.boxed(), number))
    }

    fn soon(&self) {
        if let Some((last, ..)) = self.last {
            self.carriers.rouse(last);
        }
    }

    fn last_ended(&mut self, number: u64, handle: Option<AbortHandle>) {
        self.last = handle.map(|handle| (number, Instant::now(), handle));
    }

    fn go(&mut self, _: Errand, work: BoxFuture<'static, ()>) {
        self.tokio.spawn(work);
    }

    #[cfg(feature = "s3")]
    fn look(&self, wanted: Wanted) {
        self.waiter.tell(wanted);
    }
}
