//! Who is told of what: rows that are committed with what they tell of, and go when it has been told.
//!
//! So a process that dies tells late or twice, and never not at all. Telling never fails a run.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};

use super::Mode;
use super::alarms::Alarm;
use super::core::Core;
use super::effects::Effect;
use super::hands::Errand;
use super::host::{RunHost, Shared};
use super::live::{Live, dag_run};
use super::message::Message;
use super::outputs::Outputs;
use crate::clock;
use crate::config::Config;
use crate::error::{Error, Retry};
#[cfg(feature = "email")]
use crate::notify::Mailer;
use crate::notify::{FailedTask, Notice, RunFailed, Subject, TaskNotice, Webhook, excerpt, host};
use crate::run::{Key, RunState, State};
use crate::store::{LogRecord, NoticeRecord, StoreError, Write};
use crate::task::{Attempt, Callback, DagRun, Definition, callback, panicked};

/// So often one thing is told before it is given up: with the pauses between, for some three hours.
const TRIES: u32 = 10;

/// What is called in this program.
const CALLBACK: &str = "callback";

/// How many are told at once by e-mail and webhook.
const AT_ONCE: usize = 8;

/// What is told, and to whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "way", rename_all = "snake_case")]
enum Job {
    Email { to: Vec<String>, notice: Notice },
    Webhook { notice: Notice },
    Callback { which: Callback, task_id: String, map_index: i32, try_number: u32, exception: Option<String> },
}

impl Job {
    fn way(&self) -> &'static str {
        match self {
            Self::Email { .. } => "email",
            Self::Webhook { .. } => "webhook",
            Self::Callback { .. } => CALLBACK,
        }
    }
}

/// The ways to tell somebody, as far as they are set up.
#[derive(Debug)]
pub(super) struct Ways {
    #[cfg(feature = "email")]
    mailer: Option<Mailer>,
    webhook: Option<Webhook>,
}

impl Ways {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        Ok(Self {
            #[cfg(feature = "email")]
            mailer: Mailer::new(config).map_err(Error::fatal)?,
            webhook: Webhook::new(config)?,
        })
    }

    fn has_mailer(&self) -> bool {
        #[cfg(feature = "email")]
        return self.mailer.is_some();
        #[cfg(not(feature = "email"))]
        false
    }

    /// Tells; the addresses that the server may take later are left.
    async fn tell(&self, job: &Job) -> Result<Vec<String>, Error> {
        match job {
            #[cfg(feature = "email")]
            Job::Email { to, notice } => {
                let Some(mailer) = &self.mailer else {
                    return Err(Error::fatal("COWORKS_SMTP_URL is not set any more"));
                };
                let to: Vec<&str> = to.iter().map(String::as_str).collect();
                let (later, refused): (Vec<_>, Vec<_>) =
                    mailer.send(notice, &to).await?.refused.into_iter().partition(|refused| refused.may_pass);
                for refused in refused {
                    tracing::warn!(
                        target: "coworks_biz::engine",
                        "the e-mail was not taken for {}: {}", refused.to, refused.reason
                    );
                }
                Ok(later.into_iter().map(|refused| refused.to).collect())
            }
            #[cfg(not(feature = "email"))]
            Job::Email { .. } => Err(Error::fatal("this program was built without e-mail")),
            Job::Callback { .. } => unreachable!("the engine calls it"),
            Job::Webhook { notice } => match &self.webhook {
                Some(webhook) => webhook.send(notice).await.map(|()| Vec::new()),
                None => Err(Error::fatal("COWORKS_WEBHOOK_URL is not set any more")),
            },
        }
    }
}

/// What is still to be told.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pending: HashMap<i64, NoticeRecord>,
    next: i64,
    /// How many are being told.
    pub(super) under_way: usize,
    /// How many of them by somebody else than this program, and who waits until they are fewer.
    sent: usize,
    waiting: VecDeque<i64>,
}

impl Core {
    /// Takes in what an earlier process has left to tell.
    pub(super) fn take_notices(&mut self) -> Result<(), StoreError> {
        for record in self.writer.notices()? {
            self.outbox.next = self.outbox.next.max(record.id + 1);
            // Who only records orders tells nobody.
            if self.mode != Mode::Orders {
                self.alarm(record.due_at, Alarm::Notice(record.id));
            }
            self.outbox.pending.insert(record.id, record);
        }
        Ok(())
    }

