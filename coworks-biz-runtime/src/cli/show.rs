//! `show` and `runs`: what the database remembers.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Local, SecondsFormat, Utc};
use serde::Serialize;

use super::output::{BOLD, DIM, ERROR, GOOD, WARNING, duration, line, look, plain, say, table, tame};
use super::story::{World, waits_for};
use super::{App, Exit, Failure, Output};
use crate::config::{Config, DATABASE};
use crate::run::{InstanceName, RunState, State};
use crate::store::{Reader, RunRecord, TaskRecord};
use crate::task::DagRun;
use crate::value::{RETURN_VALUE, excerpt};

/// A run as it is printed as JSON.
#[derive(Serialize)]
struct RunJson<'a> {
    biz: &'a str,
    run_id: &'a str,
    state: &'a str,
    logical_date: String,
    start_date: Option<String>,
    end_date: Option<String>,
    tasks: Vec<TaskJson<'a>>,
}

#[derive(Serialize)]
struct TaskJson<'a> {
    task_id: &'a str,
    map_index: i32,
    state: Option<&'a str>,
    try_number: u32,
    start_date: Option<String>,
    end_date: Option<String>,
    xcom: serde_json::Map<String, serde_json::Value>,
    error: Option<&'a str>,
}

/// A run: its biz and its run id, each as far as it is given.
pub(super) type Named<'a> = (Option<&'a str>, Option<&'a str>);

pub(super) fn show(app: &App, config: &Config, run: Named, output: Output) -> Result<Exit, Failure> {
    let reader = Reader::open(&config.db)?;
    let run = find(&reader, run)?;
    let mut world = World::look(config, reader.dags()?);
    tell_of_trouble(&world);
    world.learn(&reader, &reader.tasks(run.number)?)?;
    print(app, &reader, &run, &world, output)?;
    if run.state == RunState::Running && !world.is_served() && output == Output::Text {
        let again = command(config, &format!("run {} --resume '{}'", run.dag_id, run.run_id));
        say(format!("if its process is gone, go on with: {again}"));
    }
    Ok(Exit::Done)
}

/// What holds up more than one run.
fn tell_of_trouble(world: &World) {
    if let Some(trouble) = world.trouble() {
        say(format!("{WARNING}warning:{WARNING:#} {trouble}"));
    }
    for service in world.services() {
        say(format!("{WARNING}note:{WARNING:#} {service}"));
    }
}

#[derive(Serialize)]
struct RunLine<'a> {
    biz: &'a str,
    run_id: &'a str,
    run_type: &'a str,
    state: &'a str,
    logical_date: String,
    queued_at: String,
    start_date: Option<String>,
    end_date: Option<String>,
    /// Why it is in this state.
    why: Option<&'a str>,
}

