//! When: the ticks of a schedule. Pure: time comes in as an argument.

mod clock;
mod cron;
mod due;
#[cfg(test)]
mod tests;

use chrono::{DateTime, TimeDelta, Utc};

use self::clock::Clock;
pub use self::due::{Due, Known, Tick};
use crate::dag::{Dag, Schedule};

/// A schedule that cannot be read. The macro refuses it at compile time, so
/// that only a hand-written [`Dag`] can meet this.
#[derive(Debug, thiserror::Error)]
#[error("the schedule of `{dag_id}` cannot be read: {reason}")]
pub struct BadSchedule {
    dag_id: &'static str,
    reason: String,
}

/// The ticks of a DAG: the moments at which its schedule makes a run.
///
/// Made once for a DAG; a question then costs a few microseconds.
///
/// Time zones and changes of the clocks are as in Airflow's `CronTriggerTimetable`: a local time that is
/// skipped is as much later, of one that comes twice the second counts, and a schedule that leaves no hour
/// out runs every hour that passes.
#[derive(Debug)]
pub struct Timetable {
    ticks: Ticks,
    start: Option<DateTime<Utc>>,
    end: Option<DateTime<Utc>>,
    catchup: bool,
    text: String,
}

#[derive(Debug)]
enum Ticks {
    /// Boxed: it is a kilobyte.
    Clock(Box<Clock>),
    /// Every so many microseconds, counted from a moment.
    Every {
        anchor: DateTime<Utc>,
        step: i64,
    },
    Once,
    Continuous,
    Never,
}

impl Timetable {
    /// Reads the schedule of a DAG.
    pub fn of(dag: &Dag) -> Result<Self, BadSchedule> {
        let bad = |reason: String| BadSchedule { dag_id: dag.dag_id, reason };
        let moment = |seconds: Option<i64>| match seconds.map(|seconds| DateTime::from_timestamp(seconds, 0))
        {
            Some(None) => Err(bad("start_date or end_date is too far away".to_owned())),
            moment => Ok(moment.flatten()),
        };
        let (start, end) = (moment(dag.start_date)?, moment(dag.end_date)?);
        let (ticks, text) = match dag.schedule {
            None => (Ticks::Never, String::new()),
            Some(Schedule::Once) => (Ticks::Once, "@once".to_owned()),
            Some(Schedule::Continuous) => (Ticks::Continuous, "@continuous".to_owned()),
            Some(Schedule::Cron(expression)) => {
                let zone = dag.timezone.parse();
                let zone = zone.map_err(|_| bad(format!("there is no time zone `{}`", dag.timezone)))?;
                let clock = Clock::new(expression, zone);
                let wrong =
                    |reason| bad(format!("`{expression}` is no cron expression: {reason}; {}", cron::HOW));
                (Ticks::Clock(Box::new(clock.map_err(wrong)?)), format!("{expression} {zone}"))
            }
            Some(Schedule::Every(interval)) => {
                let step = i64::try_from(interval.as_micros()).ok().filter(|&step| step > 0);
                let step = step.ok_or_else(|| bad("the interval is zero, or too long".to_owned()))?;
                let anchor = start.unwrap_or(DateTime::UNIX_EPOCH);
                (
                    Ticks::Every { anchor, step },
                    format!("{} from {}", Schedule::Every(interval), anchor.timestamp()),
                )
            }
        };
        Ok(Self { ticks, start, end, catchup: dag.catchup, text })
    }

    /// What decides the ticks, in words for a machine: where it differs from what it was, the schedule has
    /// changed, and [`Known::schedule_since`] is now.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first tick after this moment that `start_date` and `end_date` allow; both may be ticks.
    /// `None` where there is none, or where time does not decide it (`@once`, `@continuous`).
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let tick = match self.start {
            Some(start) if after < start => self.ticks.from(start),
            _ => self.ticks.next(after),
        };
        tick.filter(|&tick| self.end.is_none_or(|end| tick <= end))
    }

    /// The last tick at or before this moment that `start_date` and `end_date` allow.
    pub fn last(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let at = self.end.map_or(at, |end| end.min(at));
        self.ticks.last(at).filter(|&tick| self.start.is_none_or(|start| start <= tick))
    }

    /// What the run of a tick stands for: from the tick before it, included, to its own, excluded.
    ///
    /// For the first tick as if the schedule had always been. Empty where there are no ticks, such as for
    /// `@once`; the interval of a run of `@continuous` is in its [`Tick`].
    pub fn data_interval(&self, tick: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
        let before = tick.checked_sub_signed(TimeDelta::nanoseconds(1));
        (before.and_then(|before| self.ticks.last(before)).unwrap_or(tick), tick)
    }

    /// The ticks of a span, both ends included, that `start_date` and `end_date` allow: those of a backfill.
    pub fn between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        let from = self.start.map_or(from, |start| start.max(from));
        let to = self.end.map_or(to, |end| end.min(to));
        std::iter::successors(self.ticks.from(from), |&tick| self.ticks.step(tick))
            .take_while(move |&tick| tick <= to)
    }
}

impl Ticks {
    fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Clock(clock) => clock.next(after),
            Self::Every { .. } => self.step(self.last(after)?),
            Self::Once | Self::Continuous | Self::Never => None,
        }
    }

    /// The first tick at or after this moment.
    fn from(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.next(moment.checked_sub_signed(TimeDelta::nanoseconds(1))?)
    }

    /// The tick that follows a tick.
    fn step(&self, tick: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Clock(clock) => clock.step(tick),
            Self::Every { step, .. } => tick.checked_add_signed(TimeDelta::microseconds(*step)),
            Self::Once | Self::Continuous | Self::Never => None,
        }
    }

    /// The last tick at or before this moment.
    fn last(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Clock(clock) => clock.last(at),
            Self::Every { anchor, step } => {
                let since = at.timestamp_micros().checked_sub(anchor.timestamp_micros())?;
                let steps = since.div_euclid(*step).checked_mul(*step)?;
                anchor.checked_add_signed(TimeDelta::microseconds(steps))
            }
            Self::Once | Self::Continuous | Self::Never => None,
        }
    }
}
