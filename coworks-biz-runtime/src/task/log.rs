//! The log of an attempt: what the code it runs says through `tracing`.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use chrono::{SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Span, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, Registry};

use crate::config::Secrets;

/// How much of the log of one attempt is kept, in bytes: half from its head, half from its tail.
const KEPT: usize = 1 << 20;

/// The records of an attempt that are not yet handed on.
#[derive(Debug, Clone)]
pub(super) struct Log(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    secrets: Arc<Secrets>,
    records: String,
    /// How much was handed on already.
    head: usize,
    /// The last records of a log that is too long, and how long they are.
    tail: VecDeque<String>,
    tail_size: usize,
    dropped: usize,
}

impl Log {
    pub(super) fn new(secrets: Arc<Secrets>) -> Self {
        let (records, tail) = (String::new(), VecDeque::new());
        Self(Arc::new(Mutex::new(Inner { secrets, records, head: 0, tail, tail_size: 0, dropped: 0 })))
    }

    /// Makes this the log of what happens in `span`. Without effect where no [`Capture`] is installed.
    pub(super) fn attach(&self, span: &Span) {
        span.with_subscriber(|(id, dispatch)| {
            if let Some(span) = dispatch.downcast_ref::<Registry>().and_then(|registry| registry.span(id)) {
                span.extensions_mut().insert(self.clone());
            }
        });
    }

    fn push(&self, mut record: Record) {
        let mut inner = self.0.lock().unwrap_or_else(|e| e.into_inner());
        // Before JSON escapes them, for then they would look different.
        for (_, text) in &mut record.0 {
            if let Value::String(text) = text
                && let Cow::Owned(scrubbed) = inner.secrets.scrub(text)
            {
                *text = scrubbed;
            }
        }
        let mut line = record.line();
        line.push('\n');
        if inner.head + inner.records.len() + line.len() < KEPT / 2 {
            inner.records.push_str(&line);
            return;
        }
        inner.tail_size += line.len();
        inner.tail.push_back(line);
        while inner.tail_size > KEPT / 2
            && let Some(first) = inner.tail.pop_front()
        {
            inner.tail_size -= first.len();
            inner.dropped += 1;
        }
    }

    /// Takes the records so far, but for the tail of a log that is too long.
    pub(super) fn take(&self) -> String {
        let mut inner = self.0.lock().unwrap_or_else(|e| e.into_inner());
        inner.head += inner.records.len();
        std::mem::take(&mut inner.records)
    }

    /// Takes all that is left.
    pub(super) fn take_all(&self) -> String {
        let mut records = self.take();
        let mut inner = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if inner.dropped > 0 {
            let gap =
                format!("{} records left out here: the log of one try is kept up to 1 MiB", inner.dropped);
            let _ = writeln!(records, "{}", Record::new("warning", "coworks_biz", &gap).line());
            inner.dropped = 0;
        }
        records.extend(std::mem::take(&mut inner.tail));
        inner.tail_size = 0;
        records
    }
}

/// A record in the form in which logs are stored: an object of JSON.
struct Record(Vec<(&'static str, Value)>);

impl Record {
    fn new(level: &'static str, logger: &str, event: &str) -> Self {
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        let mut fields = Vec::with_capacity(8);
        fields.push(("timestamp", now.into()));
        fields.extend([("level", level.into()), ("event", event.into()), ("logger", logger.into())]);
        Self(fields)
    }

    /// Sets a field; a later one of the same name is the one that stays.
    fn set(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(field, _)| *field == name) {
            Some((_, field)) => *field = value,
            None => self.0.push((name, value)),
        }
    }

    fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// A line of a log that is not the task's own word.
pub fn log_line(event: &str) -> String {
    format!("{}\n", Record::new("info", "coworks_biz", event).line())
}

/// The layer of a `tracing` subscriber that brings records to the attempts they belong to.
///
/// A record belongs to an attempt when it is made in its span: directly, or in
/// a future or thread that carries the span on (`.in_current_span()`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Capture;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let log = context
            .event_scope(event)
            .into_iter()
            .flatten()
            .find_map(|span| span.extensions().get::<Log>().cloned());
        let Some(log) = log else { return };
        let metadata = event.metadata();
        let mut record = Record::new(level(metadata.level()), metadata.target(), "");
        event.record(&mut Fields(&mut record));
        log.push(record);
    }
}

/// Airflow's word for a level.
fn level(level: &tracing::Level) -> &'static str {
    match *level {
        tracing::Level::ERROR => "error",
        tracing::Level::WARN => "warning",
        tracing::Level::INFO => "info",
        _ => "debug",
    }
}

struct Fields<'a>(&'a mut Record);

impl Fields<'_> {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        let name = if field.name() == "message" { "event" } else { field.name() };
        self.0.set(name, value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.set(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::config::Environment;

    fn log() -> Log {
        let env = Environment::from(|name| (name == "COWORKS_SECRET_KEY").then(|| "very-\"secret\"".into()));
        let secrets = Secrets::new(env);
        secrets.get("KEY").unwrap();
        Log::new(Arc::new(secrets))
    }

    fn captured(log: &Log, work: impl FnOnce()) {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Capture), || {
            let span = tracing::info_span!("task");
            log.attach(&span);
            span.in_scope(work);
        });
    }

    #[test]
    fn records_in_the_span_are_captured_with_their_fields_and_without_secrets() {
        let log = log();
        captured(&log, || {
            tracing::info_span!("inner").in_scope(|| {
                tracing::warn!(orders = 3, header = "very-\"secret\"", "with {:?}", "very-\"secret\"")
            });
        });
        tracing::info!("outside");
        let text = log.take_all();
        let record: Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(record["level"], "warning");
        assert_eq!((&record["event"], &record["header"]), (&"with \"***\"".into(), &"***".into()));
        assert_eq!(record["orders"], 3);
        assert_eq!(log.take_all(), "");
    }

    #[test]
    fn of_a_long_log_the_head_and_the_tail_are_kept() {
        let log = log();
        captured(&log, || (0..20_000).for_each(|n| tracing::info!("line {n} {}", "x".repeat(100))));
        let text = log.take_all();
        assert!(text.len() < KEPT + 1000, "{}", text.len());
        assert!(text.contains("line 0 ") && text.contains("line 19999 ") && !text.contains("line 10000 "));
        assert!(text.contains("records left out here"));
    }
}
