//! `db`: the care of the database.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;
use clap::Subcommand;
use serde::Serialize;

use super::arguments::OutputArgument;
use super::output::{BOLD, ERROR, GOOD, WARNING, line};
use super::show::print_json;
use super::{Exit, Failure, Output};
use crate::config::Config;
use crate::store::{Pruned, StoreError, upkeep};

/// Rows that are removed at once.
const AT_MOST: usize = 10_000;

#[derive(Debug, Subcommand)]
pub(super) enum DbVerb {
    /// Bring the database to the version of this program
    Migrate,
    /// Copy the database, also while it is in use, to a file that is not there yet
    Backup {
        /// The copy; large values go into FILE.blobs
        file: PathBuf,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Check that the database is whole, also while it is in use
    Verify {
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Remove runs that ended long ago; of each biz the last run stays
    Prune {
        /// That ended longer ago than this, such as 30d [default: COWORKS_BIZ_RETENTION, or 90d]
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        older_than: Option<Duration>,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
        /// Also make the file smaller; takes as much room again while it works
        #[arg(long, conflicts_with = "dry_run")]
        compact: bool,
        #[command(flatten)]
        output: OutputArgument,
    },
}

pub(super) fn db(config: &Config, verb: DbVerb) -> Result<Exit, Failure> {
    match verb {
        DbVerb::Migrate => migrate(&config.db),
        DbVerb::Backup { file, output } => backup(&config.db, &file, output.output),
        DbVerb::Verify { output } => verify(&config.db, output.output),
        DbVerb::Prune { older_than, dry_run, compact, output } => {
            let older_than = older_than.or(config.retention).ok_or_else(|| {
                Failure::usage(
                    "every run is kept, as the retention is `off`: say which go with --older-than 30d",
                )
            })?;
            prune(&config.db, older_than, (dry_run, compact), output.output)
        }
    }
}

fn migrate(path: &Path) -> Result<Exit, Failure> {
    let upkeep::Migration { from, to } = upkeep::migrate(path)?;
    let path = path.display();
    match from == to {
        true => line(format!("{path} is of version {to}, which is the one of this program"))?,
        false => line(format!("{GOOD}{path} was of version {from}, and is of version {to}{GOOD:#}"))?,
    }
    Ok(Exit::Done)
}

fn backup(path: &Path, file: &Path, output: Output) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Made<'a> {
        file: &'a Path,
        runs: u64,
        blobs: u64,
        bytes: u64,
    }
    let upkeep::BackUp { runs, blobs, bytes } = upkeep::backup(path, file)?;
    match output {
        Output::Json => print_json(&Made { file, runs, blobs, bytes })?,
        Output::Text => {
            let (file, bytes) = (file.display(), size(bytes));
            line(format!("{GOOD}{file} holds {runs} runs{GOOD:#}, {blobs} large values, {bytes}; checked"))?;
        }
    }
    Ok(Exit::Done)
}

fn verify(path: &Path, output: Output) -> Result<Exit, Failure> {
    let verdict = upkeep::verify(path)?;
    match output {
        Output::Json => print_json(&verdict)?,
        Output::Text => {
            for text in &verdict.damage {
                line(format!("{ERROR}damage{ERROR:#} {text}"))?;
            }
            for text in &verdict.notes {
                line(format!("{WARNING}note{WARNING:#}   {text}"))?;
            }
            if verdict.damage.is_empty() {
                let upkeep::Verdict { version, runs, blobs, .. } = verdict;
                let path = path.display();
                line(format!(
                    "{GOOD}{path} is whole{GOOD:#}: version {version}, {runs} runs, {blobs} large values"
                ))?;
            }
        }
    }
    match verdict.damage.is_empty() {
        true => Ok(Exit::Done),
        false => Err(Failure {
            exit: Exit::Engine,
            message: format!(
                "the database {} is damaged: stop what uses it, move it away with all files of its name, \
                 and put a backup in its place",
                path.display()
            ),
        }),
    }
}

fn prune(
    path: &Path,
    older_than: Duration,
    (dry_run, compact): (bool, bool),
    output: Output,
) -> Result<Exit, Failure> {
    let before = chrono::Duration::from_std(older_than)
        .ok()
        .and_then(|age| Utc::now().checked_sub_signed(age))
        .ok_or_else(|| Failure::usage("--older-than is before all time"))?;
    if dry_run {
        let pruned = upkeep::prunable(path, before)?;
        return say(output, &pruned, format_args!("{BOLD}would be removed{BOLD:#}"), "");
    }
    let mut writer = upkeep::existing(path).map_err(|error| {
        let more = match error {
            StoreError::Locked { .. } => "; a process that stays up removes old runs itself",
            _ => "",
        };
        Failure { exit: Exit::Engine, message: format!("{error}{more}") }
    })?;
    let mut all = Pruned { more: true, ..Pruned::default() };
    while all.more {
        let Pruned { runs, rows, blobs, more } = writer.prune(before, AT_MOST)?;
        all = Pruned { runs: all.runs + runs, rows: all.rows + rows, blobs: all.blobs + blobs, more };
    }
    all.blobs += writer.sweep()?;
    if compact {
        writer.compact()?;
    }
    let free = match writer.free()? {
        0 => String::new(),
        free => format!("; {} of the file are free for what comes", size(free)),
    };
    say(output, &all, format_args!("{GOOD}removed{GOOD:#}"), &free)
}

fn say(output: Output, pruned: &Pruned, what: std::fmt::Arguments, more: &str) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Removed {
        runs: u64,
        rows: u64,
        blobs: u64,
    }
    let &Pruned { runs, rows, blobs, .. } = pruned;
    match output {
        Output::Json => print_json(&Removed { runs, rows, blobs })?,
        Output::Text => line(format!("{what}: {runs} runs with {rows} rows, {blobs} large values{more}"))?,
    }
    Ok(Exit::Done)
}

/// A number of bytes as people read it.
fn size(bytes: u64) -> String {
    match bytes {
        ..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
