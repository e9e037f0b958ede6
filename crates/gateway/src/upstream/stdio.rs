//! A tool server as a child process: one JSON-RPC message per line on its standard streams.
//!
//! The child gets an environment of named variables only, no shell, and a process group of its own, so that
//! ending it ends what it started. Its lines are capped, its chatter is counted; a server that floods is
//! ended and started anew. Answers go to whoever asked, by our id; everything else is noise.

use super::{ANSWER_BYTES_MAX, CallError, Transport, UpstreamSpec};
use crate::envelope::{self, Body, Reply, codes};
use bailiwick_core::Value;
use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

/// Harmless variables that every child gets if we have them.
const ENV_PASSED: &[&str] = &["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "SYSTEMROOT"];
/// Messages waiting to be written.
const OUTBOX: usize = 256;
/// A line is skipped up to this size; beyond it the child is ended.
const SKIP_BYTES_MAX: usize = 64 << 20;
/// Noise per second before the child is ended: messages, and bytes.
const NOISE_MESSAGES_MAX: u32 = 5_000;
const NOISE_BYTES_MAX: usize = 64 << 20;
/// Time to leave after its input has closed.
const GRACE: Duration = Duration::from_secs(2);
/// Longest line of a child's standard error that is logged, in bytes.
const STDERR_LINE_MAX: usize = 2048;

type Waiter = oneshot::Sender<Result<Body, CallError>>;

/// A running child.
pub(crate) struct Pipe {
    outbox: mpsc::Sender<String>,
    waiting: Mutex<Waiting>,
    changed: Notify,
    dead: watch::Sender<bool>,
    /// Told when nobody holds the pipe any more.
    _released: watch::Sender<()>,
}

/// Requests that have no answer yet. `None` once the child is dead.
struct Waiting {
    next: i64,
    asked: Option<HashMap<i64, Waiter>>,
}

impl Pipe {
    /// Starts the child, to live until `stopped`. Fails if the program cannot be started.
    pub(crate) fn spawn(spec: &UpstreamSpec, stopped: watch::Receiver<bool>) -> Result<Arc<Pipe>, CallError> {
        let mut child = command(spec)?
            .spawn()
            .map_err(|e| CallError::Unavailable(format!("its program cannot be started: {}", e.kind())))?;
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = streams else {
            return Err(CallError::Unavailable("its standard streams are missing".to_owned()));
        };
        let (outbox, lines) = mpsc::channel(OUTBOX);
        let (released, unheld) = watch::channel(());
        let pipe = Arc::new(Pipe {
            outbox,
            waiting: Mutex::new(Waiting { next: 1, asked: Some(HashMap::new()) }),
            changed: Notify::new(),
            dead: watch::channel(false).0,
            _released: released,
        });
        let system = spec.system.to_string();
        tokio::spawn(log_stderr(system.clone(), stderr));
        let reader = tokio::spawn(read(Arc::downgrade(&pipe), stdout, system));
        tokio::spawn(attend(Arc::downgrade(&pipe), child, stdin, lines, reader, unheld, stopped));
        Ok(pipe)
    }

    /// Asks and waits. Dropping the future takes the question back and cancels it at the server.
    pub(crate) async fn ask(&self, method: &str, params: &Value) -> Result<Body, CallError> {
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut waiting = self.waiting();
            let id = waiting.next;
            waiting.next += 1;
            waiting.asked.as_mut().ok_or(CallError::Gone)?.insert(id, answer);
            id
        };
        let mut question = Question { pipe: self, id, sent: false };
        let line = envelope::request(id, method, params);
        self.outbox.send(line).await.map_err(|_| CallError::Gone)?;
        question.sent = method != "initialize";
        let body = answered.await.unwrap_or(Err(CallError::Gone));
        question.sent = false;
        body
    }

    /// Sends a notification.
    pub(crate) async fn tell(&self, method: &str, params: &Value) -> Result<(), CallError> {
        self.outbox.send(envelope::notification(method, params)).await.map_err(|_| CallError::Gone)
    }

    /// Resolves when the child is dead.
    pub(crate) async fn lost(&self) {
        let mut dead = self.dead.subscribe();
        let _ = dead.wait_for(|dead| *dead).await;
    }

    /// Resolves when the child says that its tools changed.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, id: i64, answer: Result<Body, CallError>) -> bool {
        let waiter = self.waiting().asked.as_mut().and_then(|asked| asked.remove(&id));
        waiter.is_some_and(|waiter| waiter.send(answer).is_ok())
    }

    /// A line broke the cap: if only one answer is awaited, it was that one.
    fn answer_too_large(&self) {
        let only = {
            let waiting = self.waiting();
            waiting.asked.as_ref().filter(|a| a.len() == 1).and_then(|a| a.keys().next().copied())
        };
        if let Some(id) = only {
            self.answer(id, Err(CallError::TooLarge));
        }
    }

    fn die(&self) {
        let asked = self.waiting().asked.take();
        for (_, waiter) in asked.into_iter().flatten() {
            let _ = waiter.send(Err(CallError::Gone));
        }
        self.dead.send_replace(true);
    }

    /// Takes one line; false if it was no answer to anything.
    fn take(&self, line: &[u8]) -> bool {
        match Reply::parse(line) {
            Some(Reply::Result { id, body }) => self.answer(id, Ok(body)),
            Some(Reply::Error { id, code, message, data }) => {
                self.answer(id, Err(CallError::Refused { rpc: code, message, data }))
            }
            Some(Reply::Request { id, method }) => {
                let reply = match method.as_str() {
                    "ping" => envelope::result(&id, &Value::empty()),
                    _ => envelope::error(Some(&id), codes::METHOD_NOT_FOUND, "not passed on", None),
                };
                let _ = self.outbox.try_send(reply);
                false
            }
            Some(Reply::Notification { method }) => {
                if method == "notifications/tools/list_changed" {
                    self.changed.notify_one();
                }
                false
            }
            None => false,
        }
    }
}

