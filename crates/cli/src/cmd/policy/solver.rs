//! The solver `cvc5` as a child process: found, bounded in what it may say, and ended by its own process id.
//!
//! It is a program of this machine that is trusted with a proof and with nothing else: it gets no secret of the
//! environment, and an answer that is no answer is an error. Questions go in as SMT-LIB, one answer comes out at a time.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use cedar_policy_symcc::SmtLibScript as _;
use cedar_policy_symcc::solver::{Decision, DecisionWithModel, Solver, SolverError};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter, Take};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The longest answer, in bytes. A model of one act is some ten thousand.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// How long a solver may take to say its version.
const VERSION_PATIENCE: Duration = Duration::from_secs(10);
/// How much of a strange answer is quoted, in characters.
const QUOTED_MAX: usize = 80;

/// A solver that answers.
#[derive(Debug, Clone)]
pub(super) struct Program {
    path: PathBuf,
    /// Its name and version, for people.
    pub(super) name: String,
}

impl Program {
    /// The program that `CVC5` names, or `cvc5` of the path. The error says in one line why there is none.
    pub(super) async fn find() -> Result<Program, String> {
        let path = match std::env::var_os("CVC5").filter(|named| !named.is_empty()) {
            Some(named) => PathBuf::from(named),
            None => on_the_path("cvc5").ok_or("the solver cvc5 is not installed")?,
        };
        let mut asked = quiet(&path);
        let asked =
            asked.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
        let shown = path.display().to_string();
        let mut child = asked.map_err(|e| format!("{shown} cannot be started: {e}"))?;
        let said = tokio::time::timeout(VERSION_PATIENCE, first_line(&mut child)).await;
        let _ = child.start_kill();
        let said =
            said.map_err(|_| format!("{shown} says no version within {} s", VERSION_PATIENCE.as_secs()))?;
        let mut words = said.split_whitespace().skip_while(|word| *word != "cvc5");
        let version = words.nth(2).filter(|version| version.starts_with(|c: char| c.is_ascii_digit()));
        let version = version.ok_or_else(|| format!("{shown} does not say that it is cvc5"))?;
        Ok(Program { name: format!("cvc5 {version}"), path })
    }

    /// Starts it. It ends itself after so long over one question, in case nobody is left to end it.
    pub(super) fn start(&self, patience: Duration) -> Result<Cvc5, SolverError> {
        let mut child = quiet(&self.path)
            .args(["--lang", "smt", "--quiet", &format!("--tlimit-per={}", patience.as_millis())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or_else(|| SolverError::Solver("it has no pipes".to_owned()))?;
        let output = BufReader::new(output.take(ANSWER_BYTES_MAX));
        Ok(Cvc5 { child, input: BufWriter::new(input), output })
    }
}

/// A command that hears of nothing but where programs and libraries are.
fn quiet(path: &PathBuf) -> Command {
    let mut command = Command::new(path);
    let kept = ["PATH", "LD_LIBRARY_PATH", "HOME"];
    let kept = kept.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    command.env_clear().envs(kept.collect::<Vec<(&str, OsString)>>()).stderr(Stdio::null());
    command
}

fn on_the_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

async fn first_line(child: &mut Child) -> String {
    let mut line = Vec::new();
    if let Some(output) = child.stdout.take() {
        let _ = BufReader::new(output.take(4096)).read_until(b'\n', &mut line).await;
    }
    String::from_utf8_lossy(&line).into_owned()
}

/// A running solver.
#[derive(Debug)]
pub(super) struct Cvc5 {
    child: Child,
    input: BufWriter<ChildStdin>,
    output: BufReader<Take<ChildStdout>>,
}

impl Cvc5 {
    async fn line(&mut self, answer: &mut String) -> Result<(), SolverError> {
        match self.output.read_line(answer).await {
            Ok(0) => Err(SolverError::Solver(
                "it ended, or would not come to an end, without an answer".to_owned(),
            )),
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn next_answer(&mut self) {
        self.output.get_mut().set_limit(ANSWER_BYTES_MAX);
    }
}

impl Drop for Cvc5 {
    fn drop(&mut self) {
        // By its own process id, and only that; the runtime reaps it.
        let _ = self.child.start_kill();
    }
}

impl Solver for Cvc5 {
    fn smtlib_input(&mut self) -> &mut (dyn tokio::io::AsyncWrite + Unpin + Send) {
        &mut self.input
    }

    async fn enable_models(&mut self) -> Result<(), SolverError> {
        Ok(self.smtlib_input().set_option("produce-models", "true").await?)
    }

    async fn check_sat(&mut self) -> Result<Decision, SolverError> {
        self.smtlib_input().check_sat().await?;
        self.input.flush().await?;
        self.next_answer();
        let mut answer = String::new();
        self.line(&mut answer).await?;
        match answer.trim() {
            "sat" => Ok(Decision::Sat),
            "unsat" => Ok(Decision::Unsat),
            "unknown" => Ok(Decision::Unknown),
            other => Err(strange(other)),
        }
    }

    async fn check_sat_with_model(&mut self) -> Result<DecisionWithModel, SolverError> {
        match self.check_sat().await? {
            Decision::Unsat => return Ok(DecisionWithModel::Unsat),
            Decision::Unknown => return Ok(DecisionWithModel::Unknown),
            Decision::Sat => {}
        }
        self.smtlib_input().get_model().await?;
        self.input.flush().await?;
        self.next_answer();
        let mut model = String::new();
        self.line(&mut model).await?;
        if model.trim() != "(" {
            return Err(strange(&model));
        }
        loop {
            let from = model.len();
            self.line(&mut model).await?;
            if model.get(from..).is_some_and(|line| line.trim() == ")") {
                return Ok(DecisionWithModel::Sat { model });
            }
        }
    }
}

fn strange(answer: &str) -> SolverError {
    SolverError::UnrecognizedSolverOutput(crate::out::plain(answer.trim(), QUOTED_MAX))
}
