//! Cron expressions, with the meaning they have in Airflow.
//!
//! Dates are searched by croner, which reads some expressions otherwise than Airflow does: so the
//! fields are read here, and croner is given the values they stand for. Where Airflow's own meaning is one
//! that nobody would expect, the expression is refused.
//!
//! The macro and the runtime have the same file, and a test that it is: what one accepts, the other runs.

use croner::Cron;

/// How an expression is written.
pub const HOW: &str = "one has 5 fields, minute hour day month weekday, such as \"30 6 * * 1\", \
                       or 6 with the second behind them";

struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    /// The names of its values, from the first.
    names: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", first: 0, last: 59, names: &[] };
const HOUR: Field = Field { name: "hour", first: 0, last: 23, names: &[] };
const DAY: Field = Field { name: "day", first: 1, last: 31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    first: 1,
    last: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Field =
    Field { name: "weekday", first: 0, last: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };
const SECOND: Field = Field { name: "second", first: 0, last: 59, names: &[] };

/// What finds the dates of an expression in local time, and whether it leaves no hour of a day out; or what is
/// wrong with it.
pub fn read(written: &str) -> Result<(Cron, bool), String> {
    let lower = written.to_ascii_lowercase();
    let fields: Vec<_> = lower.split_ascii_whitespace().collect();
    let (minute, hour, day, month, weekday, second) = match fields[..] {
        [minute, hour, day, month, weekday] => (minute, hour, day, month, weekday, "0"),
        [minute, hour, day, month, weekday, second] => (minute, hour, day, month, weekday, second),
        _ => return Err(format!("{} fields are given", fields.len())),
    };
    let hours = HOUR.values(hour)?;
    let any_day = day == "*" || day == "?";
    let pattern = [
        SECOND.written(SECOND.values(second)?),
        MINUTE.written(MINUTE.values(minute)?),
        HOUR.written(hours),
        if any_day { "*".to_owned() } else { days(day, weekday)? },
        MONTH.written(MONTH.values(month)?),
        if weekday == "*" || weekday == "?" { "*".to_owned() } else { weekdays(weekday, any_day)? },
    ];
    let cron = pattern.join(" ").parse().map_err(|e: croner::errors::CronError| e.to_string())?;
    Ok((cron, hours == HOUR.all()))
}

/// The days of the month: values, `L` for the last, or the working day nearest to one.
fn days(written: &str, weekday: &str) -> Result<String, String> {
    let nearest = written.strip_prefix('w').or_else(|| written.strip_suffix('w'));
    if let Some(day) = nearest.and_then(|day| DAY.value(day).ok()) {
        return match day {
            _ if weekday != "*" && weekday != "?" => {
                Err(format!("with `{written}` Airflow ignores the weekday: it must be `*`"))
            }
            29.. => {
                Err(format!("`{written}` is the last day to Airflow where a month has no day {day}: say `L`"))
            }
            day => Ok(format!("{day}W")),
        };
    }
    let (mut values, mut last) = (0, false);
    for part in written.split(',') {
        match part {
            "l" => last = true,
            part => values |= DAY.part(part)?,
        }
    }
    let mut days = list(values);
    days.extend(last.then(|| "L".to_owned()));
    Ok(days.join(","))
}

/// The days of the week: values, `1#2` for the second Monday of a month, `L1` for its last.
fn weekdays(written: &str, any_day: bool) -> Result<String, String> {
    let (mut plain, mut of_month) = (0, vec![]);
    for part in written.split(',') {
        if let Some(day) = part.strip_prefix('l') {
            of_month.push(format!("{}#L", WEEKDAY.value(day)?));
        } else if let Some(day) = part.strip_suffix('l').and_then(|day| WEEKDAY.value(day).ok()) {
            return Err(format!("the last such weekday of a month is `L{day}`, not `{part}`"));
        } else if let Some((days, nth)) = part.split_once('#') {
            let fits = days.split('-').all(|day| WEEKDAY.names.contains(&day));
            if !matches!(nth, "1" | "2" | "3" | "4" | "5") || !(fits || WEEKDAY.value(days).is_ok()) {
                return Err(format!(
                    "`{part}` is no weekday of a month: one is written like `1#2` or `fri#1`"
                ));
            }
            of_month.extend(list(WEEKDAY.part(days)?).into_iter().map(|day| format!("{day}#{nth}")));
        } else {
            plain |= WEEKDAY.part(part)?;
        }
    }
    match (of_month.is_empty(), plain) {
        (true, _) => Ok(list(plain).join(",")),
        (false, 1..) => Err(format!("`{written}` mixes weekdays of a month with those of every week")),
        (false, 0) if !any_day => Err(format!("with `{written}` Airflow ignores the day: it must be `*`")),
        (false, 0) => Ok(of_month.join(",")),
    }
}

/// The values as they are listed.
fn list(values: u64) -> Vec<String> {
    (0..64).filter(|value| values >> value & 1 == 1).map(|value: u32| value.to_string()).collect()
}

/// A number without a sign.
fn number(written: &str) -> Option<u32> {
    written.bytes().all(|byte| byte.is_ascii_digit()).then(|| written.parse().ok()).flatten()
}

impl Field {
    fn all(&self) -> u64 {
        (self.first..=self.last).fold(0, |values, value| values | 1 << value)
    }

    fn written(&self, values: u64) -> String {
        if values == self.all() { "*".to_owned() } else { list(values).join(",") }
    }

    /// The values of a whole field, each a bit.
    fn values(&self, written: &str) -> Result<u64, String> {
        match written {
            "*" => Ok(self.all()),
            _ => written.split(',').try_fold(0, |values, part| Ok(values | self.part(part)?)),
        }
    }

    /// `5`, `5-9`, `*/2`, `5/2`, `5-9/2`; a range may go over the end: `22-4`.
    fn part(&self, part: &str) -> Result<u64, String> {
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => match number(step) {
                // A step over the end of every field is as good as any longer one.
                Some(step @ 1..) => (range, Some(step.min(100))),
                _ => return Err(format!("`{step}` is no step: one is a number from 1")),
            },
        };
        let (from, to) = match (range.split_once('-'), step) {
            (None, Some(_)) if range == "*" => (self.first, self.last),
            // Airflow takes them to the end of the field.
            (None, Some(_)) => (self.value(range)?, self.last),
            (None, None) => return Ok(1 << self.value(range)?),
            (Some((from, to)), _) => {
                let (low, high) = (self.value(from)?, self.end(to)?);
                match (low == high, range) {
                    (true, "0-7") => (self.first, self.last),
                    (true, _) => {
                        return Err(format!(
                            "`{range}` is every {} to Airflow: say `{from}`, or `*`",
                            self.name
                        ));
                    }
                    (false, _) => (low, high),
                }
            }
        };
        let step = step.unwrap_or(1);
        if from <= to {
            return Ok((from..=to).step_by(step as usize).fold(0, |values, value| values | 1 << value));
        }
        let count = self.last - self.first + 1;
        let over = (from..=to + count).step_by(step as usize);
        let values = over.fold(0, |values, value| values | 1 << ((value - self.first) % count + self.first));
        // Airflow begins the second half anew, and one late.
        let left = (self.last - from) % step;
        let anew = if left + 1 == step { self.first } else { self.first + step - left };
        let airflow = (from..=self.last).step_by(step as usize).chain((anew..=to).step_by(step as usize));
        match airflow.fold(0, |values, value| values | 1 << value) == values {
            true => Ok(values),
            false => Err(format!(
                "the steps of `{part}` do not go over the end as they should in Airflow: list them"
            )),
        }
    }

    fn end(&self, written: &str) -> Result<u32, String> {
        match written {
            "l" if self.name == DAY.name => Ok(self.last),
            _ => self.value(written),
        }
    }

    fn value(&self, written: &str) -> Result<u32, String> {
        if let Some(index) = self.names.iter().position(|name| *name == written) {
            return Ok(self.first + index as u32);
        }
        match number(written) {
            // Sunday has two numbers.
            Some(7) if self.name == WEEKDAY.name => Ok(0),
            Some(value) if (self.first..=self.last).contains(&value) => Ok(value),
            _ => {
                Err(format!("`{written}` is no {}: they go from {} to {}", self.name, self.first, self.last))
            }
        }
    }
}
