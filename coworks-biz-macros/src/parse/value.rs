//! The values of options: each reader takes an expression and says how it is written.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};
use chrono_tz::Tz;
use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Expr, ExprLit, ExprPath, ExprUnary, Lit, LitStr, Result, UnOp};

use super::cron;
use crate::errors::{did_you_mean, did_you_mean_or_all};

pub fn string(value: &Expr) -> Result<LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text.clone()),
        _ => Err(Error::new_spanned(value, "this must be a text in quotes")),
    }
}

pub fn boolean(value: &Expr) -> Result<bool> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Bool(flag), .. }) => Ok(flag.value),
        _ => Err(Error::new_spanned(value, "this must be `true` or `false`")),
    }
}

pub fn number(value: &Expr) -> Result<u32> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse(),
        _ => Err(Error::new_spanned(value, "this must be a whole number, such as `3`")),
    }
}

/// A number of things of which there is at least one.
pub fn count(value: &Expr) -> Result<u32> {
    match number(value)? {
        0 => Err(Error::new_spanned(value, "this must be at least `1`: with none, nothing would ever run")),
        count => Ok(count),
    }
}

/// A whole number, which may be below zero.
pub fn integer(value: &Expr) -> Result<i32> {
    let (digits, sign) = match value {
        Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. }) => (&**expr, "-"),
        digits => (digits, ""),
    };
    match digits {
        // With its sign, for there is one more below zero than above.
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) if number.suffix().is_empty() => {
            format!("{sign}{}", number.base10_digits()).parse().map_err(|_| {
                Error::new_spanned(value, format!("this must be between `{}` and `{}`", i32::MIN, i32::MAX))
            })
        }
        _ => Err(Error::new_spanned(value, "this must be a whole number, such as `3` or `-3`")),
    }
}

/// A name of letters, digits, `.`, `_` and `-`, of what `what` says.
pub fn name(value: &Expr, what: &str) -> Result<LitStr> {
    let text = string(value)?;
    let written = text.value();
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match written.is_empty() || !written.chars().all(fits) {
        true => Err(Error::new(text.span(), format!("{what} is made of letters, digits, `.`, `_` and `-`"))),
        false => Ok(text),
    }
}

/// The name of a function that is called once an attempt has ended.
pub fn callback(value: &Expr) -> Result<ExprPath> {
    const HOW: &str = "a callback is the name of a function: `async fn alert(ctx: Context) -> Result<()>`";
    match value {
        Expr::Path(path) => Ok(path.clone()),
        _ => Err(Error::new_spanned(value, HOW)),
    }
}

/// One text, or a list of them.
pub fn strings(value: &Expr) -> Result<Vec<String>> {
    match value {
        Expr::Array(list) => list.elems.iter().map(|item| Ok(string(item)?.value())).collect(),
        one => Ok(vec![string(one)?.value()]),
    }
}

pub fn duration(value: &Expr) -> Result<Duration> {
    const HOW: &str = "a duration is written like \"30s\", \"5m\" or \"1h 30m\"";
    let Ok(text) = string(value) else { return Err(Error::new_spanned(value, HOW)) };
    humantime::parse_duration(&text.value())
        .map_err(|e| Error::new(text.span(), format!("`{}` is no duration: {e}; {HOW}", text.value())))
}

/// A duration in which something can happen.
pub fn limit(value: &Expr) -> Result<Duration> {
    match duration(value)? {
        Duration::ZERO => Err(Error::new_spanned(value, "nothing can be done in no time")),
        limit => Ok(limit),
    }
}

/// One e-mail address, or a list of them.
pub fn addresses(value: &Expr) -> Result<Vec<String>> {
    let addresses = strings(value)?;
    let whole = |address: &str| {
        address.split_once('@').is_some_and(|(who, host)| !who.is_empty() && !host.is_empty())
    };
    match addresses.iter().find(|address| !whole(address)) {
        Some(address) => Err(Error::new_spanned(value, format!("`{address}` is no e-mail address"))),
        None => Ok(addresses),
    }
}

