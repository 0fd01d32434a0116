//! `list` and `check`: what this program has, and whether it can run.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::output::{BOLD, DIM, ERROR, GOOD, WARNING, line, table};
use super::show::{iso, print_json};
use super::{App, Exit, Failure, Output};
use crate::config::{self, Config, Limits};
use crate::dag::Dag;
use crate::error::did_you_mean;
use crate::schedule::Timetable;
use crate::store::Reader;
use crate::task::Definition;
use crate::tech::Token;

#[derive(Serialize)]
struct BizJson {
    biz: &'static str,
    description: &'static str,
    schedule: Option<String>,
    timezone: &'static str,
    paused: bool,
    next: Option<String>,
    tags: &'static [&'static str],
    owner: &'static str,
    tasks: usize,
    source: String,
}

pub(super) fn list(app: &App, config: &Config, output: Output) -> Result<Exit, Failure> {
    let now = Utc::now();
    // Where nothing has run yet, nothing is paused.
    let dags = Reader::open(&config.db).and_then(|reader| reader.dags()).unwrap_or_default();
    let paused = |dag: &Dag| dags.iter().any(|record| record.dag_id == dag.dag_id && record.paused);
    let next = |dag: &Dag| match Timetable::of(dag) {
        Ok(timetable) => Ok(timetable.next(now)),
        Err(e) => Err(Failure::usage(e.to_string())),
    };
    if output == Output::Json {
        let list = app.definitions.iter().map(|definition| {
            let dag = definition.dag;
            Ok(BizJson {
                biz: dag.dag_id,
                description: dag.description,
                schedule: dag.schedule.map(|schedule| schedule.to_string()),
                timezone: dag.timezone,
                paused: paused(dag),
                next: next(dag)?.map(iso),
                tags: dag.tags,
                owner: dag.owner,
                tasks: dag.tasks.len(),
                source: format!("{}:{}", dag.source.file, dag.source.line),
            })
        });
        print_json(&list.collect::<Result<Vec<_>, Failure>>()?)?;
        return Ok(Exit::Done);
    }
    let mut rows = vec![["BIZ", "SCHEDULE", "NEXT TICK", "TASKS", "DESCRIPTION"].map(str::to_owned).to_vec()];
    for definition in &app.definitions {
        let dag = definition.dag;
        rows.push(vec![
            dag.dag_id.to_owned(),
            dag.schedule.map_or_else(|| "-".to_owned(), |schedule| schedule.to_string()),
            match next(dag)? {
                _ if paused(dag) => "paused".to_owned(),
                None => "-".to_owned(),
                Some(at) => tick(dag, at),
            },
            dag.tasks.len().to_string(),
            dag.description.lines().next().unwrap_or_default().to_owned(),
        ]);
    }
    for (index, row) in table(&rows, &[3]).iter().enumerate() {
        let text = row.join("  ");
        match index {
            0 => line(format!("{DIM}{text}{DIM:#}"))?,
            _ => line(text)?,
        }
    }
    Ok(Exit::Done)
}

/// A tick as people read it: in the time zone of its schedule.
fn tick(dag: &Dag, at: DateTime<Utc>) -> String {
    const FORM: &str = "%Y-%m-%d %H:%M:%S %Z";
    match dag.timezone.parse::<chrono_tz::Tz>() {
        Ok(zone) => at.with_timezone(&zone).format(FORM).to_string(),
        Err(_) => at.format(FORM).to_string(),
    }
}

/// Something that `check` found.
#[derive(Serialize)]
struct Finding {
    /// `None` where it is of the settings.
    biz: Option<&'static str>,
    /// `error` where the biz cannot run, else `note`.
    level: &'static str,
    source: String,
    text: String,
}

