//! The binary's face: its verbs, what they print, and how they exit.
//!
//! Data goes to stdout, everything else to stderr.

mod arguments;
mod check;
mod db;
mod graph;
mod history;
mod logs;
mod moment;
mod orders;
mod output;
mod process;
mod progress;
mod run;
mod serve;
mod show;
mod story;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, FromArgMatches};

use self::arguments::{
    Arguments, BackfillArguments, GraphFormat, MarkArgument, Output, ReprocessArgument, Verb,
};
use self::arguments::{RunArguments, ServeArguments};
use crate::config::{Config, ConfigError, Flags};
use crate::engine::{EngineError, Order, Reprocess, RunName};
use crate::error::did_you_mean;
use crate::run::Mark;
use crate::store::StoreError;
use crate::task::Definition;

/// A program of business services: what `main![..]` makes.
#[derive(Debug)]
pub struct App {
    definitions: Vec<&'static Definition>,
    version: &'static str,
    #[cfg(feature = "local")]
    local: Option<fn() -> crate::local::Services>,
}

/// How a program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Exit {
    Done = 0,
    RunFailed = 1,
    Usage = 2,
    Engine = 3,
    TimedOut = 4,
    Refused = 5,
    Interrupted = 130,
}

/// What ends a verb before its work is done: a sentence, and the exit code that belongs to it.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self { exit: Exit::Engine, message: error.to_string() }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let exit = match error {
            EngineError::Refused(_) => Exit::Refused,
            EngineError::Store(_) | EngineError::Client(_) | EngineError::Stopped(_) => Exit::Engine,
        };
        Self { exit, message: error.to_string() }
    }
}

/// The verbs that a later version has.
const PLANNED: [&str; 2] = ["airflow", "completions"];

/// The verb that was asked for, where a later version has it.
fn planned(error: &clap::Error) -> Option<&'static str> {
    match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(verb)) => PLANNED.into_iter().find(|planned| planned == verb),
        _ => None,
    }
}

impl App {
    /// A program of these services.
    pub fn new(definitions: Vec<&'static Definition>) -> Self {
        Self {
            definitions,
            version: env!("CARGO_PKG_VERSION"),
            #[cfg(feature = "local")]
            local: None,
        }
    }

    /// What `--version` says.
    #[must_use]
    pub fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    /// What `--local` hosts.
    #[cfg(feature = "local")]
    #[must_use]
    pub fn local(mut self, services: fn() -> crate::local::Services) -> Self {
        self.local = Some(services);
        self
    }

