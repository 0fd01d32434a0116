//! Any text for an expression, any zone, any moment: `zone;expression;seconds`, or `every;microseconds;seconds`.

use super::*;
use crate::abuse::Abuse;

/// What holds of ticks from any moment on.
fn hold(ticks: &Ticks, at: DateTime<Utc>) -> &'static str {
    let (last, next) = (ticks.last(at), ticks.next(at));
    assert!(last.is_none_or(|last| last <= at), "the last is {last:?}");
    let Some(next) = next else { return "no next" };
    assert!(next > at, "the next is {next}");
    // Of the chain of ticks, this is the one that has just been passed.
    if let Some(last) = last {
        assert_eq!(ticks.step(last), Some(next));
        assert_eq!(ticks.last(last), Some(last));
        let middle = last + (next - last) / 2;
        assert_eq!((ticks.last(middle), ticks.next(middle)), (Some(last), Some(next)), "at {middle}");
    }
    assert_eq!(ticks.last(next), Some(next));
    let mut chain = vec![next];
    chain.extend(std::iter::successors(ticks.step(next), |&tick| ticks.step(tick)).take(3));
    assert!(chain.windows(2).all(|pair| pair[0] < pair[1]), "{chain:?}");
    for pair in chain.windows(2) {
        assert_eq!(ticks.next(pair[0]), Some(pair[1]));
        assert_eq!(ticks.last(pair[1] - TimeDelta::nanoseconds(1)), Some(pair[0]));
    }
    "ticks"
}

fn timetable(ticks: Ticks, start: Option<DateTime<Utc>>, catchup: bool) -> Timetable {
    Timetable { ticks, start, end: None, catchup, text: String::new() }
}

/// What is due goes forward, and is never in the future.
fn is_due(timetable: &Timetable, ticked: DateTime<Utc>, now: DateTime<Utc>) {
    let mut known = Known { ticked: Some(ticked), ..Known::default() };
    for _ in 0..3 {
        let due = timetable.due(&known, now);
        let Some(run) = due.run else { break };
        let (from, to) = run.data_interval;
        assert!(run.logical_date <= now && from <= to && to <= run.logical_date, "{run:?}");
        assert!(known.ticked.is_none_or(|ticked| ticked < run.logical_date), "{run:?} after {known:?}");
        assert_eq!(due.ticked, Some(run.logical_date));
        known.ticked = due.ticked;
    }
}

fn holds(case: &[u8]) -> String {
    let text = String::from_utf8_lossy(case);
    let mut parts = text.splitn(3, ';');
    let [zone, expression, moment] = [(); 3].map(|()| parts.next().unwrap_or(""));
    let micros = moment.trim().parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1_000_000));
    let at = micros.or_else(|| moment.trim().parse().ok()).and_then(DateTime::from_timestamp_micros);
    let at = at.unwrap_or_default();
    let (ticks, again) = if zone == "every" {
        let Ok(step @ 1..) = expression.parse::<i64>() else { return "no interval".to_owned() };
        let every = || Ticks::Every { anchor: at, step };
        (every(), every())
    } else {
        let zone = zone.parse().unwrap_or(chrono_tz::UTC);
        let clock = match Clock::new(expression, zone) {
            Ok(clock) => clock,
            Err(error) => {
                // It says what it does not understand, or how many fields there are.
                let lower = expression.to_ascii_lowercase();
                let named = error.split('`').skip(1).step_by(2).any(|named| lower.contains(named));
                assert!(named || error.ends_with("fields are given"), "{error}");
                return error.split('`').step_by(2).collect();
            }
        };
        // Written otherwise, it is the same.
        let fields: Vec<_> = expression.split_ascii_whitespace().collect();
        let again = Clock::new(&format!("\t{} ", fields.join("  ").to_ascii_uppercase()), zone).unwrap();
        assert_eq!(again.next(at), clock.next(at));
        (Ticks::Clock(Box::new(clock)), Ticks::Clock(Box::new(again)))
    };
    let told = hold(&ticks, at);
    let start = at.checked_sub_signed(TimeDelta::days(40));
    let ticked = at.checked_sub_signed(TimeDelta::days(2)).unwrap_or(at);
    is_due(&timetable(ticks, start, true), ticked, at);
    is_due(&timetable(again, None, false), ticked, at);
    let fields = expression.bytes().filter(|byte| b"-/,#?lLwW".contains(byte)).collect::<HashSet<_>>();
    format!("{told} {} {fields:?}", expression.len() / 8)
}

#[test]
fn ticks_go_forward_whatever_is_written_and_whenever_it_is_asked() {
    let words = [
        "*",
        "*/",
        "-",
        ",",
        "#",
        "L",
        "W",
        "15W",
        "1#2",
        "L5",
        "fri",
        "jan",
        "?",
        "22-4",
        "/7",
        "60",
        " ",
        ";",
        "0",
        "every;",
        "Europe/Paris;",
        "America/New_York;",
        "Australia/Lord_Howe;",
        "Pacific/Apia;",
        "Africa/Monrovia;",
        "1711846800",
        "-62135596800",
        "8210266876799",
        "-8334601228800",
        "253402300800",
    ];
    Abuse { target: "schedule", words: &words, cases: 1500 }.of(holds);
}
