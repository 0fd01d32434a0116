mod abuse;
mod airflow;
mod plain;
mod scheduler;

use std::collections::HashSet;
use std::time::Duration;

use super::*;

fn dag(schedule: Schedule) -> Dag {
    Dag { dag_id: "d", schedule: Some(schedule), ..Dag::EMPTY }
}

fn cron(expression: &str) -> Schedule {
    Schedule::Cron(String::leak(expression.to_owned()))
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn seconds(moment: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(moment, 0).unwrap()
}

fn next(dag: &Dag, after: &str) -> Option<DateTime<Utc>> {
    Timetable::of(dag).unwrap().next(at(after))
}

#[test]
fn the_macro_reads_cron_by_the_same_file() {
    let read = |path: &str| std::fs::read(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert!(read("src/schedule/cron.rs") == read("../coworks-biz-macros/src/parse/cron.rs"));
}

#[test]
fn a_cron_tick_is_read_in_the_zone_of_the_dag() {
    let paris = Dag { timezone: "Europe/Paris", ..dag(cron("0 6 * * *")) };
    assert_eq!(next(&paris, "2026-07-01T03:00:00Z"), Some(at("2026-07-01T04:00:00Z")));
}

#[test]
fn a_local_time_that_is_skipped_is_later_and_of_two_the_second_counts() {
    let paris = Dag { timezone: "Europe/Paris", ..dag(cron("30 2 * * *")) };
    assert_eq!(next(&paris, "2024-03-31T00:00:00Z"), Some(at("2024-03-31T03:30:00+02:00")));
    assert_eq!(next(&paris, "2024-10-26T12:00:00Z"), Some(at("2024-10-27T02:30:00+01:00")));
    let hourly = Dag { timezone: "Europe/Paris", ..dag(cron("0 * * * *")) };
    let timetable = Timetable::of(&hourly).unwrap();
    for day in ["2024-03-31", "2024-10-27"] {
        let from = at(&format!("{day}T00:00:00Z"));
        let hours: Vec<_> = (0..=6).map(|hour| from + TimeDelta::hours(hour)).collect();
        assert_eq!(timetable.between(from, from + TimeDelta::hours(6)).collect::<Vec<_>>(), hours);
    }
}

#[test]
fn start_and_end_may_be_ticks_and_bound_them() {
    let [before, start, end] =
        ["2026-01-01T00:00:00Z", "2030-01-01T00:00:00Z", "2030-01-03T00:00:00Z"].map(at);
    let (start_date, end_date) = (Some(start.timestamp()), Some(end.timestamp()));
    let timetable = Timetable::of(&Dag { start_date, end_date, ..dag(cron("0 0 * * *")) }).unwrap();
    let day = TimeDelta::days(1);
    assert_eq!(timetable.next(before), Some(start));
    assert_eq!(timetable.next(start), Some(start + day));
    assert_eq!(timetable.next(end), None);
    assert_eq!(timetable.last(before), None);
    assert_eq!(timetable.last(start), Some(start));
    assert_eq!(timetable.last(end + day * 9), Some(end));
    assert_eq!(timetable.between(before, end + day).collect::<Vec<_>>(), [start, start + day, end]);
    assert_eq!(timetable.data_interval(start), (start - day, start));
}

#[test]
fn an_interval_counts_from_its_anchor() {
    let quarter = Schedule::Every(Duration::from_secs(900));
    assert_eq!(next(&dag(quarter), "2026-01-01T00:01:00Z"), Some(at("2026-01-01T00:15:00Z")));
    let start = at("2026-01-01T00:02:00Z").timestamp();
    let anchored = Dag { start_date: Some(start), ..dag(quarter) };
    assert_eq!(next(&anchored, "2026-01-01T00:02:00Z"), Some(at("2026-01-01T00:17:00Z")));
    assert_eq!(next(&anchored, "2025-01-01T00:00:00Z"), Some(at("2026-01-01T00:02:00Z")));
    let timetable = Timetable::of(&anchored).unwrap();
    let first = at("2026-01-01T00:02:00Z");
    assert_eq!(timetable.data_interval(first), (at("2025-12-31T23:47:00Z"), first));
}

#[test]
fn what_cannot_be_read_says_why() {
    assert_eq!(next(&dag(cron("0 0 30 2 *")), "2026-01-01T00:00:00Z"), None, "a date that never comes");
    for (dag, part) in [
        (Dag { timezone: "Europe/Pari", ..dag(cron("0 0 * * *")) }, "there is no time zone `Europe/Pari`"),
        (dag(cron("0 24 * * *")), "`24` is no hour: they go from 0 to 23; one has 5 fields"),
        (dag(Schedule::Every(Duration::ZERO)), "the interval is zero"),
        (Dag { start_date: Some(i64::MAX), ..dag(cron("0 0 * * *")) }, "too far away"),
    ] {
        let message = Timetable::of(&dag).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    // What croner would take, and Airflow does not, or otherwise.
    for expression in [
        "jan * * * *",
        "* * LW * *",
        "* * 15W,3 * *",
        "* * 30W * *",
        "* * * * +1",
        "* * * * 1-5#2",
        "* * * * *#2",
        "* * * * 1#6",
        "* * * * 5L",
        "* * ?/2 * *",
        "?/2 * * * *",
        "*,1 * * * *",
        "1,,2 * * * *",
        "*/0 * * * *",
        "/5 * * * *",
        "* * * * monday",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "+5 * * * *",
        "5-5 * * * *",
        "* * * * * * *",
        "* * L-3 * *",
        "* * * * fri#L",
        "1-2-3 * * * *",
        "1/2/3 * * * *",
        "-5 * * * *",
    ] {
        let read = Timetable::of(&dag(cron(expression)));
        assert!(read.is_err(), "{expression} was read as {read:?}");
    }
}

#[test]
fn what_decides_the_ticks_is_its_text() {
    let text = |dag: &Dag| Timetable::of(dag).unwrap().text().to_owned();
    let paris = Dag { timezone: "Europe/Paris", ..dag(cron("0 6 * * *")) };
    assert_eq!(text(&paris), "0 6 * * * Europe/Paris");
    let quarter = dag(Schedule::Every(Duration::from_secs(900)));
    assert_ne!(text(&quarter), text(&Dag { start_date: Some(60), ..quarter }), "it counts from there");
}
