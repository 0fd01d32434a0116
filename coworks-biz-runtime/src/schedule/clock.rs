//! The ticks of a cron expression in a time zone, through changes of the clocks as in Airflow.

use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::{GapInfo, Tz};

use super::cron;

/// A cron expression on the clocks of a place.
///
/// Airflow goes from tick to tick: from the local time of one it looks for the next that the expression
/// names, and puts that back into the zone. So near a change of the clocks it depends on the tick before
/// what comes next, and a question from between two ticks may get another answer than the chain of ticks
/// gives. Here the chain decides, as if it had always been: [`Clock::last`] finds its place in it from a tick
/// that lies far enough from any change, and everything else goes by that.
#[derive(Debug)]
pub struct Clock {
    cron: croner::Cron,
    /// Such a schedule goes on by the time that passes, any other by what the clocks say.
    every_hour: bool,
    zone: Tz,
}

/// Further than a chain remembers: clocks change by a day at most.
const FAR: TimeDelta = TimeDelta::hours(50);

impl Clock {
    /// Reads the expression, or says what is wrong with it.
    pub fn new(expression: &str, zone: Tz) -> Result<Self, String> {
        let (cron, every_hour) = cron::read(expression)?;
        Ok(Self { cron, every_hour, zone })
    }

    /// The first tick after this moment; `None` when no date fits it.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.step(self.last(after)?)
    }

    /// The tick that follows a tick.
    pub fn step(&self, tick: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = self.local(tick);
        let next = self.cron.find_next_occurrence(&local, false).ok()?;
        match self.every_hour {
            true => tick.checked_add_signed(next - local),
            false => self.place(next),
        }
    }

    /// The last tick at or before this moment.
    pub fn last(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut tick = self.named(at.checked_sub_signed(FAR)?)?;
        // A named moment is a tick where the clocks have not changed around it.
        while self.offset(tick.checked_sub_signed(FAR)?) != self.offset(tick.checked_add_signed(FAR / 2)?) {
            tick = self.named(tick.checked_sub_signed(FAR)?)?;
        }
        loop {
            let next = match self.step(tick) {
                Some(next) if next <= at => next,
                _ => return Some(tick),
            };
            // From there to the next change, ticks are what the expression names.
            let change = self.change(next, at);
            let named = self.named(change.map_or(at, |change| change - TimeDelta::seconds(1)))?;
            tick = next.max(named);
            if change.is_none() {
                return Some(tick);
            }
        }
    }

    /// The last moment at or before this one whose local time the expression names.
    fn named(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let at = at.with_nanosecond(0)?;
        let local = self.local(at);
        let mut named = self.cron.find_previous_occurrence(&local, true).ok()?;
        loop {
            let near = at.checked_sub_signed(local - named)?;
            if self.every_hour && self.local(near) == named {
                return Some(near);
            }
            match self.place(named) {
                Some(tick) if tick <= at && self.local(tick) == named => return Some(tick),
                // It was skipped, or comes a second time.
                _ => named = self.cron.find_previous_occurrence(&named, false).ok()?,
            }
        }
    }

    /// The moment of a local time: of two the second, and of one that is skipped as much later as the clocks
    /// were put forward.
    fn place(&self, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        if let Some(moment) = self.zone.from_local_datetime(&local).latest() {
            return Some(moment.to_utc());
        }
        let (_, before) = GapInfo::new(&local, &self.zone)?.begin?;
        Some((local - before.fix()).and_utc())
    }

    /// The first moment in the span at which the clocks are changed; there is at most one.
    fn change(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (mut low, mut high) = (from.timestamp(), to.timestamp());
        let offset = |seconds| DateTime::from_timestamp(seconds, 0).map(|at| self.offset(at));
        if offset(low) == offset(high) {
            return None;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if offset(middle) == offset(low) {
                low = middle;
            } else {
                high = middle;
            }
        }
        DateTime::from_timestamp(high, 0)
    }

    fn offset(&self, at: DateTime<Utc>) -> TimeDelta {
        at.with_timezone(&self.zone).naive_local() - at.naive_utc()
    }

    /// The local time, in whole seconds.
    fn local(&self, at: DateTime<Utc>) -> NaiveDateTime {
        let local = at.with_timezone(&self.zone).naive_local();
        local.with_nanosecond(0).unwrap_or(local)
    }
}
