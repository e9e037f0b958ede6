//! A node in a temporary folder, and commands run beside it.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value as Json;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_bailiwick");

/// What one command gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
    /// The data, of a command that succeeded.
    pub(crate) fn json(&self) -> Json {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
    /// The command failed with this exit code; gives what it said.
    pub(crate) fn failed(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{self:?}");
        &self.err
    }
    /// The command succeeded; gives what it printed.
    pub(crate) fn good(&self) -> &str {
        assert_eq!(self.code, 0, "{self:?}");
        &self.out
    }
}

/// A folder with a configuration, and the node that runs from it.
pub(crate) struct House {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) port: u16,
    /// What the node has said since it was up.
    pub(crate) said: Arc<Mutex<Vec<String>>>,
    /// What the node logs; its own default if empty.
    pub(crate) log: &'static str,
    node: Option<Child>,
}

impl House {
    /// A folder with this configuration, without a node. `$PORT` and `$PROGRAM` are filled in.
    pub(crate) fn new(config: &str) -> House {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let text =
            config.replace("$PORT", &port.to_string()).replace("$PROGRAM", &Json::from(PROGRAM).to_string());
        std::fs::write(folder.path().join("bailiwick.yaml"), text).unwrap();
        House { folder, port, said: Arc::default(), log: "", node: None }
    }

    /// The same with its node.
    pub(crate) fn open(config: &str) -> House {
        let mut house = House::new(config);
        house.up();
        house
    }

    /// Starts the node and waits until it says that it is up.
    pub(crate) fn up(&mut self) {
        let mut command = self.command(&["up"]);
        if !self.log.is_empty() {
            command.env("BAILIWICK_LOG", self.log);
        }
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        loop {
            let line = lines.next().unwrap_or_else(|| panic!("the node ended: {said:?}")).unwrap();
            let ready = line.contains("bailiwick status");
            said.push(line);
            if ready {
                break;
            }
        }
        let heard = self.said.clone();
        heard.lock().unwrap().extend(said);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| heard.lock().unwrap().push(line))
        });
        self.node = Some(child);
    }

    /// Asks the node to stop, as a service manager does, and gives its exit code.
    pub(crate) fn down(&mut self) -> i32 {
        let mut node = self.node.take().unwrap();
        let asked = Command::new("kill").args(["-TERM", &node.id().to_string()]).status().unwrap();
        assert!(asked.success());
        node.wait().unwrap().code().unwrap_or(-1)
    }

    /// Kills the node, as a crash would.
    pub(crate) fn kill(&mut self) {
        let mut node = self.node.take().unwrap();
        node.kill().unwrap();
        node.wait().unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A command in the folder, with none of the variables of whoever runs the tests.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = plain(args);
        command.current_dir(self.folder.path());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Runs a command with `--json` and gives its data.
    pub(crate) fn json(&self, args: &[&str]) -> Json {
        self.run(&[args, &["--json"]].concat()).json()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut node) = self.node.take() {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// A command anywhere.
pub(crate) fn plain(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars() {
        if name.starts_with("BAILIWICK_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command in a folder.
pub(crate) fn run_in(folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Ran {
    Ran::of(plain(args).current_dir(folder).envs(env.iter().copied()).output().unwrap())
}

/// A loopback port that nobody listens on and no other test of this run has been given.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 10_000 + (std::process::id() % 600) as u16 * 10;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Runs a command until its tool server is up and its tools are classified; the first answers may come before.
pub(crate) fn patiently(run: impl Fn() -> Ran) -> Ran {
    let began = std::time::Instant::now();
    loop {
        let ran = run();
        let early = ran.code == 3 && ran.err.contains("classified");
        if !early || began.elapsed() > std::time::Duration::from_secs(60) {
            return ran;
        }
        std::thread::yield_now();
    }
}

/// The text of a member.
pub(crate) fn text(json: &Json, name: &str) -> String {
    json[name].as_str().unwrap_or_else(|| panic!("no {name} in {json}")).to_owned()
}
