//! `logs`: what the tasks of a run have logged.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;

use super::output::{BOLD, DIM, ERROR, WARNING, line, tame};
use super::show::{Named, find, local};
use super::{Exit, Failure, Output};
use crate::config::Config;
use crate::run::InstanceName;
use crate::store::{LogRecord, Reader};

/// The log lines that are wanted.
pub(super) struct Wanted<'a> {
    pub(super) run: Named<'a>,
    pub(super) task: Option<&'a str>,
    pub(super) try_number: Option<u32>,
}

pub(super) fn logs(config: &Config, wanted: &Wanted, output: Output) -> Result<Exit, Failure> {
    let reader = Reader::open(&config.db)?;
    let run = find(&reader, wanted.run)?;
    let (task, map_index) = wanted.task.map(InstanceName::read).unzip();
    let map_index = map_index.flatten();
    let is_wanted = |index| map_index.is_none_or(|wanted| wanted == index);
    if let Some(task) = task
        && !reader.tasks(run.number)?.iter().any(|r| r.task_id == task && is_wanted(r.map_index))
    {
        let name = wanted.task.unwrap_or_default();
        return Err(Failure::usage(format!("run `{}` has reached no task `{name}`", run.run_id)));
    }
    if let Some(wanted) = wanted.try_number
        && !reader.tasks(run.number)?.iter().any(|r| {
            task.is_none_or(|task| r.task_id == task && is_wanted(r.map_index)) && r.try_number >= wanted
        })
    {
        return Err(Failure::usage(format!("nothing of run `{}` has had a try {wanted}", run.run_id)));
    }
    for piece in reader.logs(run.number, task)? {
        if !is_wanted(piece.map_index) || wanted.try_number.is_some_and(|wanted| wanted != piece.try_number) {
            continue;
        }
        for record in piece.records.lines() {
            match output {
                Output::Json => line(json_line(&piece, record))?,
                Output::Text => line(text_line(&piece, record))?,
            }
        }
    }
    Ok(Exit::Done)
}

fn json_line(piece: &LogRecord, line: &str) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        task_id: &'a str,
        map_index: i32,
        try_number: u32,
        record: Option<&'a RawValue>,
    }
    let record = serde_json::from_str(line).ok();
    let LogRecord { task_id, map_index, try_number, .. } = piece;
    let line = Line { task_id, map_index: *map_index, try_number: *try_number, record };
    serde_json::to_string(&line).unwrap_or_default()
}

fn text_line(piece: &LogRecord, line: &str) -> String {
    let Ok(serde_json::Value::Object(record)) = serde_json::from_str(line) else { return line.to_owned() };
    let field = |name: &str| record.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    let at = field("timestamp").parse::<DateTime<Utc>>().map(local).unwrap_or_default();
    let style = match field("level") {
        "error" | "critical" => ERROR,
        "warning" => WARNING,
        _ => anstyle::Style::new(),
    };
    let mut text = format!(
        "{DIM}{at}{DIM:#}  {BOLD}{:<18}{BOLD:#} {DIM}try {}{DIM:#}  {style}{:<7}{style:#}  {}",
        InstanceName(&piece.task_id, piece.map_index),
        piece.try_number,
        field("level"),
        tame(field("event"))
    );
    let own = ["timestamp", "level", "event", "logger"];
    for (name, value) in record.iter().filter(|(name, _)| !own.contains(&name.as_str())) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let _ = write!(text, " {DIM}{name}={DIM:#}{}", tame(&value));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_named_as_it_is_shown() {
        assert_eq!(InstanceName::read("send[3]"), ("send", Some(3)));
        assert_eq!(InstanceName::read("prep.send"), ("prep.send", None));
        assert_eq!(InstanceName::read("send[x]"), ("send[x]", None));
    }
}
