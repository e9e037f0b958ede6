//! A shell that runs one server, says when it is ready, and stops it by its pid when its own standard input closes: the
//! kernel closes that with this process, whatever ends it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};

use crate::as_user;

/// A shell with its server.
pub(crate) struct Supervisor {
    shell: Child,
    /// While it is open the server runs.
    leash: Option<ChildStdin>,
}

impl Supervisor {
    /// Runs a script as `user` and waits until it says `ready`; `None` if it says anything else.
    pub(crate) fn start(user: &str, script: &str, args: &[&OsStr]) -> Option<Supervisor> {
        let mut shell = as_user(user, Path::new("/bin/sh"))
            .args(["-c", script, "sh"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0) // so that an interrupt at the terminal reaches only the test
            .spawn()
            .expect("a shell");
        let leash = shell.stdin.take();
        let mut said = String::new();
        BufReader::new(shell.stdout.take().expect("its output")).read_line(&mut said).expect("its words");
        let running = Supervisor { shell, leash };
        (said.trim() == "ready").then_some(running)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.leash.take());
        let _stopped = self.shell.wait();
    }
}
