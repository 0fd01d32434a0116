//! What is due, asked by an engine that is stopped, changed, and whose clock is wrong.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use proptest::prelude::*;

use super::*;

/// An engine as small as it can be: what it keeps, and the runs it has made.
#[derive(Default)]
struct Engine {
    known: Known,
    made: Vec<Tick>,
    dates: BTreeSet<DateTime<Utc>>,
}

impl Engine {
    /// Asks until nothing is due, as an engine does; gives what was made.
    fn look(&mut self, timetable: &Timetable, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let before = self.made.len();
        loop {
            let passed = self.known.ticked.map_or(Unbounded, Excluded);
            self.known.made = self.dates.range((passed, Unbounded)).copied().collect();
            let due = timetable.due(&self.known, now);
            if due.ticked.is_some() {
                self.known.ticked = due.ticked;
                self.known.schedule_since = None;
            }
            let Some(run) = due.run else { break };
            self.made.push(run);
            self.dates.insert(run.logical_date);
            self.known.ran = true;
        }
        self.made[before..].iter().map(|run| run.logical_date).collect()
    }
}

fn timetable(dag: Dag) -> Timetable {
    Timetable::of(&dag).unwrap()
}

fn daily(catchup: bool, start: Option<&str>) -> Timetable {
    let start_date = start.map(|start| at(start).timestamp());
    timetable(Dag { start_date, catchup, ..dag(cron("0 0 * * *")) })
}

fn day(day: u32) -> DateTime<Utc> {
    at(&format!("2026-03-{day:02}T00:00:00Z"))
}

const HOUR: TimeDelta = TimeDelta::hours(1);
const NONE: [DateTime<Utc>; 0] = [];

#[test]
fn catchup_makes_every_tick_since_the_start_and_what_was_missed() {
    let (mut engine, daily) = (Engine::default(), daily(true, Some("2026-03-02T00:00:00Z")));
    assert_eq!(engine.look(&daily, day(1)), NONE);
    assert_eq!(engine.look(&daily, day(4) + HOUR), [day(2), day(3), day(4)]);
    assert_eq!(engine.look(&daily, day(4) + HOUR * 2), NONE);
    assert_eq!(engine.look(&daily, day(6)), [day(5), day(6)]);
    assert_eq!(engine.look(&daily, day(3)), NONE, "the clock is put back, and all are made");
    assert_eq!(engine.look(&daily, day(7)), [day(7)]);
    assert!(
        engine.made.iter().all(|run| run.data_interval == (run.logical_date - HOUR * 24, run.logical_date))
    );
}

#[test]
fn without_catchup_only_the_latest_of_what_was_missed_is_made() {
    let (mut engine, daily) = (Engine::default(), daily(false, Some("2026-03-02T00:00:00Z")));
    assert_eq!(engine.look(&daily, day(4) + HOUR), [day(4)], "the latest since the start, at once");
    assert_eq!(engine.look(&daily, day(4) + HOUR * 2), NONE);
    assert_eq!(engine.look(&daily, day(9) + HOUR), [day(9)]);
}

#[test]
fn what_has_no_start_begins_where_it_is_first_seen() {
    let (mut engine, daily) = (Engine::default(), daily(false, None));
    assert_eq!(engine.look(&daily, day(4) + HOUR), NONE);
    assert_eq!(engine.look(&daily, day(5) + HOUR), [day(5)]);
    assert_eq!(Engine::default().look(&daily, day(4)), [day(4)], "now is not before now");
}

#[test]
fn a_clock_put_back_repeats_nothing_and_loses_nothing() {
    let (mut engine, daily) = (Engine::default(), daily(false, None));
    engine.look(&daily, day(4) + HOUR);
    assert_eq!(engine.look(&daily, day(20)), [day(20)], "a clock that is wrong by two weeks");
    assert_eq!(engine.look(&daily, day(4) + HOUR * 2), NONE);
    assert_eq!(engine.look(&daily, day(5)), [day(5)]);
    assert_eq!(engine.look(&daily, day(5) - TimeDelta::seconds(1)), NONE);
    assert_eq!(engine.look(&daily, day(5)), NONE);
    assert_eq!(engine.look(&daily, day(20) + HOUR), NONE, "that one is made");
    assert_eq!(engine.look(&daily, day(21)), [day(21)]);
}

#[test]
fn a_changed_schedule_invents_nothing() {
    let hourly =
        |catchup| timetable(Dag { start_date: Some(day(1).timestamp()), catchup, ..dag(cron("0 * * * *")) });
    for (catchup, at_once) in [(false, vec![]), (true, vec![day(4) + HOUR, day(4) + HOUR * 2])] {
        let mut engine = Engine::default();
        engine.look(&daily(catchup, Some("2026-03-01T00:00:00Z")), day(4) + TimeDelta::minutes(30));
        let changed = day(4) + TimeDelta::minutes(150);
        engine.known.schedule_since = Some(changed);
        assert_eq!(engine.look(&hourly(catchup), changed), at_once);
        assert_eq!(engine.look(&hourly(catchup), day(4) + HOUR * 3), [day(4) + HOUR * 3]);
    }
}

#[test]
fn once_is_once() {
    let once = dag(Schedule::Once);
    let mut engine = Engine::default();
    assert_eq!(engine.look(&timetable(Dag { ..once }), day(4)), [day(4)]);
    assert_eq!(engine.look(&timetable(Dag { ..once }), day(5)), NONE);
    let start_date = Some(day(3).timestamp());
    let started = timetable(Dag { start_date, ..once });
    assert_eq!(started.due(&Known::default(), day(2)).look, Some(day(3)));
    assert_eq!(Engine::default().look(&started, day(9)), [day(3)]);
    let over = timetable(Dag { end_date: Some(day(2).timestamp()), ..once });
    assert_eq!(Engine::default().look(&over, day(4)), NONE);
}