pub(super) fn runs(
    app: &App,
    config: &Config,
    dag_id: Option<&str>,
    limit: u32,
    output: Output,
) -> Result<Exit, Failure> {
    let reader = Reader::open(&config.db)?;
    let mut world = World::look(config, reader.dags()?);
    tell_of_trouble(&world);
    let runs = reader.runs(dag_id, limit)?;
    let why = runs.iter().map(|run| {
        let tasks = if run.state == RunState::Success { Vec::new() } else { reader.tasks(run.number)? };
        world.learn(&reader, &tasks)?;
        Ok(world.why(run, &tasks, app.dag(&run.dag_id)))
    });
    let why = why.collect::<Result<Vec<_>, Failure>>()?;
    if output == Output::Json {
        let lines = runs.iter().zip(&why).map(|(run, why)| RunLine {
            biz: &run.dag_id,
            run_id: &run.run_id,
            run_type: run.run_type.as_str(),
            state: run.state.as_str(),
            logical_date: iso(run.logical_date),
            queued_at: iso(run.queued_at),
            start_date: run.start_date.map(iso),
            end_date: run.end_date.map(iso),
            why: Some(why.as_str()).filter(|why| !why.is_empty()),
        });
        print_json(&lines.collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    let heads = ["BIZ", "STATE", "DURATION", "RUN ID"].map(str::to_owned).to_vec();
    let cells = runs.iter().map(|run| {
        let took = took(run);
        let took = took.map_or_else(|| "-".to_owned(), duration);
        let state = if run.held.is_some() { "held" } else { run.state.as_str() };
        vec![run.dag_id.clone(), state.to_owned(), took, run.run_id.clone()]
    });
    let rows = table(&std::iter::once(heads).chain(cells).collect::<Vec<_>>(), &[2]);
    line(format!("  {DIM}{}{DIM:#}", rows[0].join("  ")))?;
    for ((row, run), why) in rows[1..].iter().zip(&runs).zip(&why) {
        let (style, sign) = match run.state {
            _ if run.held.is_some() => (WARNING, '‖'),
            RunState::Success => (GOOD, '✓'),
            RunState::Failed => (ERROR, '✗'),
            RunState::Running => (BOLD, '▸'),
            RunState::Queued => (DIM, '·'),
        };
        let why = if why.is_empty() { String::new() } else { format!("  {DIM}{why}{DIM:#}") };
        line(format!("{style}{sign}{style:#} {}{why}", row.join("  ")))?;
    }
    Ok(Exit::Done)
}

/// What `run` prints at its end.
pub(super) fn finished(app: &App, config: &Config, run: &DagRun, output: Output) -> Result<(), Failure> {
    let reader = Reader::open(&config.db)?;
    match reader.named(Some(run.dag_id), &run.run_id)?.pop() {
        Some(record) => {
            let world = World::look(config, Vec::new());
            print(app, &reader, &record, &world, output)
        }
        None => {
            let message = format!("run `{}` is gone from the database", run.run_id);
            Err(Failure { exit: Exit::Engine, message })
        }
    }
}

pub(super) fn find(reader: &Reader, (biz, run_id): Named) -> Result<RunRecord, Failure> {
    let last = || Ok::<_, Failure>(reader.runs(biz, 1)?.into_iter().next());
    let Some(run_id) = run_id else {
        let nothing = biz.map(|biz| format!("there is no run of biz `{biz}` in the database"));
        return last()?
            .ok_or_else(|| Failure::usage(nothing.unwrap_or("nothing has run here yet".to_owned())));
    };
    let mut runs = reader.named(biz, run_id)?;
    match (runs.pop(), runs.as_slice()) {
        (Some(only), []) => Ok(only),
        (Some(one), others) => {
            let all = others.iter().chain([&one]).map(|run| run.dag_id.as_str()).collect::<Vec<_>>();
            let all = all.join(", ");
            Err(Failure::usage(format!("run `{run_id}` is one of each of {all}: say which with --biz")))
        }
        (None, _) => {
            let last = last()?.map(|run| format!("; the last one is `{}`", run.run_id)).unwrap_or_default();
            Err(Failure::usage(format!("there is no run `{run_id}` in the database{last}")))
        }
    }
}

fn print(app: &App, reader: &Reader, run: &RunRecord, world: &World, output: Output) -> Result<(), Failure> {
    let records = reader.tasks(run.number)?;
    let tasks = in_order(app, run, records.clone());
    match output {
        Output::Text => {
            let why = world.why(run, &records, app.dag(&run.dag_id));
            let about = |row: &Row| match (&row.record, app.dag(&run.dag_id)) {
                (Some(record), dag) if record.state.is_some() => world.what(run, record, dag),
                (_, Some(dag)) if !run.state.is_final() => waits_for(dag, &row.task_id, &records),
                _ => None,
            };
            line(text(run, &tasks, &about, &why))
        }
        Output::Json => {
            let mut xcoms = XComs::new();
            for (task, map_index, key, json) in reader.xcoms(run.number)? {
                let value = serde_json::from_str(json.as_str()).unwrap_or(serde_json::Value::Null);
                xcoms.entry((task, map_index)).or_default().insert(key, value);
            }
            let json = RunJson {
                biz: &run.dag_id,
                run_id: &run.run_id,
                state: run.state.as_str(),
                logical_date: iso(run.logical_date),
                start_date: run.start_date.map(iso),
                end_date: run.end_date.map(iso),
                tasks: tasks
                    .iter()
                    .map(|task| TaskJson {
                        task_id: &task.task_id,
                        map_index: task.map_index,
                        state: task.state().map(State::as_str),
                        try_number: task.try_number(),
                        start_date: task.record.as_ref().and_then(|r| r.start_date).map(iso),
                        end_date: task.record.as_ref().and_then(|r| r.end_date).map(iso),
                        xcom: task.xcom(&mut xcoms),
                        error: task.record.as_ref().and_then(|r| r.error.as_deref()),
                    })
                    .collect(),
            };
            print_json(&json)
        }
    }
}

pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Failure { exit: Exit::Engine, message: format!("this cannot be printed: {e}") })?;
    plain(text)
}

