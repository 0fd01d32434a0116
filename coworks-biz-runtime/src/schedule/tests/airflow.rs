//! Against Airflow's own answers, which `tests/oracle/schedules.py` has asked for.

use super::*;

/// The lines of one kind, with the DAG and the timetable of the zone and the expression they stand under.
fn told(wanted: &str, mut each: impl FnMut(&[&str], &Dag, &Timetable)) -> usize {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/oracle/schedules.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let (mut timezone, mut under, mut count) = ("", None, 0);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (kind, rest) = line.split_once(' ').unwrap();
        match kind {
            "zone" => timezone = rest.to_owned().leak(),
            "cron" => {
                let dag = Dag { timezone, ..dag(cron(rest)) };
                let timetable = Timetable::of(&dag).unwrap();
                under = Some((dag, timetable));
            }
            kind if kind == wanted => {
                let (dag, timetable) = under.as_ref().unwrap();
                each(&rest.split(' ').collect::<Vec<_>>(), dag, timetable);
                count += 1;
            }
            _ => {}
        }
    }
    count
}

fn number(written: &str) -> Option<i64> {
    written.parse().ok()
}

fn moment(written: &str) -> DateTime<Utc> {
    seconds(written.parse().unwrap())
}

#[test]
fn chains_of_ticks_are_airflows() {
    let (mut ticks, mut odd) = (0, 0);
    let lines = told("chain", |words, dag, timetable| {
        let mut before = moment(words[0]);
        for word in &words[1..] {
            let (step, times) = word.split_once('x').unwrap_or((word, "1"));
            let back = step.strip_prefix('<');
            for _ in 0..times.parse().unwrap() {
                let tick = before + TimeDelta::seconds(back.unwrap_or(step).parse().unwrap());
                let place = || format!("{:?} in {} after {before}", dag.schedule, dag.timezone);
                assert_eq!(timetable.next(before), Some(tick), "{}", place());
                assert_eq!(timetable.last(tick), Some(tick), "{}", place());
                assert_eq!(timetable.data_interval(tick), (before, tick), "{}", place());
                ticks += 1;
                odd += usize::from(back.is_some());
                before = tick;
            }
        }
    });
    assert!(lines > 3000 && ticks > 50_000, "{lines} lines, {ticks} ticks");
    assert!(odd * 100 < ticks, "Airflow's way back is its way forward but for {odd} of {ticks} ticks");
}

#[test]
fn moments_of_any_kind_are_between_airflows_ticks() {
    let lines = told("ask", |words, dag, timetable| {
        let [asked, last, next] = [words[0], words[1], words[2]].map(|word| number(word).unwrap());
        let place = || format!("{:?} in {} at {}", dag.schedule, dag.timezone, seconds(asked));
        assert_eq!(timetable.last(seconds(asked)), Some(seconds(asked + last)), "{}", place());
        assert_eq!(timetable.next(seconds(asked)), Some(seconds(asked + next)), "{}", place());
    });
    assert!(lines > 3000, "{lines} lines");
}

#[test]
fn what_is_due_is_what_airflow_would_run() {
    let (mut now_due, mut later) = (0, 0);
    told("info", |words, dag, _| {
        let (now, catchup) = (moment(words[0]), words[1] == "1");
        let dag = Dag { start_date: number(words[2]), end_date: number(words[3]), catchup, ..*dag };
        let known = Known { ticked: number(words[4]).map(seconds), ..Known::default() };
        let due = Timetable::of(&dag).unwrap().due(&known, now);
        let run = due.run.map(|run| run.logical_date);
        match run {
            Some(_) => now_due += 1,
            None => later += 1,
        }
        let ours = run.or(due.look);
        assert_eq!(ours, number(words[5]).map(seconds), "{:?} {}: {words:?}", dag.schedule, dag.timezone);
    });
    assert!(now_due > 300 && later > 300, "{now_due} due, {later} later");
}