#[test]
fn continuous_goes_on_when_the_last_run_has_ended() {
    let (start_date, end_date) = (Some(day(3).timestamp()), Some(day(8).timestamp()));
    let always = timetable(Dag { start_date, end_date, ..dag(Schedule::Continuous) });
    let mut known = Known::default();
    assert_eq!(always.due(&known, day(2)), Due { run: None, ticked: None, look: Some(day(3)) });
    for (now, from) in [(day(4), day(3)), (day(6), day(4)), (day(5), day(5)), (day(8), day(5))] {
        let due = always.due(&known, now);
        assert_eq!(due.run, Some(Tick { logical_date: now, data_interval: (from, now) }));
        known = Known { ticked: due.ticked, active: true, ..known };
        assert_eq!(always.due(&known, now + HOUR).run, None, "never two at once");
        known.active = false;
    }
    let again = always.due(&known, day(8)).run;
    assert_eq!(
        again.map(|run| run.logical_date),
        Some(day(8) + TimeDelta::microseconds(1)),
        "two runs, two dates"
    );
    assert_eq!(always.due(&known, day(8) + HOUR).run, None);
}

const CRONS: [&str; 8] = [
    "*/20 * * * *",
    "0 * * * *",
    "30 2 * * *",
    "0,30 1-3 * * *",
    "0 * * * 1-5",
    "20,40 2 * * *",
    "15 */2 * * 0",
    "0 0 1 * *",
];
const ZONES: [&str; 5] = ["UTC", "Europe/Paris", "Australia/Lord_Howe", "America/Sao_Paulo", "Pacific/Apia"];

/// What happens between two looks of an engine.
#[derive(Debug, Clone)]
enum Happens {
    /// Time passes, in minutes; much of it is a stop.
    Passes(i64),
    /// The clock is put back, or forward.
    Jumps(i64),
    /// The schedule becomes another one.
    Changes(usize),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => (1..90i64).prop_map(Happens::Passes),
        2 => (90..9_000i64).prop_map(Happens::Passes),
        1 => (-9_000..9_000i64).prop_map(Happens::Jumps),
        1 => (0..CRONS.len()).prop_map(Happens::Changes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ticks_follow_each_other(zone in 0..ZONES.len(), expression in 0..CRONS.len(), moment in 1_280_000_000..1_740_000_000i64) {
        let timetable = timetable(Dag { timezone: ZONES[zone], ..dag(cron(CRONS[expression])) });
        let moment = seconds(moment);
        let (last, next) = (timetable.last(moment).unwrap(), timetable.next(moment).unwrap());
        prop_assert!(last <= moment && moment < next);
        prop_assert_eq!(timetable.next(last), Some(next));
        prop_assert_eq!(timetable.data_interval(next), (last, next));
        let ticks: Vec<_> = timetable.between(last, next + TimeDelta::days(3)).collect();
        prop_assert!(ticks.is_sorted_by(|one, other| one < other));
        prop_assert_eq!(&ticks[..2], &[last, next]);
        for pair in ticks.windows(2) {
            prop_assert_eq!(timetable.next(pair[0]), Some(pair[1]));
            prop_assert_eq!(timetable.last(pair[1] - TimeDelta::nanoseconds(1)), Some(pair[0]));
        }
    }

    #[test]
    fn no_tick_is_made_twice_or_invented(
        zone in 0..ZONES.len(),
        first in 0..CRONS.len(),
        story in proptest::collection::vec(happens(), 1..40),
        catchup: bool,
        started: bool,
    ) {
        let mut now = at("2024-03-25T00:10:00Z");
        let start_date = (catchup || started).then(|| now.timestamp() - 86_400);
        let of = |index: usize| timetable(Dag { timezone: ZONES[zone], start_date, catchup, ..dag(cron(CRONS[index])) });
        let (mut engine, mut timetable) = (Engine::default(), of(first));
        let (mut seen, mut all) = (None, BTreeSet::new());
        for event in story {
            // Where the clock shows less than before, what it passed over may come.
            let mut back = false;
            match event {
                Happens::Passes(minutes) => now += TimeDelta::minutes(minutes),
                Happens::Jumps(minutes) => {
                    now += TimeDelta::minutes(minutes);
                    back = minutes < 0 && seen.is_some();
                }
                Happens::Changes(index) => {
                    timetable = of(index);
                    engine.known.schedule_since = Some(now);
                    if !catchup {
                        seen = Some(now);
                    }
                }
            }
            let made = engine.look(&timetable, now);
            for tick in &made {
                prop_assert!(*tick <= now, "before its time");
                prop_assert_eq!(timetable.last(*tick), Some(*tick), "no tick of the schedule");
                prop_assert!(all.insert(*tick), "made twice");
            }
            if back {
                prop_assert_eq!(made.len(), 0, "what the clock repeats is accounted for");
            } else if !catchup {
                let expected = timetable.last(now).filter(|last| match seen {
                    Some(seen) => seen < *last,
                    None => started || *last == now,
                });
                let expected: Vec<_> = expected.filter(|tick| made.contains(tick) || !all.contains(tick)).into_iter().collect();
                prop_assert_eq!(&made, &expected, "the latest, and only that");
            }
            seen = Some(now);
        }
        if catchup {
            prop_assert!(engine.made.is_sorted_by_key(|run| run.logical_date));
        }
    }
}