/// A task of a run, reached or not.
struct Row {
    task_id: String,
    map_index: i32,
    record: Option<TaskRecord>,
}

/// The XComs of a run, by task and map index.
type XComs = HashMap<(String, i32), serde_json::Map<String, serde_json::Value>>;

impl Row {
    fn name(&self) -> InstanceName<'_> {
        InstanceName(&self.task_id, self.map_index)
    }

    /// Takes what it has pushed. The items of a list, which are stored one by one, are its output.
    fn xcom(&self, xcoms: &mut XComs) -> serde_json::Map<String, serde_json::Value> {
        let mut take = |index| xcoms.remove(&(self.task_id.clone(), index)).unwrap_or_default();
        let mut xcom = take(self.map_index);
        let outcome = self.record.as_ref().and_then(|record| record.outcome);
        if let (Some(items), false) = (outcome, xcom.contains_key("arm")) {
            let items = (0..items as i32).map(|index| take(index).remove(RETURN_VALUE).unwrap_or_default());
            xcom.insert(RETURN_VALUE.to_owned(), items.collect());
        }
        xcom
    }

    fn state(&self) -> Option<State> {
        self.record.as_ref().and_then(|record| record.state)
    }

    fn try_number(&self) -> u32 {
        self.record.as_ref().map_or(0, |record| record.try_number)
    }
}

/// In the order of the DAG, where this program has it; tasks that were not reached among them.
fn in_order(app: &App, run: &RunRecord, records: Vec<TaskRecord>) -> Vec<Row> {
    let row = |record: TaskRecord| Row {
        task_id: record.task_id.clone().into_owned(),
        map_index: record.map_index,
        record: Some(record),
    };
    let Some(definition) = app.definitions.iter().find(|d| d.dag.dag_id == run.dag_id) else {
        return records.into_iter().map(row).collect();
    };
    let mut rows = Vec::new();
    let mut records: HashMap<String, Vec<TaskRecord>> =
        records.into_iter().fold(HashMap::new(), |mut by_task, record| {
            by_task.entry(record.task_id.clone().into_owned()).or_default().push(record);
            by_task
        });
    for &task in definition.dag.order {
        let task_id = definition.dag.tasks[task as usize].task_id;
        match records.remove(task_id) {
            Some(records) => rows.extend(records.into_iter().map(row)),
            None => rows.push(Row { task_id: task_id.to_owned(), map_index: -1, record: None }),
        }
    }
    // Tasks that the DAG no longer has.
    let mut gone: Vec<_> = records.into_values().flatten().map(row).collect();
    gone.sort_by(|a, b| a.task_id.cmp(&b.task_id));
    rows.append(&mut gone);
    rows
}

/// No error is shown longer than that: in JSON it is whole.
const LONGEST: usize = 4_000;

/// More instances of one task than this are counted, and only what stands out is shown of each.
pub(super) const LISTED: usize = 20;

