//! What is due: the decision of the scheduler, without a clock.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Ticks, Timetable};

/// What is remembered of a DAG between two looks at its schedule. The default is that of one never seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Until when its ticks are accounted for: made, or passed over for good. `None` where it is new.
    pub ticked: Option<DateTime<Utc>>,
    /// Since when its present schedule is known, where that was another one before. Forgotten once
    /// [`Due::ticked`] says until when ticks are accounted for.
    pub schedule_since: Option<DateTime<Utc>>,
    /// Whether its schedule has ever made a run: what `@once` asks.
    pub ran: bool,
    /// Whether a run of its schedule is under way: what `@continuous` asks.
    pub active: bool,
    /// The logical dates after `ticked` that have a run already. There are some where the clock was put
    /// back, and where a backfill or a trigger was ahead; none of them is due again.
    pub made: BTreeSet<DateTime<Utc>>,
}

/// A run that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// The moment it stands for: the tick. That of `@continuous` is now.
    pub logical_date: DateTime<Utc>,
    /// The span it stands for: from, included, to, excluded.
    pub data_interval: (DateTime<Utc>, DateTime<Utc>),
}

/// What [`Timetable::due`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The run to make. There may be more: ask again when it is made.
    pub run: Option<Tick>,
    /// What [`Known::ticked`] is from now on; to be committed together with the run, also where there is
    /// none. `None` where it stays as it was.
    pub ticked: Option<DateTime<Utc>>,
    /// When to ask again: now where a run was due, `None` where only a change of the DAG, or the end of its
    /// run, can make one due. Clocks are put forward and back: look at them now and then until that moment.
    pub look: Option<DateTime<Utc>>,
}

impl Timetable {
    /// What is due now, of what is known.
    ///
    /// - With `catchup`, every tick from `start_date` on that is not accounted for, the oldest first. After
    ///   a change of the schedule, the new one counts from what is accounted for.
    /// - Without, the latest of the ticks that are not accounted for, and only that: after a stop, a pause,
    ///   or where the clock was put forward. Of a new DAG it is the latest since `start_date`, or, without a
    ///   `start_date`, none before now. A changed schedule makes those after
    ///   [`schedule_since`](Known::schedule_since).
    /// - Where the clock was put back, what it had passed over comes in its time, and what was made is not
    ///   made again. With `catchup` nothing is passed over.
    /// - `@once` runs at `start_date`, whenever that was, or at once.
    /// - `@continuous` runs when no run is under way, for the span since its last run began, or from
    ///   `start_date`. None begins after `end_date`.
    pub fn due(&self, known: &Known, now: DateTime<Utc>) -> Due {
        match self.ticks {
            Ticks::Once => self.once(known, now),
            Ticks::Continuous => self.continuous(known, now),
            Ticks::Never => Due::NOTHING,
            Ticks::Clock(_) | Ticks::Every { .. } if self.catchup && self.start.is_some() => {
                self.each(known, now)
            }
            Ticks::Clock(_) | Ticks::Every { .. } => self.latest(known, now),
        }
    }

    fn each(&self, known: &Known, now: DateTime<Utc>) -> Due {
        let mut ticked = known.ticked;
        loop {
            let next = match ticked {
                Some(ticked) => self.next(ticked),
                None => self.start.and_then(|start| self.next(before(start))),
            };
            match next {
                Some(next) if next <= now && known.made.contains(&next) => ticked = Some(next),
                Some(next) if next <= now => return self.make(next, now),
                next => {
                    let settled = ticked == known.ticked && known.schedule_since.is_none();
                    return Due { run: None, ticked: ticked.filter(|_| !settled), look: next };
                }
            }
        }
    }

    fn latest(&self, known: &Known, now: DateTime<Utc>) -> Due {
        // A moment that is still to come was written by a clock that was wrong: what it passed over until
        // then comes in its time.
        let ticked = known.ticked.map(|ticked| ticked.min(now));
        let since = match (known.schedule_since, known.ticked, self.start) {
            (Some(since), ..) => Some(since.min(now)),
            (None, None, None) => Some(before(now)),
            _ => None,
        };
        // What comes after `end_date` passes over what was before it, as anything later does.
        let last = self.ticks.last(now).filter(|&last| {
            let within =
                self.start.is_none_or(|start| start <= last) && self.end.is_none_or(|end| last <= end);
            within && ticked.max(since).is_none_or(|passed| passed < last)
        });
        match last {
            Some(last) if !known.made.contains(&last) => self.make(last, now),
            last => {
                let settled = ticked.is_some() && ticked == known.ticked && since.is_none() && last.is_none();
                Due { run: None, ticked: (!settled).then_some(now), look: self.next(now) }
            }
        }
    }

    fn make(&self, tick: DateTime<Utc>, now: DateTime<Utc>) -> Due {
        let run = Tick { logical_date: tick, data_interval: self.data_interval(tick) };
        Due { run: Some(run), ticked: Some(tick), look: Some(now) }
    }

    fn once(&self, known: &Known, now: DateTime<Utc>) -> Due {
        let at = self.start.unwrap_or(now);
        if known.ran || self.end.is_some_and(|end| end < at) {
            return Due::NOTHING;
        }
        if now < at {
            return Due { look: Some(at), ..Due::NOTHING };
        }
        let run = Tick { logical_date: at, data_interval: (at, at) };
        Due { run: Some(run), ticked: Some(at), look: None }
    }

    fn continuous(&self, known: &Known, now: DateTime<Utc>) -> Due {
        if known.active || self.end.is_some_and(|end| end < now) {
            return Due::NOTHING;
        }
        if let Some(start) = self.start.filter(|&start| now < start) {
            return Due { look: Some(start), ..Due::NOTHING };
        }
        // Two runs have two logical dates, also where the clock stands still.
        let taken = |at: &DateTime<Utc>| known.ticked == Some(*at) || known.made.contains(at);
        let mut at = now;
        while taken(&at) {
            at += TimeDelta::microseconds(1);
        }
        let from = known.ticked.or(self.start).unwrap_or(at).min(at);
        let run = Tick { logical_date: at, data_interval: (from, at) };
        Due { run: Some(run), ticked: Some(at), look: None }
    }
}

impl Due {
    const NOTHING: Self = Self { run: None, ticked: None, look: None };
}

/// The moment before one: for what is open below.
fn before(moment: DateTime<Utc>) -> DateTime<Utc> {
    moment - TimeDelta::nanoseconds(1)
}
