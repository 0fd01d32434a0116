//! When: the ticks of a schedule. Pure: time comes in as an argument.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::Cron;

use crate::dag::{Dag, Schedule};

/// A schedule that cannot be read. The macro refuses it at compile time, so
/// that only a hand-written [`Dag`] can meet this.
#[derive(Debug, thiserror::Error)]
#[error("the schedule of `{dag_id}` cannot be read: {reason}")]
pub struct BadSchedule {
    dag_id: &'static str,
    reason: String,
}

/// The first tick of `dag` after `after` that its `start_date` and `end_date`
/// allow; `None` where there is none, or where time does not decide it.
pub fn next_tick(dag: &Dag, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, BadSchedule> {
    let bad = |reason: String| BadSchedule { dag_id: dag.dag_id, reason };
    let start = dag.start_date.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    // The start itself may be a tick, and a search looks strictly after its argument.
    let after = match start {
        Some(start) if after < start => start - TimeDelta::microseconds(1),
        _ => after,
    };
    let tick = match dag.schedule {
        None | Some(Schedule::Once | Schedule::Continuous) => return Ok(None),
        Some(Schedule::Cron(expression)) => {
            let zone: Tz =
                dag.timezone.parse().map_err(|_| bad(format!("no time zone `{}`", dag.timezone)))?;
            let cron: Cron = expression.parse().map_err(|e| bad(format!("{e}")))?;
            match cron.find_next_occurrence(&after.with_timezone(&zone), false) {
                Ok(tick) => tick.with_timezone(&Utc),
                // A date that never comes, such as the 30th of February.
                Err(croner::errors::CronError::TimeSearchLimitExceeded) => return Ok(None),
                Err(e) => return Err(bad(format!("{e}"))),
            }
        }
        Some(Schedule::Every(interval)) => {
            let anchor = start.unwrap_or(DateTime::UNIX_EPOCH);
            let step = i64::try_from(interval.as_micros())
                .ok()
                .filter(|&step| step > 0)
                .ok_or_else(|| bad("the interval is zero, or too long".into()))?;
            let since = (after - anchor).num_microseconds().ok_or_else(|| bad("too far away".into()))?;
            let next = (since.div_euclid(step) + 1).checked_mul(step);
            let Some(tick) = next.and_then(|n| anchor.checked_add_signed(TimeDelta::microseconds(n))) else {
                return Ok(None);
            };
            tick
        }
    };
    let end = dag.end_date.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    Ok(Some(tick).filter(|&tick| end.is_none_or(|end| tick <= end)))
}

/// The ticks of a DAG.
#[derive(Debug)]
pub struct Timetable(&'static Dag);
/// Known.
pub struct Known {
    pub ticked: Option<DateTime<Utc>>,
    pub since: DateTime<Utc>,
    pub first: bool,
    pub has_ticked: bool,
    pub busy: bool,
    pub last_end: Option<DateTime<Utc>>,
}
/// Due.
pub struct Due {
    pub tick: Option<DateTime<Utc>>,
    pub look: Option<DateTime<Utc>>,
    pub data_interval: Option<(DateTime<Utc>, DateTime<Utc>)>,
}
impl Timetable {
    pub fn of(dag: &'static Dag) -> Result<Self, BadSchedule> {
        next_tick(dag, Utc::now())?;
        Ok(Self(dag))
    }
    pub fn due(&self, known: &Known, now: DateTime<Utc>) -> Due {
        let next = next_tick(self.0, known.ticked.unwrap_or(known.since)).unwrap();
        Due { tick: next.filter(|n| *n <= now), look: next, data_interval: None }
    }
    pub fn data_interval(&self, tick: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
        (tick, tick)
    }
    pub fn between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        let dag = self.0;
        std::iter::successors(next_tick(dag, from - TimeDelta::microseconds(1)).unwrap(), move |t| {
            next_tick(dag, *t).unwrap()
        })
        .take_while(move |t| *t <= to)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn dag(schedule: Schedule) -> Dag {
        Dag { dag_id: "d", schedule: Some(schedule), ..Dag::EMPTY }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_cron_tick_is_read_in_the_zone_of_the_dag() {
        let paris = Dag { timezone: "Europe/Paris", ..dag(Schedule::Cron("0 6 * * *")) };
        let tick = next_tick(&paris, at("2026-07-01T03:00:00Z")).unwrap();
        assert_eq!(tick, Some(at("2026-07-01T04:00:00Z")));
    }

    #[test]
    fn a_start_that_is_a_tick_is_the_first_one() {
        let start = at("2030-01-01T00:00:00Z");
        let daily = Dag { start_date: Some(start.timestamp()), ..dag(Schedule::Cron("0 0 * * *")) };
        assert_eq!(next_tick(&daily, at("2026-01-01T00:00:00Z")).unwrap(), Some(start));
        assert_eq!(next_tick(&daily, start).unwrap(), Some(at("2030-01-02T00:00:00Z")));
    }

    #[test]
    fn no_tick_after_the_end() {
        let end = at("2026-01-02T00:00:00Z").timestamp();
        let daily = Dag { end_date: Some(end), ..dag(Schedule::Cron("0 0 * * *")) };
        assert!(next_tick(&daily, at("2026-01-01T12:00:00Z")).unwrap().is_some());
        assert_eq!(next_tick(&daily, at("2026-01-02T00:00:00Z")).unwrap(), None);
    }

    #[test]
    fn an_interval_counts_from_its_anchor() {
        let quarter = Schedule::Every(Duration::from_secs(900));
        let tick = next_tick(&dag(quarter), at("2026-01-01T00:01:00Z")).unwrap();
        assert_eq!(tick, Some(at("2026-01-01T00:15:00Z")));
        let start = at("2026-01-01T00:02:00Z").timestamp();
        let anchored = Dag { start_date: Some(start), ..dag(quarter) };
        let tick = next_tick(&anchored, at("2026-01-01T00:02:00Z")).unwrap();
        assert_eq!(tick, Some(at("2026-01-01T00:17:00Z")));
        let first = next_tick(&anchored, at("2025-01-01T00:00:00Z")).unwrap();
        assert_eq!(first, Some(at("2026-01-01T00:02:00Z")));
    }

    #[test]
    fn a_date_that_never_comes_has_no_tick() {
        assert_eq!(next_tick(&dag(Schedule::Cron("0 0 30 2 *")), at("2026-01-01T00:00:00Z")).unwrap(), None);
    }
}