    /// Has those told who want to know how an attempt has ended. `log` is the end of its log.
    pub(super) fn announce(&mut self, run: i64, key: Key, log: &str) {
        self.call_back(run, key);
        let Some(live) = self.runs.get(&run) else { return };
        let (options, state) = (live.node(key).options, live.instance(key).state);
        let (subject, mailed): (fn(TaskNotice) -> Subject, bool) = match state {
            Some(State::Failed) => (Subject::Failure, options.email_on_failure),
            Some(State::UpForRetry) => (Subject::Retry, options.email_on_retry),
            _ => return,
        };
        let failed = state == Some(State::Failed);
        let mailed = mailed && !options.email.is_empty() && self.shared.ways.has_mailer();
        let hooked = failed && self.shared.ways.webhook.is_some();
        if !mailed && !hooked {
            return;
        }
        let instance = live.instance(key);
        let task = TaskNotice {
            task_id: live.node(key).task_id.to_owned(),
            map_index: key.map_index,
            state: instance.state.unwrap_or(State::Failed),
            try_number: instance.try_number,
            max_tries: options.retries + 1,
            next_try_at: live.due_at(key).filter(|_| !failed),
            exception: live.error(key).map(str::to_owned),
            log_excerpt: excerpt(log),
        };
        let notice = notice(live, subject(task), self.now());
        if mailed {
            let to = options.email.iter().map(|address| (*address).to_owned()).collect();
            self.post(run, &Job::Email { to, notice: notice.clone() });
        }
        if hooked {
            self.post(run, &Job::Webhook { notice });
        }
    }

    /// Has the callback of a task called, where it has one for how the attempt has ended.
    fn call_back(&mut self, run: i64, key: Key) {
        let Some(live) = self.runs.get(&run) else { return };
        let instance = live.instance(key);
        let which = match instance.state {
            Some(State::Failed) => Callback::Failure,
            Some(State::UpForRetry) => Callback::Retry,
            Some(State::Success) => Callback::Success,
            _ => return,
        };
        if live.definition.callback(key.task, which).is_none() {
            return;
        }
        let job = Job::Callback {
            which,
            task_id: live.node(key).task_id.to_owned(),
            map_index: key.map_index,
            try_number: instance.try_number,
            exception: live.error(key).map(str::to_owned),
        };
        self.post(run, &job);
    }

    /// Has those told who want to know that a run has failed.
    pub(super) fn announce_run(&mut self, run: i64, state: RunState) {
        let Some(live) = self.runs.get(&run) else { return };
        if state != RunState::Failed || self.shared.ways.webhook.is_none() {
            return;
        }
        let dag = live.definition.dag;
        let instances = live.run.instances();
        let failed =
            dag.order.iter().flat_map(|&task| instances.keys(task)).filter(|&key| {
                instances.get(key).is_some_and(|instance| instance.state == Some(State::Failed))
            });
        let failed = failed.map(|key| FailedTask {
            task_id: live.node(key).task_id.to_owned(),
            map_index: key.map_index,
            exception: live.error(key).map(str::to_owned),
        });
        let subject = Subject::RunFailed(RunFailed { state, failed_tasks: failed.collect() });
        let notice = notice(live, subject, self.now());
        self.post(run, &Job::Webhook { notice });
    }

    fn post(&mut self, run: i64, job: &Job) {
        let notice = match serde_json::to_string(job) {
            Ok(notice) => notice,
            Err(error) => return tracing::error!(target: "coworks_biz::engine", "cannot be told: {error}"),
        };
        let id = self.outbox.next;
        self.outbox.next += 1;
        let record =
            NoticeRecord { id, run, way: job.way().to_owned(), notice, tries: 0, due_at: self.now() };
        self.writes.push(Write::Notice(record.clone()));
        self.outbox.pending.insert(id, record);
        if self.mode != Mode::Orders {
            self.effects.push(Effect::Tell(id));
        }
    }

