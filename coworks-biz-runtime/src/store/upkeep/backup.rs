//! A copy of a database that is in use.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::Backup;

use super::super::StoreError;
use super::super::blobs::{self, Blobs};
use super::super::lock::beside;
use super::super::prune::named_blobs;
use super::open;

/// How often a copy is begun anew because runs that it holds were removed meanwhile.
const ATTEMPTS: usize = 3;

/// A copy that was made, and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackUp {
    /// The runs in it.
    pub runs: u64,
    /// The large values beside it, in a folder of its name with `.blobs` at the end.
    pub blobs: u64,
    /// The bytes of all of it.
    pub bytes: u64,
}

/// Copies the database as it is at one moment, with the large values that it names, to a file that
/// must not be there yet. Whoever owns the database goes on meanwhile.
///
/// The copy is checked page by page, and each value against its hash, before it gets its name. It is
/// read in one go: what is written meanwhile stays in the write-ahead log for so long.
pub fn backup(path: &Path, to: &Path) -> Result<BackUp, StoreError> {
    let values = beside(to, ".blobs");
    for taken in [to, &values] {
        if taken.try_exists().map_err(|source| io_of(taken, source))? {
            let source =
                io::Error::new(io::ErrorKind::AlreadyExists, "it is there already, and is left as it is");
            return Err(io_of(taken, source));
        }
    }
    let draft = Draft(beside(to, &format!(".{}", uuid::Uuid::now_v7())));
    for left in (0..ATTEMPTS).rev() {
        draft.clear();
        let (runs, named) = copy(path, &draft.0)?;
        match copy_values(path, &draft.values(), &named)? {
            None => return finish(&draft, to, &values, runs, named.len() as u64),
            // The run may have been removed since: then the next copy does not name it.
            Some(missing) if left == 0 || still_named(path, &missing)? => {
                let what = format!("the large value {missing} is missing");
                return Err(StoreError::Damaged { path: path.to_owned(), what });
            }
            Some(_) => {}
        }
    }
    unreachable!("the last attempt returns")
}

fn copy(path: &Path, draft: &Path) -> Result<(u64, BTreeSet<String>), StoreError> {
    let source = open(path)?.0;
    let wrap = |source| StoreError::of(draft, source);
    let mut target = Connection::open(draft).map_err(wrap)?;
    Backup::new(&source, &mut target)
        // All pages in one step: a step by another process begins a copy in many anew.
        .and_then(|copy| copy.run_to_completion(i32::MAX, Duration::from_millis(20), None))
        .map_err(|source| StoreError::of(path, source))?;
    drop(source);
    // One file, which can be read where nothing can be written.
    target.pragma_update(None, "journal_mode", "DELETE").map_err(wrap)?;
    let found: String = target.pragma_query_value(None, "integrity_check", |row| row.get(0)).map_err(wrap)?;
    if found != "ok" {
        // It is as the original was.
        return Err(StoreError::Damaged { path: path.to_owned(), what: found.replace('\n', "; ") });
    }
    let runs = target.query_row("SELECT count(*) FROM dag_run", [], |row| row.get(0)).map_err(wrap)?;
    Ok((runs, named_blobs(&target).map_err(wrap)?))
}

/// Copies these values. Gives one that is not there, where one is not.
fn copy_values(path: &Path, to: &Path, named: &BTreeSet<String>) -> Result<Option<String>, StoreError> {
    if named.is_empty() {
        return Ok(None);
    }
    fs::create_dir(to).map_err(|source| io_of(to, source))?;
    for name in named {
        if !blobs::is_name(name) {
            let what = format!("a row names the large value `{name}`, which is none");
            return Err(StoreError::Damaged { path: path.to_owned(), what });
        }
        let from = Blobs::of(path).dir().join(name);
        let bytes = match fs::read(&from) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some(name.clone())),
            Err(source) => return Err(io_of(&from, source)),
        };
        if blobs::name(&bytes) != *name {
            let what = format!("the large value {} is not what it was", from.display());
            return Err(StoreError::Damaged { path: path.to_owned(), what });
        }
        let target = to.join(name);
        fs::write(&target, bytes)
            .and_then(|()| File::open(&target)?.sync_all())
            .map_err(|source| io_of(&target, source))?;
    }
    File::open(to).and_then(|dir| dir.sync_all()).map_err(|source| io_of(to, source))?;
    Ok(None)
}

fn still_named(path: &Path, name: &str) -> Result<bool, StoreError> {
    let named = named_blobs(&open(path)?.0).map_err(|source| StoreError::of(path, source))?;
    Ok(named.contains(name))
}

/// Gives the copy its name, the values first: a database without its values is none.
fn finish(draft: &Draft, to: &Path, values: &Path, runs: u64, blobs: u64) -> Result<BackUp, StoreError> {
    let mut bytes = 0;
    if blobs > 0 {
        for entry in fs::read_dir(draft.values()).map_err(|source| io_of(values, source))? {
            bytes += entry.and_then(|entry| entry.metadata()).map_err(|source| io_of(values, source))?.len();
        }
        // A folder is put in the place of no file, and of no folder that holds any.
        fs::rename(draft.values(), values).map_err(|source| io_of(values, source))?;
    }
    let place = || -> io::Result<u64> {
        let file = File::open(&draft.0)?;
        file.sync_all()?;
        // The name is taken first, so that the rename puts it in the place of nobody's file.
        OpenOptions::new().write(true).create_new(true).open(to)?;
        fs::rename(&draft.0, to)?;
        let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir)?.sync_all()?;
        Ok(file.metadata()?.len())
    };
    bytes += place().map_err(|source| io_of(to, source))?;
    Ok(BackUp { runs, blobs, bytes })
}

fn io_of(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), source }
}

/// The copy while it has no name of its own; what is left of it goes with this.
struct Draft(PathBuf);

impl Draft {
    fn values(&self) -> PathBuf {
        beside(&self.0, ".blobs")
    }

    fn clear(&self) {
        // What is not there need not go, and what cannot go is told by the next copy.
        let _ = fs::remove_file(&self.0);
        let _ = fs::remove_file(beside(&self.0, "-journal"));
        let _ = fs::remove_dir_all(self.values());
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.clear();
    }
}
