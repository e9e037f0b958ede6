//! A test stand: throw-away servers of the systems that tests run against.
//!
//! Each has its own folder, runs as an unprivileged user, listens on a socket in that folder or on a free port of
//! the loopback interface below 32768, and is stopped by its own pid when it is dropped or when this process ends,
//! whatever ends it. A missing program fails the test and names the package to install; nothing is skipped.

#![expect(clippy::missing_panics_doc, reason = "this is for tests, which fail by panicking")]

pub mod certificates;
pub mod pgbouncer;
pub mod postgres;
pub mod redis;
pub mod ssh;
mod supervisor;

pub use certificates::{Authority, Certificate};
pub use pgbouncer::{PgBouncer, Pooling};
pub use postgres::Cluster;
pub use redis::RedisServer;
pub use ssh::Sshd;

use std::path::Path;
use std::process::Command;

/// A port of the loopback interface that is free and that the kernel does not give out by itself.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let start =
        20_000 + (std::process::id() % 10_000) as u16 + NEXT.fetch_add(1, Ordering::Relaxed) * 7 % 1_500;
    (start..32_000).find(free).expect("a port is free")
}

/// Whether this process is root, as in containers: servers then run as their packaged users.
fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    id.stdout.trim_ascii() == b"0"
}

/// A program run as `user` if this process is root, else as whoever runs this.
fn as_user(user: &str, program: &Path) -> Command {
    if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", user, "--"]).arg(program).current_dir("/tmp");
        command
    } else {
        Command::new(program)
    }
}

/// A fresh folder that `user` owns.
fn folder_for(user: &str, prefix: &str) -> std::path::PathBuf {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir_in("/tmp").expect("a folder").keep();
    let chown = Command::new("chown").arg(user).arg(&folder).status().expect("chown");
    assert!(chown.success() || !is_root(), "the folder cannot be given to {user}");
    folder
}
