//! Whether the files of a database are still where they were opened. SQLite goes on writing into a file that
//! has no name any more, and nobody ever reads that again.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::lock::beside;

/// The files of a database, each with what tells it apart from another one of its name.
#[derive(Debug)]
pub(super) struct Place {
    database: PathBuf,
    files: Vec<(PathBuf, (u64, u64))>,
}

impl Place {
    /// Of the database that has just been opened.
    pub(super) fn of(database: &Path) -> Result<Self, StoreError> {
        // Who has the lock under another name has no lock.
        let files = [database.to_owned(), beside(database, "-wal"), beside(database, ".lock")];
        let files = files.map(|file| {
            // A task may set another current directory.
            let is = std::path::absolute(&file).and_then(|path| Ok((std::fs::metadata(&path)?, path)));
            match is {
                Ok((metadata, path)) => Ok((path, (metadata.dev(), metadata.ino()))),
                Err(source) => Err(StoreError::io(database, &file, source)),
            }
        });
        Ok(Self { database: database.to_owned(), files: files.into_iter().collect::<Result<_, _>>()? })
    }

    /// An error where one of them was moved, deleted or replaced.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        for (file, id) in &self.files {
            let there = match std::fs::metadata(file) {
                Ok(metadata) => (metadata.dev(), metadata.ino()) == *id,
                // What else is wrong with it, whoever writes to it finds out.
                Err(e) => e.kind() != ErrorKind::NotFound,
            };
            if !there {
                return Err(StoreError::Gone { path: self.database.clone(), file: file.clone() });
            }
        }
        Ok(())
    }
}
