//! Moments as they are written on the command line.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};

use crate::dag::Dag;

/// A moment, or a time of day that is one in the time zone of a biz.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Exact(DateTime<Utc>),
    Local(NaiveDateTime),
}

impl Moment {
    /// The moment for this DAG; of a local time that is twice the first, and of one that is skipped
    /// the first after it.
    pub(super) fn of(self, dag: &Dag) -> DateTime<Utc> {
        let local = match self {
            Self::Exact(at) => return at,
            Self::Local(local) => local,
        };
        let zone = dag.timezone.parse().unwrap_or(chrono_tz::UTC);
        let mut at = local;
        // No change of clocks skips more than a day.
        for _ in 0..96 {
            if let Some(found) = zone.from_local_datetime(&at).earliest() {
                return found.to_utc();
            }
            at += chrono::TimeDelta::minutes(15);
        }
        local.and_utc()
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(day) = text.parse::<NaiveDate>() {
            return Ok(Self::Local(day.and_time(NaiveTime::MIN)));
        }
        if let Ok(local) = text.parse::<NaiveDateTime>() {
            return Ok(Self::Local(local));
        }
        text.parse().map(Self::Exact).map_err(|_| {
            "it is written like 2026-01-31 or 2026-01-31T06:00:00, in the time zone of the biz, or \
             2026-01-31T06:00:00Z"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, timezone: &'static str) -> String {
        text.parse::<Moment>().unwrap().of(&Dag { timezone, ..Dag::EMPTY }).to_string()
    }

    #[test]
    fn a_day_is_one_of_the_biz() {
        assert_eq!(of("2026-01-31", "Europe/Paris"), "2026-01-30 23:00:00 UTC");
        assert_eq!(of("2026-01-31T06:00:00", "UTC"), "2026-01-31 06:00:00 UTC");
        assert_eq!(of("2026-01-31T06:00:00+02:00", "Europe/Paris"), "2026-01-31 04:00:00 UTC");
        assert_eq!(of("2026-03-29T02:30:00", "Europe/Paris"), "2026-03-29 01:00:00 UTC");
        assert_eq!(of("2026-10-25T02:30:00", "Europe/Paris"), "2026-10-25 00:30:00 UTC");
        assert!("tomorrow".parse::<Moment>().unwrap_err().starts_with("it is written like 2026-01-31"));
    }
}
