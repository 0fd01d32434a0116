//! What a program has done to its disk and said to others, as `disk.c` writes it down.

use std::path::{Path, PathBuf};

/// A file: for as long as it is there, and by which name it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub inode: u64,
    pub path: PathBuf,
}

#[derive(Debug)]
pub enum Event {
    /// To others: the bytes of one call.
    Said(Vec<u8>),
    Wrote {
        file: File,
        from: usize,
        bytes: Vec<u8>,
    },
    /// To this length.
    Cut {
        file: File,
        length: usize,
    },
    Synced(File),
    /// A sync that has failed.
    Unsure(File),
    Made(File),
    MadeFolder(PathBuf),
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf),
    SyncedFolder(PathBuf),
    UnsureFolder,
}

/// All of it, in the order in which it came. Of a process that was killed the last may be missing.
pub fn read(record: &Path) -> Vec<Event> {
    let bytes = std::fs::read(record).unwrap();
    let mut rest = &bytes[..];
    let mut events = vec![];
    while let Some(event) = next(&mut rest) {
        events.push(event);
    }
    assert!(rest.is_empty(), "no event: {}", rest[..rest.len().min(100)].escape_ascii());
    events
}

fn next(rest: &mut &[u8]) -> Option<Event> {
    if rest.is_empty() {
        return None;
    }
    let line = line(rest);
    let (what, of) = line.split_once(' ').unwrap_or_else(|| panic!("no event: {line}"));
    let number = |text: &str| text.parse::<usize>().unwrap_or_else(|e| panic!("{e}: {line}"));
    let words: Vec<_> = of.split(' ').collect();
    // Its path comes last.
    let file =
        |behind: usize| File { inode: number(words[0]) as u64, path: words[behind..].join(" ").into() };
    Some(match what {
        "say" => Event::Said(piece(rest, number(of))),
        "write" => {
            Event::Wrote { file: file(3), from: number(words[1]), bytes: piece(rest, number(words[2])) }
        }
        "cut" => Event::Cut { file: file(2), length: number(words[1]) },
        "sync" => Event::Synced(file(1)),
        "unsure" => Event::Unsure(file(1)),
        "make" => Event::Made(file(1)),
        "make_folder" => Event::MadeFolder(of.into()),
        "rename" => Event::Renamed(of.into(), self::line(rest).into()),
        "remove" => Event::Removed(of.into()),
        "sync_folder" => Event::SyncedFolder(of.into()),
        "unsure_folder" => Event::UnsureFolder,
        _ => panic!("no event: {line}"),
    })
}

fn line(rest: &mut &[u8]) -> String {
    let end = rest.iter().position(|byte| *byte == b'\n').expect("a line ends");
    let line = String::from_utf8(rest[..end].to_vec()).unwrap();
    *rest = &rest[end + 1..];
    line
}

fn piece(rest: &mut &[u8], length: usize) -> Vec<u8> {
    let piece = rest[..length].to_vec();
    *rest = &rest[length + 1..];
    piece
}