    /// Does what the command line says.
    pub fn main(self) -> ExitCode {
        let about = format!("The business services: {}.", self.names().join(", "));
        let name = show::program();
        let name = std::path::Path::new(&name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // Once a process: clap wants a name that stays.
        let command = Arguments::command().name(&*name.leak()).about(about).version(self.version);
        let matches = command.try_get_matches();
        let arguments = match matches.and_then(|matches| Arguments::from_arg_matches(&matches)) {
            Ok(arguments) => arguments,
            Err(error) => {
                if let Some(verb) = planned(&error) {
                    anstream::eprintln!(
                        "{0}error:{0:#} `{verb}` is not part of this version yet",
                        output::ERROR
                    );
                    return ExitCode::from(Exit::Usage as u8);
                }
                // Help goes to stdout and is no failure; clap knows.
                let _ = error.print();
                return ExitCode::from(error.exit_code() as u8);
            }
        };
        let exit = self.perform(arguments).unwrap_or_else(|Failure { exit, message }| {
            if !message.is_empty() {
                output::say(format!("{0}error:{0:#} {message}", output::ERROR));
            }
            exit
        });
        ExitCode::from(exit as u8)
    }

    fn perform(&self, arguments: Arguments) -> Result<Exit, Failure> {
        self.refuse_twins()?;
        let parallelism = match &arguments.verb {
            Verb::Run(run) => run.parallelism,
            Verb::Serve(serve) => serve.parallelism,
            _ => None,
        };
        let config = Config::load(Flags { db: arguments.db.clone(), parallelism })?;
        let many = matches!(arguments.verb, Verb::Serve(_));
        progress::install(&config, arguments.quiet, arguments.verbose, many);
        match arguments.verb {
            Verb::Run(run) => run::run(self, config, run, arguments.db.as_deref()),
            Verb::Serve(serve) => serve::serve(self, config, &serve),
            Verb::Trigger { biz, conf, logical_date, idempotency_key, output } => {
                let dag = self.biz(biz.as_deref())?.dag;
                let (dag_id, logical_date) = (dag.dag_id.to_owned(), logical_date.map(|date| date.of(dag)));
                let conf = conf.as_deref().map(orders::conf).transpose()?;
                let order = Order::Trigger { dag_id, conf, logical_date, idempotency_key };
                orders::order(self, &config, order, output.output)
            }
            Verb::Pause { biz, output } => {
                let order = Order::Pause { dag_id: self.dag_id(biz.as_deref())?, paused: true };
                orders::order(self, &config, order, output.output)
            }
            Verb::Unpause { biz, output } => {
                let order = Order::Pause { dag_id: self.dag_id(biz.as_deref())?, paused: false };
                orders::order(self, &config, order, output.output)
            }
            Verb::Backfill(arguments) => {
                let order = self.backfill(&arguments)?;
                orders::order(self, &config, order, arguments.output.output)
            }
            Verb::Retry { run_id, from, failed: _, biz, output } => {
                let order = Order::Retry { run: RunName { dag_id: biz, run_id }, from };
                orders::order(self, &config, order, output.output)
            }
            Verb::Cancel { run_id, biz, output } => {
                let order = Order::Cancel { run: RunName { dag_id: biz, run_id } };
                orders::order(self, &config, order, output.output)
            }
            Verb::Mark { run_id, task, state, biz, output } => {
                let state = match state {
                    MarkArgument::Success => Mark::Success,
                    MarkArgument::Failed => Mark::Failed,
                };
                let order = Order::Mark { run: RunName { dag_id: biz, run_id }, task, state };
                orders::order(self, &config, order, output.output)
            }
            Verb::List { output } => check::list(self, &config, output.output),
            Verb::Graph { biz, format } => graph::graph(self.biz(biz.as_deref())?, format),
            Verb::Runs { biz, limit, output } => {
                let biz = biz.map(|biz| self.biz(Some(&biz))).transpose()?;
                show::runs(self, &config, biz.map(|biz| biz.dag.dag_id), limit, output.output)
            }
            Verb::Show { run_id, biz, events, output } => {
                let run = (biz.as_deref(), run_id.as_deref());
                match events {
                    true => history::events(&config, run, output.output),
                    false => show::show(self, &config, run, output.output),
                }
            }
            Verb::Logs { run_id, biz, task, try_number, output } => {
                let run = (biz.as_deref(), run_id.as_deref());
                let wanted = logs::Wanted { run, task: task.as_deref(), try_number };
                logs::logs(&config, &wanted, output.output)
            }
            Verb::Db { verb } => db::db(&config, verb),
            Verb::Check { biz, output } => match biz {
                Some(biz) => {
                    let definition = self.biz(Some(&biz))?;
                    check::check(&[definition], &self.definitions, &config, output.output)
                }
                None => check::check(&self.definitions, &self.definitions, &config, output.output),
            },
        }
    }

    fn backfill(&self, arguments: &BackfillArguments) -> Result<Order, Failure> {
        let dag = self.biz(arguments.biz.as_deref())?.dag;
        let dag_id = dag.dag_id.to_owned();
        let (Some(from), Some(to)) = (arguments.from, arguments.to) else {
            return Ok(Order::CancelBackfill { dag_id });
        };
        Ok(Order::Backfill {
            dag_id,
            from: from.of(dag),
            to: to.of(dag),
            reprocess: match arguments.reprocess {
                ReprocessArgument::None => Reprocess::None,
                ReprocessArgument::Failed => Reprocess::Failed,
                ReprocessArgument::All => Reprocess::All,
            },
            max_active_runs: arguments.max_active,
            conf: arguments.conf.as_deref().map(orders::conf).transpose()?,
            dry_run: arguments.dry_run,
        })
    }

    fn dag_id(&self, name: Option<&str>) -> Result<String, Failure> {
        Ok(self.biz(name)?.dag.dag_id.to_owned())
    }

    /// The DAG of this name, where the program has it.
    fn dag(&self, dag_id: &str) -> Option<&'static crate::dag::Dag> {
        self.definitions.iter().map(|definition| definition.dag).find(|dag| dag.dag_id == dag_id)
    }

    fn names(&self) -> Vec<&'static str> {
        self.definitions.iter().map(|definition| definition.dag.dag_id).collect()
    }

    /// The biz of this name, or the only one.
    fn biz(&self, name: Option<&str>) -> Result<&'static Definition, Failure> {
        let names = self.names();
        match (name, self.definitions.as_slice()) {
            (None, [only]) => Ok(only),
            (None, _) => Err(Failure::usage(format!("which biz? this program has {}", names.join(", ")))),
            (Some(name), all) => all.iter().copied().find(|d| d.dag.dag_id == name).ok_or_else(|| {
                let meant = did_you_mean(name, names.iter().copied());
                Failure::usage(format!(
                    "there is no biz `{name}` in this program; it has {}{meant}",
                    names.join(", ")
                ))
            }),
        }
    }

    fn refuse_twins(&self) -> Result<(), Failure> {
        let mut names = self.names();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Failure::usage(format!(
                "this program has two business services called `{}`: tell them apart by `#[biz(dag_id = \"..\")]`",
                pair[0]
            ))),
            None => Ok(()),
        }
    }
}
