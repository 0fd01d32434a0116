//! `show --events`: everything that came about in a run.

use serde::Serialize;

use super::output::{BOLD, DIM, line, look};
use super::show::{Named, find, iso, local, print_json};
use super::{Exit, Failure, Output};
use crate::config::Config;
use crate::run::InstanceName;
use crate::store::Reader;

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
    let events = reader.events(run.number)?;
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
