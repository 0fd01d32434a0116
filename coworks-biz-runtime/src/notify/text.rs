//! A notice as people read it.

use std::fmt::{Display, Write};

use chrono::{DateTime, Utc};

use super::{Notice, RunFailed, Subject, TaskNotice};

/// Of a failed run, no more tasks than this are listed.
const TASKS: usize = 20;

/// The subject of a mail, in one line.
pub(super) fn subject(notice: &Notice) -> String {
    let text = match &notice.subject {
        Subject::Failure(task) => format!("{} failed{}", task.name(), tries(task)),
        Subject::Retry(task) => format!("{} failed and is tried again{}", task.name(), tries(task)),
        Subject::Success(task) => format!("{} succeeded", task.name()),
        Subject::RunFailed(run) => format!("run {} {}", notice.run_id, run.state),
    };
    format!("[{}] {text}", notice.dag_id).replace(char::is_control, " ")
}

fn tries(task: &TaskNotice) -> String {
    match (task.try_number, task.max_tries) {
        (0, _) | (_, ..=1) => String::new(),
        (number, all) => format!(" (try {number} of {all})"),
    }
}

/// The text of a mail.
pub(super) fn body(notice: &Notice) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match &notice.subject {
        Subject::Failure(task) => about_task(&mut text, notice, task, "has failed, and is not tried again"),
        Subject::Retry(task) => about_task(&mut text, notice, task, "has failed, and is tried again"),
        Subject::Success(task) => about_task(&mut text, notice, task, "has succeeded"),
        Subject::RunFailed(run) => about_run(&mut text, notice, run),
    };
    text
}

fn about_task(text: &mut String, notice: &Notice, task: &TaskNotice, what: &str) -> std::fmt::Result {
    writeln!(text, "The task {} of {} {what}.\n", task.name(), notice.dag_id)?;
    if let Some(exception) = &task.exception {
        writeln!(text, "Exception:\n{}\n", indented(exception))?;
    }
    if !task.log_excerpt.is_empty() {
        writeln!(text, "The end of its log:\n{}\n", indented(&task.log_excerpt))?;
    }
    of_run(text, notice)?;
    row(text, "Task", task.name())?;
    if task.try_number > 0 {
        row(text, "Try", format_args!("{} of {}", task.try_number, task.max_tries))?;
    }
    row(text, "State", task.state)?;
    if let Some(at) = task.next_try_at {
        row(text, "Next try", moment(at))?;
    }
    let mut logs = vec!["logs".to_owned(), notice.run_id.clone()];
    logs.extend(["--biz".into(), notice.dag_id.clone(), "--task".into(), task.name().to_string()]);
    if task.try_number > 0 {
        logs.extend(["--try".into(), task.try_number.to_string()]);
    }
    how_to_look(text, notice, &logs)
}

fn about_run(text: &mut String, notice: &Notice, run: &RunFailed) -> std::fmt::Result {
    writeln!(text, "The run {} of {} has failed.\n", notice.run_id, notice.dag_id)?;
    if !run.failed_tasks.is_empty() {
        writeln!(text, "Tasks that have failed:")?;
        for task in run.failed_tasks.iter().take(TASKS) {
            match &task.exception {
                Some(exception) => writeln!(text, "    {}: {}", task.name(), first_line(exception))?,
                None => writeln!(text, "    {}", task.name())?,
            }
        }
        if let more @ 1.. = run.failed_tasks.len().saturating_sub(TASKS) {
            writeln!(text, "    and {more} more")?;
        }
        writeln!(text)?;
    }
    of_run(text, notice)?;
    row(text, "State", run.state)?;
    how_to_look(text, notice, &["logs".into(), notice.run_id.clone(), "--biz".into(), notice.dag_id.clone()])
}

fn of_run(text: &mut String, notice: &Notice) -> std::fmt::Result {
    row(text, "DAG", &notice.dag_id)?;
    row(text, "Run", &notice.run_id)?;
    row(text, "Logical date", moment(notice.logical_date))?;
    row(text, "At", moment(notice.at))?;
    row(text, "Host", &notice.host)
}

fn how_to_look(text: &mut String, notice: &Notice, logs: &[String]) -> std::fmt::Result {
    let command = |arguments: &[String]| {
        let words = arguments.iter().map(|word| quoted(word));
        [quoted(&notice.program)].into_iter().chain(words).collect::<Vec<_>>().join(" ")
    };
    let show = ["show".into(), notice.run_id.clone(), "--biz".into(), notice.dag_id.clone()];
    writeln!(text, "\nTo look closer:\n    {}\n    {}", command(&show), command(logs))
}

fn row(text: &mut String, name: &str, value: impl Display) -> std::fmt::Result {
    writeln!(text, "{name:<14}{value}")
}

fn moment(at: DateTime<Utc>) -> impl Display {
    at.format("%Y-%m-%d %H:%M:%S UTC")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// A word for a shell: within quotes where it would be more than one, or something else, without.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:+=@%,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}
