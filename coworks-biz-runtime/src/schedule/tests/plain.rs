//! Against a reading of the fields that knows nothing of searching: each minute of some years is looked at.

use chrono::{Datelike, Timelike};
use proptest::prelude::*;

use super::*;

/// A field as a test writes it, and what it stands for.
#[derive(Debug, Clone)]
struct Field {
    text: String,
    values: Vec<u32>,
    any: bool,
}

fn field(first: u32, last: u32) -> impl Strategy<Value = Field> {
    let any = Just(Field { text: "*".into(), values: (first..=last).collect(), any: true });
    let list = proptest::collection::vec(first..=last, 1..4).prop_map(|values| {
        let text: Vec<_> = values.iter().map(u32::to_string).collect();
        Field { text: text.join(","), values, any: false }
    });
    let range = (first..=last, first..=last).prop_filter("a range", |(from, to)| from != to).prop_map(
        move |(from, to)| {
            let inside = |value: &u32| {
                if from < to { (from..=to).contains(value) } else { *value >= from || *value <= to }
            };
            Field {
                text: format!("{from}-{to}"),
                values: (first..=last).filter(inside).collect(),
                any: false,
            }
        },
    );
    let steps = (first..=last, 1..=last).prop_map(move |(from, step)| {
        let on = |value: &u32| *value >= from && (value - from).is_multiple_of(step);
        Field { text: format!("{from}/{step}"), values: (first..=last).filter(on).collect(), any: false }
    });
    prop_oneof![any, list, range, steps]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ticks_of_two_years_are_the_minutes_that_fit(
        minute in field(0, 59), hour in field(0, 23), day in field(1, 31), month in field(1, 12), weekday in field(0, 6),
    ) {
        let fields = [&minute, &hour, &day, &month, &weekday].map(|field| field.text.as_str());
        let timetable = Timetable::of(&dag(cron(&fields.join(" ")))).unwrap();
        let (from, to) = (at("2023-11-01T00:00:00Z"), at("2025-11-01T00:00:00Z"));
        let days = (0..).map(|days| from + TimeDelta::days(days)).take_while(|day| *day < to);
        let fits = days.filter(|at| {
            let by_day = day.values.contains(&at.day());
            let by_weekday = weekday.values.contains(&at.weekday().num_days_from_sunday());
            // Both are asked only where one leaves it open.
            let either = if day.any || weekday.any { by_day && by_weekday } else { by_day || by_weekday };
            either && month.values.contains(&at.month())
        });
        let minutes = fits.flat_map(|day| (0..1440).map(move |minute| day + TimeDelta::minutes(minute)));
        let expected = minutes.filter(|at| minute.values.contains(&at.minute()) && hour.values.contains(&at.hour()));
        prop_assert!(timetable.between(from, to - TimeDelta::seconds(1)).eq(expected));
    }
}
