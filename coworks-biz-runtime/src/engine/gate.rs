//! What a service lets begin: so many calls at once, at its pace, and none while it wants to be left alone. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::Limits;
use crate::tech::Pace;

/// What a task instance needs of a service to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    /// The service, by its place in [`Slots::serve`](super::slots::Slots::serve).
    pub(super) service: usize,
    pub(super) need: Need,
    /// Whether it keeps its place when its attempt has ended: an answer is still to come.
    pub(super) keeps: bool,
}

/// What has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Need {
    /// The service may be called. It asks again for what has a place, or nobody counts.
    Open,
    /// A place among those under way. It looks by itself whether the service may be called.
    Place,
    /// Both.
    Both,
}

impl Need {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Open, Self::Place, Self::Both];
}

/// The state of a service.
#[derive(Debug, Default)]
pub(super) struct Gate {
    size: Option<usize>,
    taken: usize,
    pace: Option<Pace>,
    /// Until when it wants to be left alone.
    closed: Option<DateTime<Utc>>,
    /// When it is looked at again by itself.
    alarm: Option<DateTime<Utc>>,
    /// Whether others have waited for one of its places.
    was_full: bool,
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Self {
        Self { size: limits.concurrency, pace: limits.rate.map(Pace::new), ..Self::default() }
    }

    pub(super) fn size(&self) -> Option<usize> {
        self.size
    }

    /// How many are under way.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    pub(super) fn is_full(&self) -> bool {
        self.size.is_some_and(|size| self.taken >= size)
    }

    /// Whether it is full, and never was before.
    pub(super) fn is_full_first(&mut self) -> bool {
        self.is_full() && !std::mem::replace(&mut self.was_full, true)
    }

    /// When its pace lets the next one begin, where that is not now and somebody waits for it.
    pub(super) fn paced_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.alarm?;
        self.pace.as_ref().map(|pace| pace.opens(now)).filter(|opens| *opens > now)
    }

    pub(super) fn closed_until(&self) -> Option<DateTime<Utc>> {
        self.closed
    }

    /// Whether one that needs this may start now.
    pub(super) fn admits(&self, need: Need, now: DateTime<Utc>) -> bool {
        (need == Need::Open || !self.is_full()) && self.opens(need, now) <= now
    }

    /// The first moment at which one that needs this may start, were there a place for it.
    fn opens(&self, need: Need, now: DateTime<Utc>) -> DateTime<Utc> {
        let paced = self.pace.as_ref().map_or(now, |pace| pace.opens(now));
        let closed = self.closed.filter(|_| need != Need::Place);
        closed.map_or(paced, |closed| closed.max(paced))
    }

    /// One starts.
    pub(super) fn begin(&mut self, now: DateTime<Utc>) {
        if let Some(pace) = &mut self.pace {
            pace.begin(now);
        }
    }

    /// A place is taken, also where there is none: what is under way is counted.
    pub(super) fn take(&mut self) {
        self.taken += 1;
    }

    pub(super) fn free(&mut self) {
        self.taken = self.taken.saturating_sub(1);
    }

    /// It wants to be left alone.
    pub(super) fn close(&mut self, until: DateTime<Utc>) {
        self.closed = self.closed.max(Some(until));
    }

    /// The clock was put back by so much, and is at `now`: nobody waits for longer for that.
    pub(super) fn put_back(&mut self, by: TimeDelta, now: DateTime<Utc>) {
        self.closed = self.closed.map(|until| until - by);
        // Else each look would find the next call a little ahead of it, until the clock has caught up.
        if let Some(pace) = &mut self.pace {
            pace.put_back(now);
        }
    }

    /// When it is to be looked at again for those that need this; `None` where no time helps, or it
    /// is looked at before that anyway.
    pub(super) fn alarm(&mut self, need: Need, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let opens = self.opens(need, now);
        if opens <= now || self.alarm.is_some_and(|alarm| alarm <= opens) {
            return None;
        }
        self.alarm = Some(opens);
        self.alarm
    }

    /// It is this moment, whatever the clock says: it may have been put back.
    pub(super) fn look(&mut self, at: DateTime<Utc>) {
        self.alarm = self.alarm.filter(|alarm| *alarm != at);
        self.closed = self.closed.filter(|closed| *closed > at);
    }
}