/// The rows that are shown one by one, and what is said in front of them of the task they are of.
fn shown(rows: &[Row]) -> Vec<(Option<String>, Vec<&Row>)> {
    rows.chunk_by(|a, b| a.task_id == b.task_id)
        .map(|instances| match instances {
            few if few.len() <= LISTED => (None, few.iter().collect()),
            many => {
                let stands_out = |row: &&Row| {
                    !matches!(
                        row.state(),
                        None | Some(State::Success | State::Skipped | State::UpstreamFailed | State::Queued)
                    )
                };
                (Some(counts(many)), many.iter().filter(stands_out).take(LISTED).collect())
            }
        })
        .collect()
}

/// How many instances of a task are in which state.
fn counts(instances: &[Row]) -> String {
    let mut counts: Vec<(Option<State>, usize)> = Vec::new();
    for row in instances {
        match counts.iter_mut().find(|(state, _)| *state == row.state()) {
            Some((_, count)) => *count += 1,
            None => counts.push((row.state(), 1)),
        }
    }
    let states = counts.iter().map(|(state, count)| {
        let (style, _) = look(*state);
        format!("{style}{count} {}{style:#}", state.map_or("not reached", State::as_str))
    });
    let states = states.collect::<Vec<_>>().join(", ");
    format!("  {} {DIM}×{DIM:#} {}  {states}", instances[0].task_id, instances.len())
}

fn text(run: &RunRecord, rows: &[Row], about: &dyn Fn(&Row) -> Option<String>, why: &str) -> String {
    let shown = shown(rows);
    let heads = ["TASK", "STATE", "TRIES", "DURATION"].map(str::to_owned).to_vec();
    let cells = shown.iter().flat_map(|(_, rows)| rows).map(|row| {
        let took = row.record.as_ref().and_then(|r| (r.end_date? - r.start_date?).to_std().ok());
        let tries = row.try_number();
        vec![
            row.name().to_string(),
            row.state().map_or("-", State::as_str).to_owned(),
            if tries == 0 { "-".to_owned() } else { tries.to_string() },
            took.map_or_else(|| "-".to_owned(), duration),
        ]
    });
    let lines = table(&std::iter::once(heads).chain(cells).collect::<Vec<_>>(), &[2, 3]);
    let mut text = format!("  {DIM}{}{DIM:#}\n", lines[0].join("  "));
    let mut lines = lines[1..].iter();
    for (counts, rows) in &shown {
        if let Some(counts) = counts {
            let _ = writeln!(text, "{counts}");
        }
        for (row, line) in rows.iter().zip(&mut lines) {
            let (style, sign) = look(row.state());
            let [name, state, tries, took] = line.as_slice() else { continue };
            let _ = writeln!(text, "{style}{sign}{style:#} {name}  {style}{state}{style:#}  {tries}  {took}");
            if let Some(record) = &row.record {
                details(&mut text, record);
            }
            if let Some(about) = about(row) {
                let _ = writeln!(text, "    {WARNING}{about}{WARNING:#}");
            }
        }
    }
    let took = took(run).map(duration);
    let (style, verb) = match run.state {
        _ if run.held.is_some() => (WARNING, "is held"),
        RunState::Success => (GOOD, "succeeded"),
        RunState::Failed => (ERROR, "failed"),
        RunState::Running => (WARNING, "has not ended"),
        RunState::Queued => (WARNING, "has not begun"),
    };
    let took = took.map(|took| format!(" in {took}")).unwrap_or_default();
    let _ = write!(text, "\n{BOLD}{}{BOLD:#} {style}{verb}{style:#}{took}", run.dag_id);
    // The last tasks decide how a run ends; what failed before them is told all the same.
    let count = |state| rows.iter().filter(|row| row.state() == Some(state)).count();
    let (failed, blocked) = (count(State::Failed), count(State::UpstreamFailed));
    if failed > 0 {
        let blocked = if blocked > 0 { format!(", {blocked} not run for it") } else { String::new() };
        let _ = write!(text, ", {ERROR}{failed} of {} tasks failed{blocked}{ERROR:#}", rows.len());
    }
    if matches!(run.state, RunState::Queued) || run.held.is_some() || run.stopped.is_some() {
        let _ = write!(text, ": {WARNING}{why}{WARNING:#}");
    }
    let _ = write!(text, "\n{DIM}run {} of {}{DIM:#}", run.run_id, local(run.logical_date));
    text
}

