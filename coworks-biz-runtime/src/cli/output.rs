//! How things look: styles, tables, durations.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

use anstyle::{AnsiColor, Color, Style};

use super::{Exit, Failure};
use crate::run::State;

const fn colour(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(Color::Ansi(colour)))
}

pub(super) const ERROR: Style = colour(AnsiColor::Red).bold();
pub(super) const WARNING: Style = colour(AnsiColor::Yellow);
pub(super) const GOOD: Style = colour(AnsiColor::Green);
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const BOLD: Style = Style::new().bold();

/// Prints a line for people. A stderr that cannot be written is no reason to stop.
pub(super) fn say(text: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Prints a line of data. Who reads it may have enough, as `head` has: then the work is done.
pub(super) fn line(text: impl Display) -> Result<(), Failure> {
    writeln!(anstream::stdout().lock(), "{text}").map_err(unwritten)
}

/// Prints a line of data that has no styles in it, as it is: nobody looks through megabytes for them.
pub(super) fn plain(mut text: String) -> Result<(), Failure> {
    text.push('\n');
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(unwritten)
}

/// A text that somebody else has written, so that it cannot pass for anything else: its lines stay behind the first, and
/// what moves the cursor or turns the direction is shown as what it is.
pub(super) fn tame(text: &str) -> Cow<'_, str> {
    let is_wild = |c: char| {
        c != '\t'
            && (c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}'..='\u{200f}'))
    };
    if !text.contains(is_wild) {
        return Cow::Borrowed(text);
    }
    let mut tamed = String::with_capacity(text.len() + 16);
    for c in text.trim_end_matches('\n').chars() {
        match c {
            '\n' => tamed.push_str("\n    "),
            c if is_wild(c) => tamed.extend(c.escape_unicode()),
            c => tamed.push(c),
        }
    }
    Cow::Owned(tamed)
}

fn unwritten(error: std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure { exit: Exit::Done, message: String::new() },
        _ => Failure { exit: Exit::Engine, message: format!("stdout: {error}") },
    }
}

/// The style and the sign of a state; `None` is that of a task that was not reached.
pub(super) fn look(state: Option<State>) -> (Style, char) {
    match state {
        Some(State::Success) => (GOOD, '✓'),
        Some(State::Failed) => (ERROR, '✗'),
        Some(State::UpstreamFailed) => (WARNING, '⊘'),
        Some(State::Skipped | State::Removed) => (DIM, '⊘'),
        Some(State::UpForRetry) => (WARNING, '↻'),
        Some(State::UpForReschedule) => (WARNING, '◷'),
        Some(State::Running) => (BOLD, '▸'),
        Some(State::Queued) | None => (DIM, '·'),
    }
}

/// A duration as short as it can be read: `12 ms`, `3.4 s`, `5m 2s`.
pub(super) fn duration(duration: Duration) -> String {
    match duration {
        d if d < Duration::from_millis(1) => format!("{} µs", d.as_micros()),
        d if d < Duration::from_secs(1) => format!("{} ms", d.as_millis()),
        d if d < Duration::from_secs(60) => format!("{:.1} s", d.as_secs_f64()),
        d => humantime::format_duration(Duration::from_secs(d.as_secs())).to_string(),
    }
}

/// Lines of columns, each as wide as its widest cell. `right` names the columns that are flush right.
pub(super) fn table(rows: &[Vec<String>], right: &[usize]) -> Vec<Vec<String>> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    rows.iter()
        .map(|row| {
            row.iter()
                .enumerate()
                .map(|(column, cell)| {
                    let pad = " ".repeat(widths[column] - cell.chars().count());
                    match right.contains(&column) {
                        true => format!("{pad}{cell}"),
                        // The last column needs nothing behind it.
                        false if column + 1 == columns => cell.clone(),
                        false => format!("{cell}{pad}"),
                    }
                })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let shown = |micros| duration(Duration::from_micros(micros));
        assert_eq!(shown(15), "15 µs");
        assert_eq!(shown(12_300), "12 ms");
        assert_eq!(shown(3_440_000), "3.4 s");
        assert_eq!(shown(302_500_000), "5m 2s");
    }

    #[test]
    fn what_others_have_written_looks_like_nothing_else() {
        assert_eq!(tame("plain, é\tand so on"), "plain, é\tand so on");
        assert_eq!(tame("a\nb\n"), "a\n    b");
        assert_eq!(tame("a\r\u{1b}[2J\u{202e}b"), "a\\u{d}\\u{1b}[2J\\u{202e}b");
    }

    #[test]
    fn columns_are_aligned() {
        let rows =
            vec![vec!["é".into(), "1".into(), "x".into()], vec!["long".into(), "10".into(), "y".into()]];
        assert_eq!(table(&rows, &[1])[0], ["é   ", " 1", "x"]);
    }
}
