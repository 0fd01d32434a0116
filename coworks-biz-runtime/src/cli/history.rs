//! `show --events`: everything that came about in a run.

use std::collections::HashMap;

use serde::Serialize;

use super::output::{BOLD, DIM, line, look};
use super::show::{Named, find, iso, local, print_json};
use super::{Exit, Failure, Output};
use crate::config::Config;
use crate::run::{InstanceName, State};
use crate::store::{EventRecord, Reader};

#[derive(Serialize)]
struct EventJson {
    at: String,
    task_id: Option<String>,
    map_index: i32,
    try_number: u32,
    event: String,
    detail: Option<String>,
}

/// Everything that came about in a run, in order.
pub(super) fn events(config: &Config, run: Named, output: Output) -> Result<Exit, Failure> {
    let reader = Reader::open(&config.db)?;
    let run = find(&reader, run)?;
    let mut events = reader.events(run.number)?;
    tell_cut_off(&mut events);
    if output == Output::Json {
        let events = events.into_iter().map(|event| EventJson {
            at: iso(event.at),
            task_id: event.task_id,
            map_index: event.map_index,
            try_number: event.try_number,
            event: event.state,
            detail: event.detail,
        });
        print_json(&events.collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    for event in events {
        let subject = match &event.task_id {
            Some(task_id) => InstanceName(task_id, event.map_index).to_string(),
            None => format!("{BOLD}{}{BOLD:#}", run.dag_id),
        };
        let (style, sign) = look(event.state.parse().ok());
        let again = if event.try_number > 1 {
            format!(" {DIM}try {}{DIM:#}", event.try_number)
        } else {
            String::new()
        };
        let detail = event.detail.map(|detail| format!(" {DIM}{detail}{DIM:#}")).unwrap_or_default();
        let at = local(event.at);
        line(format!(
            "{DIM}{at}{DIM:#} {style}{sign}{style:#} {subject} {style}{}{style:#}{again}{detail}",
            event.state
        ))?;
    }
    Ok(Exit::Done)
}

/// Says where an attempt was cut off by the end of its process: nothing else leads from `running` to `queued` within
/// a try.
fn tell_cut_off(events: &mut [EventRecord]) {
    let mut last: HashMap<(String, i32), (String, u32)> = HashMap::new();
    for event in events {
        let Some(task_id) = event.task_id.clone() else { continue };
        let now = (event.state.clone(), event.try_number);
        let before = last.insert((task_id, event.map_index), now);
        let is_queued = event.state == State::Queued.as_str() && event.detail.is_none();
        if is_queued && before == Some((State::Running.as_str().to_owned(), event.try_number)) {
            event.detail = Some("cut off by the end of its process".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_cut_off_is_told_apart_from_who_waited() {
        let event = |task_id: Option<&str>, try_number, state: &str| EventRecord {
            at: chrono::DateTime::UNIX_EPOCH,
            task_id: task_id.map(str::to_owned),
            map_index: -1,
            try_number,
            state: state.to_owned(),
            detail: None,
        };
        let mut events = [
            event(None, 0, "running"),
            event(Some("a"), 1, "running"),
            event(Some("b"), 1, "running"),
            event(Some("a"), 1, "queued"),
            event(Some("b"), 1, "up_for_retry"),
            event(Some("b"), 1, "queued"),
            event(Some("b"), 2, "running"),
            event(Some("a"), 1, "running"),
            event(Some("b"), 2, "cleared"),
            event(Some("b"), 2, "queued"),
        ];
        tell_cut_off(&mut events);
        let told: Vec<_> = events.iter().map(|event| event.detail.is_some()).collect();
        assert_eq!(told, [false, false, false, true, false, false, false, false, false, false]);
    }
}