/// Checks these, of all that the program has.
pub(super) fn check(
    definitions: &[&'static Definition],
    all: &[&'static Definition],
    config: &Config,
    output: Output,
) -> Result<Exit, Failure> {
    let findings = definitions.iter().flat_map(|definition| examine(definition, config));
    let unknown = config::unknown_settings().into_iter().map(|text| Finding {
        biz: None,
        level: "note",
        source: "environment".to_owned(),
        text,
    });
    let findings: Vec<_> = findings.chain(of_nobody(all, config)).chain(unknown).collect();
    let broken = findings.iter().any(|finding| finding.level == "error");
    match output {
        Output::Json => print_json(&findings)?,
        Output::Text => {
            for Finding { biz, level, source, text } in &findings {
                let style = if *level == "error" { ERROR } else { WARNING };
                let biz = biz.map(|biz| format!(" {BOLD}{biz}{BOLD:#}")).unwrap_or_default();
                line(format!("{style}{level:<5}{style:#}{biz} {DIM}{source}{DIM:#} {text}"))?;
            }
            for limit in limits(definitions, config) {
                line(format!("{DIM}limit{DIM:#} {limit}"))?;
            }
            let broken: HashSet<_> = findings.iter().filter(|f| f.level == "error").map(|f| f.biz).collect();
            let (all, can) = (definitions.len(), definitions.len() - broken.len());
            line(format!("{GOOD}{can} of {all} can run{GOOD:#}"))?;
        }
    }
    Ok(if broken { Exit::Refused } else { Exit::Done })
}

fn examine(definition: &'static Definition, config: &Config) -> Vec<Finding> {
    let dag = definition.dag;
    let finding = |level, line: u32, text: String| Finding {
        biz: Some(dag.dag_id),
        level,
        source: format!("{}:{line}", dag.source.file),
        text,
    };
    let mut findings = Vec::new();
    if let Err(e) = Timetable::of(dag) {
        findings.push(finding("error", dag.source.line, e.to_string()));
    }
    for missing in definition.missing(&config.secrets, config.directory.is_some()) {
        findings.push(finding("error", missing.line, missing.text));
    }
    for missing in definition.unanswered(&config.secrets) {
        findings.push(finding("note", missing.line, format!("a function asks for it: {}", missing.text)));
    }
    for (task, call) in definition.calls() {
        if let Token::Literal(_) = call.token {
            let text =
                format!("the token of `{}` is in the source; `secret(\"NAME\")` keeps it out", task.task_id);
            findings.push(finding("note", task.line, text));
        }
    }
    if config.smtp.is_none() && dag.tasks.iter().any(|task| task.options.wants_mail()) {
        let text = "e-mail is asked for, and COWORKS_SMTP_URL is not set: none is sent";
        findings.push(finding("note", dag.source.line, text.to_owned()));
    }
    for missing in crate::engine::missing_pools(definition, &config.pools) {
        findings.push(finding("error", dag.source.line, missing));
    }
    for (from, to) in redundant(dag) {
        let (from, task) = (&dag.tasks[from as usize], &dag.tasks[to as usize]);
        let text = format!("`{} >> {}` follows from the other edges", from.task_id, task.task_id);
        findings.push(finding("note", task.line, text));
    }
    findings
}

/// The services whose limits are set, and that nobody calls.
fn of_nobody(all: &[&'static Definition], config: &Config) -> Vec<Finding> {
    let called: BTreeSet<_> = all.iter().flat_map(|definition| definition.services()).collect();
    let named = config.services.named.keys().filter(|name| !called.contains(*name));
    let finding = |name: &String| {
        let meant = did_you_mean(name, called.iter().map(String::as_str));
        let text = format!("no call of this program is of the service `{name}`{meant}");
        Finding { biz: None, level: "note", source: config::FILE.to_owned(), text }
    };
    named.map(finding).collect()
}

/// A sentence for each service that has limits of its own, and for all others.
fn limits(definitions: &[&'static Definition], config: &Config) -> Vec<String> {
    let called: BTreeSet<_> = definitions.iter().flat_map(|definition| definition.services()).collect();
    let (named, others): (Vec<_>, Vec<_>) =
        called.into_iter().partition(|name| config.services.named.contains_key(name));
    let mut sentences: Vec<_> =
        named.iter().map(|name| format!("`{name}`: {}", sentence(config.services.of(name)))).collect();
    if !others.is_empty() {
        let every = if named.is_empty() { "every service" } else { "every other service" };
        sentences.push(format!("{every}: {}", sentence(config.services.default)));
    }
    sentences
}

fn sentence(Limits { concurrency, rate }: Limits) -> String {
    let at_once = concurrency.map(|calls| format!("at most {calls} calls at once"));
    let begin = rate.map(|rate| {
        let per = humantime::format_duration(rate.per);
        format!("{} begin in {per}", rate.calls)
    });
    match (at_once, begin) {
        (Some(at_once), Some(begin)) => format!("{at_once}, and {begin}"),
        (Some(only), None) => only,
        (None, Some(begin)) => format!("any number of calls at once, and {begin}"),
        (None, None) => "no limit".to_owned(),
    }
}

/// The edges that a longer way makes unnecessary.
fn redundant(dag: &Dag) -> Vec<(u32, u32)> {
    let mut redundant = Vec::new();
    for (to, task) in dag.tasks.iter().enumerate() {
        // An input is no order that somebody wrote.
        let written = || task.upstream.iter().copied().filter(|from| !task.inputs.contains(from));
        for from in written().filter(|_| task.upstream.len() > 1) {
            let others = task.upstream.iter().copied().filter(|&other| other != from);
            if reaches(dag, from, others.collect()) {
                redundant.push((from, to as u32));
            }
        }
    }
    redundant
}

/// Whether `from` is above one of these tasks.
fn reaches(dag: &Dag, from: u32, mut open: Vec<u32>) -> bool {
    let mut seen = HashSet::new();
    while let Some(task) = open.pop() {
        for &above in dag.tasks[task as usize].upstream {
            if above == from {
                return true;
            }
            if seen.insert(above) {
                open.push(above);
            }
        }
    }
    false
}
