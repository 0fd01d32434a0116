//! Large outputs: files beside the database, named by what they hold.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::{StoreError, lock::beside};
use crate::value::Json;

/// Values above this many bytes go into a file of their own.
const INLINE: usize = 64 * 1024;

/// A value as the database takes it: itself, or the name of the file that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// In the row.
    Inline(Json),
    /// In a file of this name, which is synced.
    Blob(String),
}

/// The folder of large values.
#[derive(Debug, Clone)]
pub struct Blobs(PathBuf);

impl Blobs {
    /// The folder that belongs to this database file.
    pub(super) fn of(database: &Path) -> Self {
        Self(beside(database, ".blobs"))
    }

    /// Whether [`Blobs::store`] would touch the disk, and so belongs on a thread that may block.
    pub fn is_large(json: &Json) -> bool {
        json.as_str().len() > INLINE
    }

    /// Makes a value ready to be named by a row. A large one is written and synced first.
    pub fn store(&self, json: &Json) -> Result<Stored, StoreError> {
        if !Self::is_large(json) {
            return Ok(Stored::Inline(json.clone()));
        }
        let name = name(json.as_str().as_bytes());
        let path = self.0.join(&name);
        let written = match touch(&path) && holds(&path, &name) {
            // Who wrote it may have died before its name was on the disk.
            true => File::open(&self.0).and_then(|dir| dir.sync_all()).and_then(|()| match path.exists() {
                true => Ok(()),
                // It is being put aside, and back: the one that is written now is there whatever comes of that.
                false => self.write(&path, &name, json.as_str()),
            }),
            false => self.write(&path, &name, json.as_str()),
        };
        written.map_err(|source| StoreError::Io { path, source })?;
        Ok(Stored::Blob(name))
    }

    /// Where they are.
    pub(crate) fn dir(&self) -> &Path {
        &self.0
    }

    fn write(&self, path: &Path, name: &str, text: &str) -> std::io::Result<()> {
        if !self.0.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
            File::open(self.0.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))?
                .sync_all()?;
        }
        // Two attempts may write the same value at once: each has a file of its own until the rename.
        let draft = self.0.join(format!("{name}.{}", uuid::Uuid::now_v7()));
        let write = || {
            let mut file = File::create(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, path)
        };
        // On a full disk it would take room from the next attempt at it.
        write().inspect_err(|_| drop(fs::remove_file(&draft)))?;
        // The name itself must survive too.
        File::open(&self.0)?.sync_all()
    }

    /// The value of a row.
    pub(super) fn load(&self, inline: Option<String>, blob: Option<String>) -> Result<Json, StoreError> {
        match (inline, blob) {
            (Some(text), _) => Ok(Json::from_stored(text)),
            (None, Some(name)) => {
                let damaged = |what: &str| {
                    let what = format!("the large value {name} {what}");
                    StoreError::Damaged { path: self.0.with_extension(""), what }
                };
                if !is_name(&name) {
                    return Err(damaged("is none"));
                }
                let path = self.0.join(&name);
                let bytes = match fs::read(&path) {
                    Ok(bytes) => bytes,
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(damaged("is missing")),
                    Err(source) => return Err(StoreError::Io { path, source }),
                };
                let is_whole = self::name(&bytes) == name;
                let text = String::from_utf8(bytes).ok().filter(|_| is_whole);
                let text = text.ok_or_else(|| damaged("holds something else than what was stored"))?;
                Ok(Json::from_stored(text))
            }
            (None, None) => Ok(Json::from_stored("null")),
        }
    }
}

/// The name of the file of a value: the hash of what it holds.
pub(super) fn name(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether this is a name that [`name`] gives.
pub(super) fn is_name(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether the file holds what its name says: one that was damaged is written anew.
fn holds(path: &Path, name: &str) -> bool {
    fs::read(path).is_ok_and(|bytes| self::name(&bytes) == name)
}

/// Whether the file is there. Its time tells [`super::prune`] that somebody is about to name it again.
fn touch(path: &Path) -> bool {
    let touched =
        File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
    // It may have been put aside between the two.
    touched.is_ok() && path.exists()
}