/// A duration as the code that makes it.
pub fn duration_tokens(duration: Duration) -> TokenStream {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    quote!(::core::time::Duration::new(#seconds, #nanos))
}

pub fn timezone(value: &Expr) -> Result<Tz> {
    let text = string(value)?;
    text.value().parse().map_err(|_| {
        let meant = did_you_mean(&text.value(), chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()));
        let how = if meant.is_empty() { "; one is written like \"Europe/Paris\"" } else { "" };
        Error::new(text.span(), format!("there is no time zone `{}`{meant}{how}", text.value()))
    })
}

/// A date, or a date and a time.
pub fn date(value: &Expr) -> Result<(LitStr, NaiveDateTime)> {
    const HOW: &str = "a date is written like \"2023-01-31\" or \"2023-01-31T06:00:00\"";
    let Ok(text) = string(value) else { return Err(Error::new_spanned(value, HOW)) };
    let written = text.value();
    let read = match written.contains('T') {
        true => written.parse::<NaiveDateTime>(),
        false => written.parse::<NaiveDate>().map(|date| date.and_time(NaiveTime::MIN)),
    };
    match read {
        Ok(date) => Ok((text, date)),
        Err(e) => Err(Error::new(text.span(), format!("`{written}` is no date: {e}; {HOW}"))),
    }
}

/// The moment a local time is in its zone, in seconds since the epoch.
pub fn moment((text, date): &(LitStr, NaiveDateTime), zone: Tz) -> Result<i64> {
    match date.and_local_timezone(zone).earliest() {
        Some(moment) => Ok(moment.timestamp()),
        None => Err(Error::new(text.span(), format!("this moment was skipped by the clocks of {zone}"))),
    }
}

/// When a biz runs by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    Cron(String),
    Every(Duration),
    Once,
    Continuous,
}

const PRESETS: [(&str, &str); 8] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@quarterly", "0 0 1 */3 *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

pub fn schedule(value: &Expr) -> Result<Schedule> {
    let text = string(value)?;
    read_schedule(text.value().trim()).map_err(|message| Error::new(text.span(), message))
}

fn read_schedule(written: &str) -> std::result::Result<Schedule, String> {
    match written {
        "@once" => return Ok(Schedule::Once),
        "@continuous" => return Ok(Schedule::Continuous),
        _ => {}
    }
    if written.starts_with('@') {
        if let Some((_, cron)) = PRESETS.iter().find(|(preset, _)| *preset == written) {
            return Ok(Schedule::Cron((*cron).to_owned()));
        }
        let presets: Vec<_> =
            PRESETS.iter().map(|(preset, _)| *preset).chain(["@once", "@continuous"]).collect();
        return Err(format!("there is no preset `{written}`; {}", did_you_mean_or_all(written, &presets)));
    }
    match humantime::parse_duration(written) {
        Ok(Duration::ZERO) => return Err("an interval must be longer than nothing".to_owned()),
        Ok(interval) => return Ok(Schedule::Every(interval)),
        Err(e) if !written.contains(' ') => {
            return Err(format!(
                "`{written}` is no interval: {e}; one is written like \"15m\" or \"1h 30m\", \
                 a cron expression like \"30 6 * * 1\", a preset like \"@daily\""
            ));
        }
        Err(_) => {}
    }
    let (cron, _) = cron::read(written)
        .map_err(|reason| format!("`{written}` is no cron expression: {reason}; {}", cron::HOW))?;
    let never = cron.find_next_occurrence(&DateTime::UNIX_EPOCH.naive_utc(), false).is_err();
    if never {
        return Err(format!("`{written}` never comes: no date fits it"));
    }
    Ok(Schedule::Cron(written.to_owned()))
}

/// The trigger rules: as they are written, and as the runtime calls them.
const TRIGGER_RULES: [(&str, &str); 13] = [
    ("all_success", "AllSuccess"),
    ("all_failed", "AllFailed"),
    ("all_done", "AllDone"),
    ("all_done_min_one_success", "AllDoneMinOneSuccess"),
    ("all_done_setup_success", "AllDoneSetupSuccess"),
    ("all_skipped", "AllSkipped"),
    ("one_success", "OneSuccess"),
    ("one_failed", "OneFailed"),
    ("one_done", "OneDone"),
    ("none_failed", "NoneFailed"),
    ("none_failed_min_one_success", "NoneFailedMinOneSuccess"),
    ("none_skipped", "NoneSkipped"),
    ("always", "Always"),
];

/// The runtime's name of a trigger rule, which is written as a word or a text.
pub fn trigger_rule(value: &Expr) -> Result<&'static str> {
    let written = match value {
        Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
        text => string(text).ok().map(|text| text.value()),
    };
    let all: Vec<_> = TRIGGER_RULES.iter().map(|(rule, _)| *rule).collect();
    let Some(written) = written else {
        return Err(Error::new_spanned(value, format!("a trigger rule is one of {}", all.join(", "))));
    };
    TRIGGER_RULES.iter().find(|(rule, _)| *rule == written).map(|(_, name)| *name).ok_or_else(|| {
        let how = did_you_mean_or_all(&written, &all);
        Error::new_spanned(value, format!("there is no trigger rule `{written}`; {how}"))
    })
}

#[cfg(test)]
mod abuse {
    use super::*;
    use crate::abuse::Abuse;

    fn literal(text: &str) -> Expr {
        let lit = Lit::Str(LitStr::new(text, proc_macro2::Span::call_site()));
        Expr::Lit(ExprLit { attrs: vec![], lit })
    }

