//! The verbs that tell the engine what to do: that of the process that serves, and where there is
//! none, one that only records it.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;

use super::output::{BOLD, DIM, GOOD, line, say, table};
use super::process::runtime;
use super::show::{LISTED, print_json};
use super::{App, Exit, Failure, Output};
use crate::config::Config;
use crate::control;
use crate::engine::{Answer, Engine, Mode, Order};
use crate::run::{InstanceName, RunState};

/// Gives an order, and prints what was done.
pub(super) fn order(app: &App, config: &Config, order: Order, output: Output) -> Result<Exit, Failure> {
    let cancelled = matches!(order, Order::Cancel { .. });
    let marked = match &order {
        Order::Mark { task, state, .. } => Some(format!("{task} is marked {state:?}").to_lowercase()),
        _ => None,
    };
    let (answer, served) = match control::ask(&config.db, &order)? {
        Some(answer) => (answer, true),
        None => {
            let is_new = !config.db.exists();
            let answer = record(app, config, order)?;
            if is_new {
                say(format!("there was no database at {}: this is a new one", config.db.display()));
            }
            (answer, false)
        }
    };
    match output {
        Output::Json => print_json(&named(&answer)?)?,
        Output::Text => {
            if let Some(marked) = marked {
                line(format!("  {marked}"))?;
            }
            tell(&answer, served, cancelled)?;
        }
    }
    if !served && begins_something(&answer) {
        let serve = super::show::command(config, "serve");
        say(format!("nothing serves this database: it begins with `{serve}`"));
    }
    Ok(Exit::Done)
}

/// The answer as it is printed: a DAG is a `biz`, as everywhere else.
fn named(answer: &Answer) -> Result<Value, Failure> {
    let mut json = serde_json::to_value(answer).map_err(|e| Failure::usage(e.to_string()))?;
    if let Some(answer) = json.as_object_mut()
        && let Some(dag_id) = answer.remove("dag_id")
    {
        answer.insert("biz".to_owned(), dag_id);
    }
    Ok(json)
}

/// Does in this process what needs no execution.
fn record(app: &App, config: &Config, order: Order) -> Result<Answer, Failure> {
    Ok(runtime()?.block_on(async {
        let engine = Engine::start(config, &app.definitions, Mode::Orders)?;
        engine.order(order).await
    })?)
}

fn begins_something(answer: &Answer) -> bool {
    match answer {
        Answer::Run { state, .. } => !state.is_final(),
        Answer::Backfill { runs, .. } => runs.iter().any(|run| run.action == "new" || run.action == "again"),
        Answer::Paused { .. } | Answer::Status { .. } => false,
    }
}

fn tell(answer: &Answer, served: bool, cancelled: bool) -> Result<(), Failure> {
    match answer {
        Answer::Run { dag_id, run_id, state, .. } if cancelled => {
            let rest = if state.is_final() { "" } else { ": its teardowns come to their end" };
            line(format!("{BOLD}{dag_id}{BOLD:#} run {run_id} is cancelled{rest}"))
        }
        Answer::Run { dag_id, run_id, state, cleared } => {
            for tasks in cleared.chunk_by(|a, b| InstanceName::read(a).0 == InstanceName::read(b).0) {
                match tasks {
                    few if few.len() <= LISTED => {
                        few.iter().try_for_each(|task| line(format!("  {task} {DIM}again{DIM:#}")))?;
                    }
                    many => {
                        let (task, _) = InstanceName::read(&many[0]);
                        line(format!("  {task} {DIM}×{DIM:#} {} {DIM}again{DIM:#}", many.len()))?;
                    }
                }
            }
            let state = match state {
                RunState::Running if !served => "goes on when it is served",
                RunState::Running => "is under way",
                RunState::Queued => "is queued",
                RunState::Success => "has succeeded",
                RunState::Failed => "has failed",
            };
            line(format!("{BOLD}{dag_id}{BOLD:#} run {run_id} {state}"))
        }
        Answer::Paused { dag_id, paused, already } => {
            let what = match (paused, already) {
                (true, false) => "is paused: what runs comes to its end, nothing new starts",
                (true, true) => "was paused already",
                (false, false) => "goes on",
                (false, true) => "was not paused",
            };
            line(format!("{BOLD}{dag_id}{BOLD:#} {what}"))
        }
        Answer::Backfill { dag_id, runs } => {
            let cells = runs.iter().map(|run| {
                let reason = run.reason.clone().unwrap_or_default();
                vec![run.action.clone(), moment(run.logical_date), reason]
            });
            for row in table(&cells.collect::<Vec<_>>(), &[]) {
                line(row.join("  ").trim_end())?;
            }
            let gone = runs.iter().filter(|run| run.action == "cancelled").count();
            if gone > 0 || runs.is_empty() {
                return line(format!("{BOLD}{dag_id}{BOLD:#} {gone} runs of the backfill do not begin"));
            }
            let begun = runs.iter().filter(|run| run.action == "new" || run.action == "again").count();
            line(format!("{BOLD}{dag_id}{BOLD:#} {GOOD}{begun} of {} ticks{GOOD:#}", runs.len()))
        }
        Answer::Status { trouble, running, runs, waiting, .. } => {
            let answers = waiting.answers;
            let fine =
                || format!("{runs} runs and {running} tasks are under way, {answers} answers are waited for");
            line(trouble.clone().unwrap_or_else(fine))
        }
    }
}

fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// `--conf`: JSON, or `@FILE`.
pub(super) fn conf(text: &str) -> Result<Value, Failure> {
    let read;
    let (text, what) = match text.strip_prefix('@') {
        None => (text, "--conf".to_owned()),
        Some(file) => {
            read = std::fs::read_to_string(file)
                .map_err(|e| Failure::usage(format!("--conf: {file} cannot be read: {e}")))?;
            (read.as_str(), format!("--conf: {file}"))
        }
    };
    serde_json::from_str(text).map_err(|e| {
        let file = match std::path::Path::new(text).exists() {
            true => format!("; for the file: --conf @{text}"),
            false => String::new(),
        };
        Failure::usage(format!("{what} is no JSON: {e}{file}"))
    })
}