/// How long a run took.
fn took(run: &RunRecord) -> Option<std::time::Duration> {
    (run.end_date? - run.start_date?).to_std().ok()
}

/// What is to be said of a task instance beside its state.
fn details(text: &mut String, record: &TaskRecord) {
    let (style, _) = look(record.state);
    if let Some(error) = &record.error {
        let error = match error.as_str() {
            "" => "(it gives no reason)".into(),
            error => tame(&excerpt(error, LONGEST)).into_owned(),
        };
        let _ = writeln!(text, "    {style}{error}{style:#}");
    }
    if record.interruptions > 0 {
        let times = match record.interruptions {
            1 => "once".to_owned(),
            n => format!("{n} times"),
        };
        let _ = writeln!(text, "    {DIM}cut off {times} by the end of its process{DIM:#}");
    }
}

/// A command of this program, to be recommended: with the database that it is about.
pub(super) fn command(config: &Config, what: &str) -> String {
    let db = match config.db.as_path() {
        db if db == Path::new(DATABASE) => String::new(),
        db => format!(" --db '{}'", db.display()),
    };
    format!("{} {what}{db}", program())
}

/// How this program is called, for commands that it recommends.
pub(super) fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "<program>".to_owned())
}

pub(super) fn iso(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// A moment as it is said in passing: without its day, where that is today.
pub(super) fn brief(at: DateTime<Utc>) -> String {
    let (at, now) = (at.with_timezone(&Local), Local::now());
    let form = if at.date_naive() == now.date_naive() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    at.format(form).to_string()
}

pub(super) fn local(at: DateTime<Utc>) -> String {
    at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S%.3f %:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(task_id: &str, states: impl IntoIterator<Item = State>) -> Vec<Row> {
        let record = |(map_index, state)| TaskRecord {
            run: 1,
            task_id: task_id.to_owned().into(),
            map_index,
            state: Some(state),
            try_number: 1,
            tries_before: 0,
            interruptions: 0,
            generation: 0,
            outcome: None,
            start_date: None,
            end_date: None,
            due_at: None,
            waits_for: None,
            error: None,
        };
        let row = |record: TaskRecord| Row {
            task_id: record.task_id.clone().into_owned(),
            map_index: record.map_index,
            record: Some(record),
        };
        (0..).zip(states).map(record).map(row).collect()
    }

    #[test]
    fn of_many_instances_only_those_that_stand_out_are_listed() {
        let few = rows("few", [State::Success; 20]);
        assert_eq!(shown(&few)[0].1.len(), 20);
        let mut many =
            rows("many", (0..50).map(|n| if n % 20 == 3 { State::Failed } else { State::Success }));
        many.extend(rows("other", [State::Queued]));
        let shown = shown(&many);
        let names = shown.iter().map(|(_, rows)| rows.iter().map(|row| row.name().to_string()).collect());
        assert_eq!(
            names.collect::<Vec<Vec<_>>>(),
            [vec!["many[3]", "many[23]", "many[43]"], vec!["other[0]"]]
        );
        let counts = anstream::adapter::strip_str(shown[0].0.as_deref().unwrap()).to_string();
        assert_eq!(counts, "  many × 50  47 success, 3 failed");
    }

    #[test]
    fn the_items_of_a_list_are_its_output() {
        let mut list = rows("list", [State::Success]).remove(0);
        list.map_index = -1;
        list.record.as_mut().unwrap().outcome = Some(2);
        let of = |value: u32| [(RETURN_VALUE.to_owned(), value.into())].into_iter().collect();
        let mut xcoms = XComs::new();
        for (index, value) in [(0, 7), (1, 8), (2, 9)] {
            xcoms.insert(("list".to_owned(), index), of(value));
        }
        assert_eq!(list.xcom(&mut xcoms)[RETURN_VALUE], serde_json::json!([7, 8]));
    }
}
