//! What happens, as it happens: records as lines on stderr.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use chrono::Local;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::output::{BOLD, DIM, ERROR, GOOD, WARNING, duration, look, tame};
use crate::config::{Config, Secrets};
use crate::run::{InstanceName, State};
use crate::task::Capture;
use crate::value::excerpt;

/// Brings records to the logs of their tasks, and to stderr as far as it is wanted.
/// Where there are `many` runs, each line says of which it is.
pub(super) fn install(config: &Config, quiet: bool, verbose: bool, many: bool) {
    let level = if verbose { Level::DEBUG } else { Level::INFO };
    // Libraries below say much that concerns nobody here; what the AWS SDK warns of fails a task where it matters.
    let below = ["hyper::", "hyper_util::", "h2::", "reqwest::", "rustls::", "s3s", "s3s_fs"];
    let aws = ["aws_config", "aws_credential", "aws_runtime", "aws_sdk_", "aws_sigv4", "aws_smithy"];
    let filter = Targets::new()
        .with_default(level)
        .with_targets(below.map(|name| (name, Level::WARN)))
        .with_targets(aws.map(|name| (name, Level::ERROR)));
    let printed = if quiet { Level::WARN } else { level };
    let printer = Printer { secrets: Arc::clone(&config.secrets), many };
    // A program that has a subscriber of its own keeps it, and has its own reasons.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(Capture)
        .with(printer.with_filter(Targets::new().with_default(printed)))
        .try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("with a value that is no text");
        tracing::error!("panicked{place}: {text}");
    }));
}

/// No line is longer than that, but for its fields: the log of the task has it whole.
const LONGEST: usize = 4_000;

/// The target of the engine's own records.
const ENGINE: &str = "coworks_biz::engine";

struct Printer {
    secrets: Arc<Secrets>,
    many: bool,
}

/// The name of the task instance of a span.
struct Task(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Printer {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        id: &tracing::span::Id,
        context: Context<'_, S>,
    ) {
        if attributes.metadata().target() != "coworks_biz::task" {
            return;
        }
        let mut line = Line { of_engine: true, ..Line::default() };
        attributes.record(&mut line);
        if let (Some(subject), Some(span)) = (line.subject(self.many), context.span(id)) {
            span.extensions_mut().insert(Task(subject));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Line { of_engine: event.metadata().target() == ENGINE, ..Line::default() };
        event.record(&mut line);
        let task = context
            .event_scope(event)
            .into_iter()
            .flatten()
            .find_map(|span| span.extensions().get::<Task>().map(|task| task.0.clone()));
        let text = line.text(event.metadata());
        let now = Local::now().format("%H:%M:%S%.3f");
        let subject = line.subject(self.many).or(task).unwrap_or_default();
        let width = if self.many { 30 } else { 18 };
        let text = self.secrets.scrub(&text);
        // A stderr that cannot be written is no reason to stop working.
        let _ =
            writeln!(anstream::stderr().lock(), "{DIM}{now}{DIM:#}  {BOLD}{subject:<width$}{BOLD:#} {text}");
    }
}

/// The fields of a record.
#[derive(Default)]
struct Line {
    /// Whether the names of the fields are the engine's, not a task's own.
    of_engine: bool,
    message: String,
    task_id: Option<String>,
    map_index: Option<i32>,
    dag_id: Option<String>,
    run_id: Option<String>,
    /// Of the run.
    number: Option<i64>,
    state: Option<String>,
    try_number: Option<u64>,
    duration: Option<Duration>,
    due: Option<String>,
    /// Whether it may come about before it is due.
    latest: bool,
    more: String,
}

impl Line {
    /// What it is about: a task instance, or a DAG; of which run, where there are many.
    fn subject(&self, many: bool) -> Option<String> {
        let index = self.map_index.unwrap_or(-1);
        let task = self.task_id.as_deref().map(|task| InstanceName(task, index).to_string());
        let dag = self.dag_id.clone();
        let (Some(number), true) = (self.number, many) else { return task.or(dag) };
        let of = dag.into_iter().chain(task).collect::<Vec<_>>().join("/");
        Some(format!("#{number} {of}"))
    }

    fn text(&self, metadata: &tracing::Metadata<'_>) -> String {
        if self.of_engine
            && let Some(text) = self.transition()
        {
            return text;
        }
        let (style, level) = match *metadata.level() {
            Level::ERROR => (ERROR, "error: "),
            Level::WARN => (WARNING, "warning: "),
            Level::INFO => (anstyle::Style::new(), ""),
            _ => (DIM, ""),
        };
        let message = excerpt(&self.message, LONGEST);
        format!("{style}{level}{}{}{style:#}", tame(&message), self.more)
    }

    /// The engine's own records tell of transitions.
    fn transition(&self) -> Option<String> {
        let run = self.run_id.as_deref();
        match (self.message.as_str(), self.state.as_deref()) {
            ("run begins", _) => Some(format!("{DIM}run {} begins{DIM:#}", run?)),
            ("run goes on", _) => Some(format!("{DIM}run {} goes on{DIM:#}", run?)),
            ("run ends", Some(state)) => {
                let style = if state == "success" { GOOD } else { ERROR };
                Some(format!("{style}run ends: {state}{style:#}"))
            }
            ("task", Some(word)) => {
                let state: State = word.parse().ok()?;
                let (style, sign) = look(Some(state));
                let mut text = format!("{style}{sign} {word}{style:#}");
                match (state, self.duration, &self.due) {
                    (State::UpForRetry, _, Some(due)) => {
                        let _ = write!(text, " {DIM}after try {}, again at {due}{DIM:#}", self.try_number?);
                    }
                    (State::UpForReschedule, _, Some(due)) => {
                        let (until, latest) =
                            if self.latest { ("until", " at the latest") } else { ("again at", "") };
                        let _ = write!(text, " {DIM}{until} {due}{latest}{DIM:#}");
                    }
                    (State::Success | State::Failed, Some(took), _) => {
                        let _ = write!(text, " {DIM}in {}{DIM:#}", duration(took));
                    }
                    _ => {}
                }
                Some(text)
            }
            _ => None,
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "try_number" if self.of_engine => self.try_number = Some(value),
            "duration" if self.of_engine => self.duration = Some(Duration::from_micros(value)),
            _ => self.record_str(field, &value.to_string()),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        match field.name() {
            "map_index" if self.of_engine => self.map_index = i32::try_from(value).ok(),
            "number" if self.of_engine => self.number = Some(value),
            _ => self.record_str(field, &value.to_string()),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "latest" if self.of_engine => self.latest = value,
            _ => self.record_str(field, &value.to_string()),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            "task_id" if self.of_engine => self.task_id = Some(value.to_owned()),
            "dag_id" if self.of_engine => self.dag_id = Some(value.to_owned()),
            "run_id" if self.of_engine => self.run_id = Some(value.to_owned()),
            "state" if self.of_engine => self.state = Some(value.to_owned()),
            "due" if self.of_engine => self.due = Some(value.to_owned()),
            name => {
                let _ = write!(self.more, " {DIM}{name}={DIM:#}{}", tame(value));
            }
        }
    }
}