    /// The value, or nothing where the error says what is written there.
    fn told<T>(text: &str, read: Result<T>) -> Option<T> {
        let told = |error: syn::Error| {
            let message = error.to_string();
            let known = ["longer than nothing", "in no time"].iter().any(|known| message.contains(known));
            assert!(known || message.contains(text.trim()) && message.len() > text.trim().len(), "{message}");
        };
        read.map_err(told).ok()
    }

    fn holds(case: &[u8]) -> String {
        let text = &*String::from_utf8_lossy(&case[..case.len().min(200)]);
        let value = literal(text);
        let zone = told(text, timezone(&value));
        if let Some(zone) = zone {
            assert_eq!(zone.name(), text);
        }
        let (duration, limit) = (told(text, duration(&value)), told(text, limit(&value)));
        assert_eq!(limit, duration.filter(|duration| !duration.is_zero()));
        if let Some(duration) = duration {
            let written = humantime::format_duration(duration).to_string();
            assert_eq!(told(&written, super::duration(&literal(&written))), Some(duration));
        }
        let date = told(text, date(&value));
        let moments = date.as_ref().map(|date| {
            let zones =
                [Tz::UTC, Tz::Pacific__Kiritimati, Tz::Pacific__Niue, Tz::Europe__Paris, Tz::Pacific__Apia];
            zones.map(|zone| moment(date, zone).ok())
        });
        if let (Some((_, date)), Some(moments)) = (&date, moments) {
            assert_eq!(moments[0], Some(date.and_utc().timestamp()));
            // Nowhere is it another day by more than one.
            assert!(moments.iter().flatten().all(|at| (at - date.and_utc().timestamp()).abs() <= 86_400));
        }
        let schedule = told(text, schedule(&value));
        let again = schedule.as_ref().map(|schedule| match schedule {
            Schedule::Cron(cron) => {
                assert!(cron::read(cron).is_ok());
                cron.clone()
            }
            Schedule::Every(interval) => {
                assert!(!interval.is_zero());
                humantime::format_duration(*interval).to_string()
            }
            Schedule::Once => "@once".to_owned(),
            Schedule::Continuous => "@continuous".to_owned(),
        });
        if let Some(again) = again {
            assert_eq!(read_schedule(&again).ok(), schedule);
        }
        let schedule = schedule.map(|schedule| std::mem::discriminant(&schedule));
        format!("{} {} {} {schedule:?}", zone.is_some(), duration.is_some(), date.is_some())
            + &text.chars().filter(|c| "@:-T+#,/*".contains(*c)).take(4).collect::<String>()
    }

    #[test]
    fn whatever_is_written_is_what_it_is_written_back_as_or_is_told() {
        let words = [
            "@daily",
            "@once",
            "@",
            "1h",
            " 30m",
            "s",
            "ns",
            "years",
            "18446744073709551615s",
            "2023-01-31",
            "T06:00:00",
            "+262142",
            "-262143",
            "-12-31",
            "T23:59:60",
            "Europe/",
            "Paris",
            "UTC",
            "*",
            "*/",
            " ",
            "0 0 ",
            "#",
            "L",
            "W",
            "-",
            ",",
            ".5",
        ];
        Abuse { target: "written", words: &words, cases: 500 }.of(holds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_cron_and_intervals_are_told_apart() {
        assert_eq!(read_schedule("@daily"), Ok(Schedule::Cron("0 0 * * *".into())));
        assert_eq!(read_schedule("30 6 * * 1"), Ok(Schedule::Cron("30 6 * * 1".into())));
        assert_eq!(read_schedule("1h 30m"), Ok(Schedule::Every(Duration::from_secs(5400))));
        assert_eq!(read_schedule("15m"), Ok(Schedule::Every(Duration::from_secs(900))));
        assert_eq!(read_schedule("@once"), Ok(Schedule::Once));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (written, part) in [
            ("@dayly", "did you mean `@daily`?"),
            ("* * * *", "4 fields are given"),
            ("61 * * * *", "`61` is no minute: they go from 0 to 59"),
            ("* 5-5 * * *", "every hour to Airflow: say `5`, or `*`"),
            ("* * * * 5L", "is `L5`, not `5l`"),
            ("* * 31W * *", "say `L`"),
            ("* * 1W * 1", "Airflow ignores the weekday"),
            ("* * 1 * 1#1", "Airflow ignores the day"),
            ("* * * * 1#1,3", "mixes"),
            ("* 20-4/3 * * *", "list them"),
            ("15x", "no interval"),
            ("0s", "longer than nothing"),
            ("0 0 30 2 *", "never comes"),
        ] {
            let message = read_schedule(written).unwrap_err();
            assert!(message.contains(part), "{written}: {message}");
        }
    }
}
