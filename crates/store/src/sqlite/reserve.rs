//! Space kept back, so that authority can still be taken away when the disk is full.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::open::beside;
use super::trouble::file_error;
use crate::error::StoreError;

/// While the disk is full, how often it is tried to set the space aside again.
const RETRY: Duration = Duration::from_secs(1);

/// A file of random bytes beside the store. Spent means that it had to be given up; until it is back, only
/// what takes authority away is written.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    spent: bool,
    tried: Option<Instant>,
}

impl Reserve {
    /// The one that is there from before, if any.
    pub(super) fn beside(store: &Path) -> Self {
        let path = beside(store, ".reserve");
        let bytes = std::fs::metadata(&path).map_or(0, |found| found.len());
        Reserve { path, bytes, spent: false, tried: None }
    }

    /// Sets at least so many bytes aside, unless they are already.
    pub(super) fn keep(&mut self, bytes: u64) -> Result<(), StoreError> {
        let there = std::fs::metadata(&self.path).map_or(0, |found| found.len());
        self.bytes = bytes.max(there);
        self.spent = there < bytes;
        if self.spent { self.restore() } else { Ok(()) }
    }

    /// Whether ordinary writes may go on: the space is there, or was never asked for, or could be set aside anew.
    pub(super) fn is_whole(&mut self) -> bool {
        if self.spent && self.tried.is_none_or(|tried| tried.elapsed() >= RETRY) {
            self.tried = Some(Instant::now());
            return self.restore().is_ok();
        }
        !self.spent
    }

    /// Whether the space had to be given up and is not back.
    pub(super) fn is_spent(&self) -> bool {
        self.spent
    }

    /// Gives the space to the disk; `false` if there was none to give.
    pub(super) fn spend(&mut self) -> bool {
        let given = self.bytes > 0 && std::fs::remove_file(&self.path).is_ok();
        if given {
            tracing::error!(
                bytes = self.bytes,
                "the disk is full: the reserve is spent, only endings are recorded"
            );
            (self.spent, self.tried) = (true, Some(Instant::now()));
        }
        given
    }

    fn restore(&mut self) -> Result<(), StoreError> {
        match fill(&self.path, self.bytes) {
            Ok(()) => self.spent = false,
            Err(error) => {
                let _nothing_to_remove = std::fs::remove_file(&self.path);
                return Err(file_error("the reserve cannot be set aside", &error));
            }
        }
        Ok(())
    }
}

/// Bytes that no file system can shrink.
fn fill(path: &Path, mut bytes: u64) -> std::io::Result<()> {
    let (mut file, mut state) = (File::create(path)?, 0x9e37_79b9_7f4a_7c15_u64);
    let mut block = [0_u8; 1 << 16];
    while bytes > 0 {
        for word in block.chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
        let part = usize::try_from(bytes).unwrap_or(usize::MAX).min(block.len());
        file.write_all(&block[..part])?;
        bytes -= part as u64;
    }
    file.sync_all()
}
