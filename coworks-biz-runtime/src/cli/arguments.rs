//! What the command line may say.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use super::db::DbVerb;
use super::moment::Moment;

#[derive(Debug, Parser)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) verb: Verb,

    /// The database file [env: COWORKS_BIZ_DB; default: .coworks-biz/biz.db]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) db: Option<PathBuf>,

    /// Say only warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,

    /// Say more: also what tasks log at debug level
    #[arg(short, long, global = true)]
    pub(super) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Execute one run in this process, and wait for it
    Run(RunArguments),
    /// Schedule and execute all of them, until it is told to stop
    Serve(ServeArguments),
    /// Make a run, for the process that serves to execute
    Trigger {
        /// The biz; may be left out where there is only one
        biz: Option<String>,
        /// What the run is triggered with: JSON, or @FILE
        #[arg(long, value_name = "JSON")]
        conf: Option<String>,
        /// The moment the run stands for: 2026-01-31, in the zone of the biz, or 2026-01-31T06:00:00Z; now when it is left out
        #[arg(long, value_name = "DATE")]
        logical_date: Option<Moment>,
        /// A second trigger with the same key makes no second run, and is answered with the first
        #[arg(long, value_name = "KEY", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        idempotency_key: Option<String>,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Start nothing of a biz until it is unpaused; what runs comes to its end
    Pause {
        /// The biz; may be left out where there is only one
        biz: Option<String>,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Go on with a biz that was paused
    Unpause {
        /// The biz; may be left out where there is only one
        biz: Option<String>,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Run the ticks of a time that has passed
    Backfill(BackfillArguments),
    /// Run what has failed again, or everything from some tasks on, and what comes after it
    Retry {
        /// The run id
        run_id: String,
        /// From this task on; in a loop from all its instances, or one: `send[3]`
        #[arg(long, value_name = "TASK", conflicts_with = "failed")]
        from: Vec<String>,
        /// What has failed, and what could not run for it: the default
        #[arg(long)]
        failed: bool,
        /// Of this biz, where runs of several have the same run id
        #[arg(long)]
        biz: Option<String>,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// End a run that has not ended: what runs is cut off, teardowns still run
    Cancel {
        /// The run id
        run_id: String,
        /// Of this biz, where runs of several have the same run id
        #[arg(long)]
        biz: Option<String>,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Say how a task of a run has ended, whatever it did
    Mark {
        /// The run id
        run_id: String,
        /// The task; in a loop one instance: `send[3]`
        task: String,
        /// How it has ended
        #[arg(value_enum)]
        state: MarkArgument,
        /// Of this biz, where runs of several have the same run id
        #[arg(long)]
        biz: Option<String>,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// List the business services of this program
    List {
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Draw the DAG of a biz
    Graph {
        /// The biz; may be left out where there is only one
        biz: Option<String>,
        /// The form of the drawing
        #[arg(short, long, value_enum, default_value_t)]
        format: GraphFormat,
    },
    /// List the runs that began last
    Runs {
        /// Only of this biz
        biz: Option<String>,
        /// How many
        #[arg(short, long, default_value_t = 20, value_name = "N")]
        limit: u32,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Show a run: its tasks, their states, tries, durations and errors
    Show {
        /// The run id; the last run when it is left out
        run_id: Option<String>,
        /// Of this biz, where runs of several have the same run id
        #[arg(long)]
        biz: Option<String>,
        /// Everything that came about, in order
        #[arg(long)]
        events: bool,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Print what the tasks of a run have logged, attempt by attempt as they ended
    Logs {
        /// The run id; the last run when it is left out
        run_id: Option<String>,
        /// Of this biz, where runs of several have the same run id
        #[arg(long)]
        biz: Option<String>,
        /// Only of this task; in a loop all its instances, or one: `send[3]`
        #[arg(short, long)]
        task: Option<String>,
        /// Only of this try
        #[arg(long = "try", value_name = "N")]
        try_number: Option<u32>,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Check what can be checked before anything runs: secrets, tokens, schedules
    Check {
        /// The biz; all of them when it is left out
        biz: Option<String>,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Care for the database: migrate, backup, verify, prune
    #[command(arg_required_else_help = true)]
    Db {
        #[command(subcommand)]
        verb: DbVerb,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct RunArguments {
    /// The biz; may be left out where there is only one
    pub(super) biz: Option<String>,
    /// What the run is triggered with: JSON, or @FILE
    #[arg(long, value_name = "JSON", conflicts_with = "resume")]
    pub(super) conf: Option<String>,
    /// The moment the run stands for: 2026-01-31, in the zone of the biz, or 2026-01-31T06:00:00Z; now when it is left out
    #[arg(long, value_name = "DATE", conflicts_with = "resume")]
    pub(super) logical_date: Option<Moment>,
    /// Go on with a run that was stopped or killed
    #[arg(long, value_name = "RUN_ID")]
    pub(super) resume: Option<String>,
    /// Host the services that this program brings along, with an S3 server, in this process
    #[arg(long)]
    pub(super) local: bool,
    /// After this time, such as 10m, let what runs come to its end, and leave the run to be resumed
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(super) timeout: Option<Duration>,
    /// How many tasks run at once [env: COWORKS_BIZ_PARALLELISM; default: 32]
    #[arg(long, value_name = "N")]
    pub(super) parallelism: Option<usize>,
    #[command(flatten)]
    pub(super) output: OutputArgument,
}

#[derive(Debug, clap::Args)]
pub(super) struct ServeArguments {
    /// Where another process has the database, wait until it is gone, and take its place
    #[arg(long)]
    pub(super) standby: bool,
    /// Host the services that this program brings along, with an S3 server, in this process
    #[arg(long)]
    pub(super) local: bool,
    /// How many tasks run at once [env: COWORKS_BIZ_PARALLELISM; default: 32]
    #[arg(long, value_name = "N")]
    pub(super) parallelism: Option<usize>,
}

#[derive(Debug, clap::Args)]
pub(super) struct BackfillArguments {
    /// The biz; may be left out where there is only one
    pub(super) biz: Option<String>,
    /// The first moment, included: 2026-01-31, in the zone of the biz, or 2026-01-31T06:00:00Z
    #[arg(long, value_name = "DATE", required_unless_present = "cancel")]
    pub(super) from: Option<Moment>,
    /// The last moment, included
    #[arg(long, value_name = "DATE", required_unless_present = "cancel")]
    pub(super) to: Option<Moment>,
    /// Which runs that are there already are run again
    #[arg(long, value_enum, default_value_t)]
    pub(super) reprocess: ReprocessArgument,
    /// How many of its runs are under way at once
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(super) max_active: u32,
    /// What each run is triggered with: JSON, or @FILE
    #[arg(long, value_name = "JSON")]
    pub(super) conf: Option<String>,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    /// End the backfill that is under way: its runs that have not begun do not
    #[arg(long, conflicts_with_all = ["from", "to", "dry_run"])]
    pub(super) cancel: bool,
    #[command(flatten)]
    pub(super) output: OutputArgument,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ReprocessArgument {
    /// None: only ticks without a run
    #[default]
    None,
    /// Those that have failed
    Failed,
    /// All that have ended
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum MarkArgument {
    Success,
    Failed,
}

#[derive(Debug, clap::Args)]
pub(super) struct OutputArgument {
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum GraphFormat {
    /// For reading here
    #[default]
    Ascii,
    /// For Graphviz
    Dot,
    /// For Markdown
    Mermaid,
}