/// A question that may be taken back.
struct Question<'a> {
    pipe: &'a Pipe,
    id: i64,
    sent: bool,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if let Some(asked) = self.pipe.waiting().asked.as_mut() {
            asked.remove(&self.id);
        }
        if self.sent {
            let params =
                Value::from([("requestId", Value::Int(self.id)), ("reason", Value::from("cancelled"))]);
            let _ = self.pipe.outbox.try_send(envelope::notification("notifications/cancelled", &params));
        }
    }
}

fn command(spec: &UpstreamSpec) -> Result<Command, CallError> {
    let Transport::Stdio { command, args, env, cwd } = &spec.transport else {
        return Err(CallError::NoSystem);
    };
    let mut started = Command::new(command);
    started.args(args).env_clear().kill_on_drop(true);
    started.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    started.envs(ENV_PASSED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))));
    started.envs(env.iter().map(|(name, value)| (name, value.expose())));
    if let Some(cwd) = cwd {
        started.current_dir(cwd);
    }
    #[cfg(unix)]
    started.process_group(0);
    Ok(started)
}

/// Writes to the child until it is dead, has stopped speaking or is not wanted any more; then ends it.
async fn attend(
    pipe: std::sync::Weak<Pipe>,
    mut child: Child,
    mut stdin: ChildStdin,
    mut lines: mpsc::Receiver<String>,
    mut reader: tokio::task::JoinHandle<()>,
    mut unheld: watch::Receiver<()>,
    mut stopped: watch::Receiver<bool>,
) {
    let group = child.id();
    let write = async {
        while let Some(mut line) = lines.recv().await {
            line.push('\n');
            if stdin.write_all(line.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = write => {}
        _ = &mut reader => {}
        _ = child.wait() => {}
        _ = unheld.changed() => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    if let Some(pipe) = pipe.upgrade() {
        pipe.die();
    }
    drop(stdin);
    let _ = timeout(GRACE, child.wait()).await;
    end_group(group);
    let _ = child.kill().await;
    reader.abort();
}

/// Ends everything the child started, as far as it stayed in its process group.
#[cfg(unix)]
fn end_group(group: Option<u32>) {
    let pid = group.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}

#[cfg(not(unix))]
fn end_group(_: Option<u32>) {}

/// Reads the child's answers until it stops, floods, or nobody listens.
async fn read(pipe: std::sync::Weak<Pipe>, stdout: ChildStdout, system: String) {
    let mut stdout = BufReader::with_capacity(64 << 10, stdout);
    let mut line = Vec::new();
    let mut noise = Noise::new();
    loop {
        let got = next_line(&mut stdout, &mut line, ANSWER_BYTES_MAX).await;
        let Some(pipe) = pipe.upgrade() else { return };
        let (useful, bytes) = match got {
            Ok(Line::Whole) => (pipe.take(&line), line.len()),
            Ok(Line::Skipped(bytes)) => {
                pipe.answer_too_large();
                (false, bytes)
            }
            Ok(Line::End) | Err(_) => return,
        };
        if !useful && noise.too_much(bytes) {
            tracing::warn!(system, "tool server floods; it is ended");
            pipe.answer_too_large();
            return;
        }
    }
}

/// What a server says beyond answering, per second.
struct Noise {
    since: Instant,
    messages: u32,
    bytes: usize,
}

impl Noise {
    fn new() -> Self {
        Noise { since: Instant::now(), messages: 0, bytes: 0 }
    }
    fn too_much(&mut self, bytes: usize) -> bool {
        if self.since.elapsed() > Duration::from_secs(1) {
            *self = Noise::new();
        }
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.messages > NOISE_MESSAGES_MAX || self.bytes > NOISE_BYTES_MAX
    }
}

pub(crate) enum Line {
    /// The buffer holds a line without its end.
    Whole,
    /// A line broke the cap and was thrown away; so many bytes of it were read.
    Skipped(usize),
    /// Nothing more comes.
    End,
}

/// Reads one line of at most `max` bytes into `line`. A longer line is skipped, without being kept, up to
/// [`SKIP_BYTES_MAX`]; beyond that this is an error.
pub(crate) async fn next_line<R: AsyncBufRead + Unpin>(
    from: &mut R,
    line: &mut Vec<u8>,
    max: usize,
) -> std::io::Result<Line> {
    line.clear();
    let mut length = 0usize;
    loop {
        let chunk = from.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(if length == 0 { Line::End } else { finished(length, max) });
        }
        let end = chunk.iter().position(|b| *b == b'\n');
        let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
        length = length.saturating_add(part.len());
        if length <= max {
            line.extend_from_slice(part);
        } else {
            line.clear();
        }
        let used = part.len() + usize::from(end.is_some());
        from.consume(used);
        if length > SKIP_BYTES_MAX {
            return Err(std::io::Error::other("a line without an end"));
        }
        if end.is_some() {
            return Ok(finished(length, max));
        }
    }
}

fn finished(length: usize, max: usize) -> Line {
    if length <= max { Line::Whole } else { Line::Skipped(length) }
}

/// Logs what the child writes to its standard error: cut, escaped, and not more than it takes to read it.
async fn log_stderr(system: String, stderr: ChildStderr) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    let mut noise = Noise::new();
    while let Ok(got) = next_line(&mut stderr, &mut line, STDERR_LINE_MAX).await {
        match got {
            Line::End => return,
            _ if noise.messages > 100 => _ = noise.too_much(0),
            Line::Whole => {
                _ = noise.too_much(0);
                let text = String::from_utf8_lossy(&line);
                tracing::debug!(system, line = ?text, "tool server says");
            }
            Line::Skipped(bytes) => tracing::debug!(system, bytes, "tool server says a very long line"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: A42
    #[tokio::test]
    async fn a_line_over_the_cap_is_skipped_and_the_next_is_read() {
        let text = format!("short\n{}\nlast", "x".repeat(100));
        let mut from = BufReader::with_capacity(7, text.as_bytes());
        let mut line = Vec::new();
        let mut seen = Vec::new();
        loop {
            match next_line(&mut from, &mut line, 10).await.unwrap() {
                Line::Whole => seen.push(String::from_utf8(line.clone()).unwrap()),
                Line::Skipped(n) => seen.push(format!("skipped {n}")),
                Line::End => break,
            }
        }
        assert_eq!(seen, ["short", "skipped 100", "last"]);
        assert!(line.capacity() <= 128, "the long line was kept");
    }
}
