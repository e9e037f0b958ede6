//! Room in the write-ahead log before it is needed.
//!
//! A flush after a write at a file's end has to make the new length durable as well, which on a journalling file
//! system costs as much as the data again. So the log is laid out with zeros when the store is opened, while nobody
//! else can have it open; SQLite writes over them, starts the log over in the same place after every checkpoint, and
//! reads zeros as the end of what is valid. A store works without the room: where it cannot be had, or would take
//! much of what is left on the disk, nothing is done and nothing is lost.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::open::beside;

/// How much is laid out, in bytes: what a checkpoint is due after, and a third more for what comes while it runs.
pub(super) const BYTES: u64 = 16 << 20;
/// At most this part of the free space is taken.
const SHARE_OF_FREE: u64 = 16;

/// Lays the log out. To be called with the store's lock held and before anything connects to the store.
pub(super) fn lay_out(store: &Path) {
    if let Err(error) = extend(&beside(store, "-wal"), BYTES) {
        tracing::debug!(%error, "no room was laid out in the write-ahead log");
    }
}

/// Zeros after whatever is there, flushed, up to a length; all of them or none.
fn extend(log: &Path, length: u64) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(log)?;
    let there = file.metadata()?.len();
    let free = rustix::fs::fstatvfs(&file).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))?;
    if there >= length || length - there > free / SHARE_OF_FREE {
        return Ok(());
    }
    file.seek(SeekFrom::End(0))?;
    let filled = std::io::copy(&mut zeros(length - there), &mut file).and_then(|_| file.sync_all());
    filled.or_else(|error| file.set_len(there).and(Err(error)))
}

fn zeros(bytes: u64) -> impl Read {
    std::io::repeat(0).take(bytes)
}