    /// Tells one; what comes of it comes back as a message. Who serves and is about to stop begins with none: they are
    /// rows. After one run of its own a process has nothing else to do.
    pub(super) fn tell(&mut self, id: i64) {
        if self.draining && self.mode == Mode::Serve {
            return;
        }
        let Some(record) = self.outbox.pending.get(&id) else { return };
        let job: Job = match serde_json::from_str(&record.notice) {
            Ok(job) => job,
            // Of a newer version of this program: left as it is.
            Err(error) => {
                tracing::error!(target: "coworks_biz::engine", "a notice cannot be read, and is not told: {error}");
                return;
            }
        };
        let run = record.run;
        let shared = Arc::clone(&self.shared);
        let Job::Callback { which, task_id, map_index, try_number, exception } = job else {
            if self.outbox.sent >= AT_ONCE {
                return self.outbox.waiting.push_back(id);
            }
            self.outbox.under_way += 1;
            self.outbox.sent += 1;
            let busy = self.clock.busy();
            let work = async move {
                // Nobody who waits for the end of it waits for ever.
                let told = AssertUnwindSafe(shared.ways.tell(&job)).catch_unwind().await;
                let (later, error) = match told.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))) {
                    Ok(later) => (later, None),
                    Err(error) => (Vec::new(), Some(error)),
                };
                shared.tell(Message::Told { id, later, error });
                drop(busy);
            };
            self.hands.go(Errand::Tell(id), work.boxed());
            return;
        };
        // What is not in this program any more is told nothing.
        let of = self.told_of(run).and_then(|(definition, dag_run, outputs)| {
            Some((definition, dag_run, outputs, definition.dag.task(&task_id)?))
        });
        let Some((definition, dag_run, outputs, task)) = of else {
            self.outbox.pending.remove(&id);
            return self.writes.push(Write::Told { id });
        };
        let attempt = Attempt {
            definition,
            run: dag_run,
            task,
            map_index,
            try_number,
            tries_before: 0,
            last_try: true,
            generation: 0,
            started: self.now(),
            resume: None,
        };
        self.outbox.under_way += 1;
        let busy = self.clock.busy();
        let host = RunHost { shared: Arc::clone(&shared), outputs };
        let work = async move {
            let ended = callback(Arc::new(host), attempt, which, exception).await;
            if !ended.log.is_empty() {
                let piece = LogRecord { task_id: task_id.into(), map_index, try_number, records: ended.log };
                shared.tell(Message::Log { run, piece });
            }
            // What it said is in the log of the task, and calling it again would tell the same twice.
            shared.tell(Message::Told { id, later: Vec::new(), error: None });
            drop(busy);
        };
        self.hands.go(Errand::Tell(id), work.boxed());
    }

    /// The run that somebody is told of, as its tasks see it.
    fn told_of(&self, run: i64) -> Option<(&'static Definition, Arc<DagRun>, Arc<Outputs>)> {
        if let Some(live) = self.runs.get(&run) {
            return Some((live.definition, Arc::clone(&live.dag_run), Arc::clone(&live.outputs)));
        }
        let record = self.writer.runs(crate::store::Which::Number(run)).ok()?.pop()?;
        let definition = self.dags[self.dags.place(&record.dag_id)?].definition;
        Some((definition, Arc::new(dag_run(definition, &record)), Arc::default()))
    }

    /// Somebody has been told, or could not be.
    /// `later` are the addresses that the server may take later.
    pub(super) fn told(&mut self, id: i64, later: Vec<String>, mut error: Option<Error>) {
        self.outbox.under_way -= 1;
        let now = self.now();
        let Some(record) = self.outbox.pending.get_mut(&id) else { return };
        if record.way != CALLBACK {
            self.outbox.sent -= 1;
        }
        if !later.is_empty()
            && let Ok(Job::Email { notice, .. }) = serde_json::from_str(&record.notice)
            && let Ok(text) = serde_json::to_string(&Job::Email { to: later.clone(), notice })
        {
            record.notice = text;
            error = Some(Error::msg(format!("the server may take it later for {}", later.join(", "))));
        }
        record.tries += 1;
        let way = record.way.clone();
        match error {
            Some(error) if record.tries < TRIES && error.retry() != Retry::Never => {
                let pause = match error.retry() {
                    Retry::After(delay) => delay,
                    Retry::AsConfigured | Retry::Never => {
                        Duration::from_secs(30 << (record.tries - 1).min(7))
                    }
                };
                record.due_at = clock::later(now, pause);
                let record = record.clone();
                let at = record.due_at;
                tracing::warn!(target: "coworks_biz::engine", "{way} is tried again at {}: {error}", at.to_rfc3339());
                self.writes.push(Write::Notice(record));
                self.alarm(at, Alarm::Notice(id));
            }
            error => {
                if let Some(error) = error {
                    tracing::error!(target: "coworks_biz::engine", "{way} is not tried again: {error}");
                }
                self.outbox.pending.remove(&id);
                self.writes.push(Write::Told { id });
            }
        }
        if let Some(next) = self.outbox.waiting.pop_front() {
            self.tell(next);
        }
    }

    /// Says once what is asked for and cannot be done.
    pub(super) fn warn_of_mail(&self, shared: &Shared) {
        if shared.ways.has_mailer() {
            return;
        }
        for dag in 0..self.dags.len() {
            let dag = self.dags[dag].definition.dag;
            if dag.tasks.iter().any(|task| task.options.wants_mail()) {
                tracing::warn!(
                    target: "coworks_biz::engine",
                    dag_id = dag.dag_id, "asks for e-mail, and COWORKS_SMTP_URL is not set: none is sent"
                );
            }
        }
    }
}

fn notice(live: &Live, subject: Subject, at: DateTime<Utc>) -> Notice {
    Notice {
        at,
        host: host(),
        program: std::env::args().next().unwrap_or_default(),
        dag_id: live.record.dag_id.clone(),
        run_id: live.record.run_id.clone(),
        run_uuid: live.record.uuid.clone(),
        logical_date: live.record.logical_date,
        subject,
    }
}
