//! A disk as a loss of power may leave it: what was synced is there, and of the rest whatever chance leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::record::{Event, File};
use crate::kill::Chance;

/// So many bytes come to the disk together, or not at all.
const SECTOR: usize = 512;

/// A file: what of it is on the disk, and what has been done to it since.
#[derive(Debug, Clone, Default)]
struct Content {
    safe: Vec<u8>,
    since: Vec<Change>,
    /// What a sync that failed has left in doubt: no later one brings it to the disk, and who writes it once more does.
    doubtful: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

/// A content: an inode is one of another file once that is gone.
type Id = usize;

#[derive(Debug, Clone)]
enum Name {
    Folder(PathBuf),
    File(PathBuf, Id),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Name {
    fn folder(&self) -> &Path {
        let (Self::Folder(path) | Self::File(path, _) | Self::Rename(path, _) | Self::Remove(path)) = self;
        path.parent().unwrap()
    }
}

/// What is a folder has no content.
type Names = BTreeMap<PathBuf, Option<Id>>;

/// What a disk must still hold, and what it may.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    contents: Vec<Content>,
    /// The names that are on the disk, and what has been done to names since, in this order.
    names: Names,
    since: Vec<Name>,
    /// The names as whoever looks now sees them, and the inodes of their files.
    now: Names,
    inodes: BTreeMap<PathBuf, u64>,
}

impl Disk {
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Said(_) => {}
            Event::Wrote { file, from, bytes } => {
                self.content(file).since.push(Change::Write(*from, bytes.clone()));
            }
            Event::Cut { file, length } => self.content(file).since.push(Change::Cut(*length)),
            Event::Synced(file) => {
                let content = self.content(file);
                for change in std::mem::take(&mut content.since) {
                    if let Change::Write(from, bytes) = &change {
                        content.is_certain(*from, from + bytes.len());
                    }
                    change.apply(&mut content.safe);
                }
            }
            Event::Unsure(file) => {
                let content = self.content(file);
                for change in std::mem::take(&mut content.since) {
                    match change {
                        Change::Write(from, bytes) => content.doubtful.push((from, bytes)),
                        // That is in the journal, with the names.
                        Change::Cut(_) => content.since.push(change),
                    }
                }
            }
            Event::Made(file) => drop(self.made(file)),
            Event::MadeFolder(path) => self.name(Name::Folder(path.clone())),
            Event::Renamed(from, to) => {
                if let Some(inode) = self.inodes.remove(from) {
                    self.inodes.insert(to.clone(), inode);
                }
                self.name(Name::Rename(from.clone(), to.clone()));
            }
            Event::Removed(path) => self.name(Name::Remove(path.clone())),
            Event::SyncedFolder(path) => {
                let (safe, since) = self.since.drain(..).partition(|name: &Name| name.folder() == path);
                self.since = since;
                for name in safe {
                    apply(&mut self.names, name);
                }
            }
            // Who says so has ended by that: nothing is built on it.
            Event::UnsureFolder => {}
        }
    }

    fn name(&mut self, name: Name) {
        apply(&mut self.now, name.clone());
        self.since.push(name);
    }

    fn made(&mut self, file: &File) -> Id {
        let id = self.contents.len();
        self.contents.push(Content::default());
        self.inodes.insert(file.path.clone(), file.inode);
        self.name(Name::File(file.path.clone(), id));
        id
    }

    /// The content of a file. Who only looks into a database makes a log where there is none: that is not written
    /// down.
    fn content(&mut self, file: &File) -> &mut Content {
        let known = self.now.get(&file.path).copied().flatten();
        let is_same = self.inodes.get(&file.path) == Some(&file.inode);
        let id = match known.filter(|_| is_same) {
            Some(id) => id,
            None => self.made(file),
        };
        &mut self.contents[id]
    }

    /// What is left where the power goes now, of what is below `from`: in the folder `to`.
    pub fn lose_power(&self, chance: &mut Chance, from: &Path, to: &Path) {
        let mut names = self.names.clone();
        // Names are in a journal: the first of them are there.
        let kept = chance.below(self.since.len() as u64 + 1) as usize;
        for name in &self.since[..kept] {
            apply(&mut names, name.clone());
        }
        // Nobody finds what is in a folder that is not there.
        if !names.contains_key(from) {
            return;
        }
        fs::create_dir(to).unwrap();
        for (path, file) in &names {
            let Some(path) = path.strip_prefix(from).ok().filter(|path| !path.as_os_str().is_empty()) else {
                continue;
            };
            let path = to.join(path);
            match file {
                None => fs::create_dir_all(path).unwrap(),
                // Those who have one make it anew.
                Some(_) if path.to_string_lossy().ends_with("-shm") => {}
                // In a folder that is gone nothing is found.
                Some(file) if path.parent().unwrap().exists() => {
                    fs::write(path, self.contents[*file].left(chance)).unwrap();
                }
                Some(_) => {}
            }
        }
    }
}

impl Content {
    /// Nothing of this piece is in doubt any more.
    fn is_certain(&mut self, start: usize, end: usize) {
        for (from, bytes) in std::mem::take(&mut self.doubtful) {
            let until = from + bytes.len();
            if from < start.min(until) {
                self.doubtful.push((from, bytes[..start.min(until) - from].to_vec()));
            }
            if end.max(from) < until {
                self.doubtful.push((end.max(from), bytes[end.max(from) - from..].to_vec()));
            }
        }
    }

    /// Of what is not synced: nothing, all, or what chance leaves.
    fn left(&self, chance: &mut Chance) -> Vec<u8> {
        let mut bytes = self.safe.clone();
        let doubtful =
            self.doubtful.iter().map(|(from, bytes)| Change::Write(*from, bytes.clone())).collect();
        for since in [&doubtful, &self.since] {
            let how = chance.below(3);
            for change in since {
                match how {
                    0 => {}
                    1 => change.apply(&mut bytes),
                    _ => change.apply_torn(&mut bytes, chance),
                }
            }
        }
        bytes
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(from, written) => put(bytes, *from, written),
            Self::Cut(length) => bytes.resize(*length, 0),
        }
    }

    /// Sector by sector, or not.
    fn apply_torn(&self, bytes: &mut Vec<u8>, chance: &mut Chance) {
        match self {
            Self::Write(from, written) => {
                let mut at = *from;
                while at < from + written.len() {
                    let end = ((at / SECTOR + 1) * SECTOR).min(from + written.len());
                    if chance.below(2) == 0 {
                        put(bytes, at, &written[at - from..end - from]);
                    }
                    at = end;
                }
            }
            Self::Cut(_) if chance.below(2) == 0 => {}
            Self::Cut(_) => self.apply(bytes),
        }
    }
}

fn put(bytes: &mut Vec<u8>, from: usize, written: &[u8]) {
    if bytes.len() < from + written.len() {
        bytes.resize(from + written.len(), 0);
    }
    bytes[from..from + written.len()].copy_from_slice(written);
}

fn apply(names: &mut Names, name: Name) {
    match name {
        Name::Folder(path) => drop(names.insert(path, None)),
        Name::File(path, file) => drop(names.insert(path, Some(file))),
        Name::Rename(from, to) => {
            if let Some(file) = names.remove(&from) {
                names.insert(to, file);
            }
        }
        Name::Remove(path) => drop(names.remove(&path)),
    }
}
