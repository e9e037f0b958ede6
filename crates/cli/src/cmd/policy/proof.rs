//! What a change of policies does, proved or refuted: the questions of `bailiwick_policy::proof` put to a solver.
//!
//! It fails closed: what is not answered in time, answered strangely, or refuted by an act that the rules themselves do
//! not confirm, is *not proved*, and the reason is told. No failure of a solver fails the command.

use std::time::{Duration, Instant};

use bailiwick_core::agent::Agent;
use bailiwick_core::tool::Manifest;
use bailiwick_policy::CompiledSet;
use bailiwick_policy::diff::{Change, Differences};
use bailiwick_policy::proof::{Example, Question, Questions, Way};
use cedar_policy::{PolicySet, Schema};
use cedar_policy_symcc::err::Error;
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicy, CompiledPolicySet, Env};
use serde_json::json;

use super::solver::{Cvc5, Program};
use crate::out::{Paint, plain, several};

/// The longest a solver is given for one question.
const QUESTION_SECS_MAX: u64 = 10;
/// The longest that one counterexample is made plainer.
const PLAINER_PATIENCE: Duration = Duration::from_secs(2);
/// Stack of the thread that makes formulas of rules, which is done by recursion.
const STACK_BYTES: usize = 64 << 20;
/// How many counterexamples and reasons are shown of each way.
const SHOWN: usize = 20;

/// What two sets are compared on.
pub(super) struct Subject {
    pub(super) old: CompiledSet,
    pub(super) new: CompiledSet,
    pub(super) agents: Vec<Agent>,
    pub(super) tools: Vec<Manifest>,
}

/// What was asked, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// Name and version of the solver; `None`: it was not needed, or could not be asked.
    solver: Option<String>,
    /// Why nothing was asked that had to be.
    unasked: Option<String>,
    questions: usize,
    /// Questions that answer themselves.
    same: usize,
    took: Duration,
    ways: [Findings; 2],
}

/// What is known of one way.
#[derive(Debug, Default)]
struct Findings {
    /// Acts that are possible with what is registered.
    today: Vec<Shown>,
    /// Acts that could become possible with what is not registered yet.
    later: Vec<Shown>,
    /// What could not be settled, and why.
    open: Vec<(String, String)>,
}

/// A counterexample.
#[derive(Debug)]
struct Shown {
    example: Example,
    yes: Option<String>,
}

/// How one way stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// No such act is possible, whatever is registered.
    Proved,
    /// No such act is possible with what is registered.
    ProvedToday,
    /// There is such an act.
    Refuted,
    /// Nobody knows.
    Unproved,
}

impl Standing {
    fn as_str(self) -> &'static str {
        match self {
            Standing::Proved => "proved",
            Standing::ProvedToday => "proved_today",
            Standing::Refuted => "refuted",
            Standing::Unproved => "unproved",
        }
    }
}

impl Proof {
    /// Nothing was asked, and why.
    pub(super) fn unasked(why: impl Into<String>) -> Proof {
        Proof { unasked: Some(why.into()), ..Proof::default() }
    }

    /// How one way stands.
    pub(super) fn standing(&self, way: Way) -> Standing {
        let found = self.of(way);
        match () {
            () if self.unasked.is_some() => Standing::Unproved,
            () if !found.today.is_empty() => Standing::Refuted,
            () if !found.open.is_empty() => Standing::Unproved,
            () if !found.later.is_empty() => Standing::ProvedToday,
            () => Standing::Proved,
        }
    }

    /// Takes nothing for proved that an act which was tried out contradicts.
    pub(super) fn held_against(mut self, tried: &Differences) -> Proof {
        for way in [Way::Wider, Way::Narrower] {
            let proved = matches!(self.standing(way), Standing::Proved | Standing::ProvedToday);
            // A handoff cannot wait for a person, so being asked is being refused there.
            let against = |d: &&bailiwick_policy::diff::Difference| match d.change {
                Change::Allowed => way == Way::Wider,
                Change::AskedInsteadOfDenied => way == Way::Wider && !d.handoff,
                Change::AskedInsteadOfAllowed => way == Way::Narrower,
                Change::Denied => way == Way::Narrower && !d.handoff,
                Change::AskedOtherwise => false,
            };
            if let Some(act) = tried.found.iter().find(against).filter(|_| proved) {
                let why = "the solver says no, and an act that was tried out says yes; it cannot be believed";
                self.of_mut(way).open.push((act.act.clone(), why.to_owned()));
            }
        }
        self
    }

    fn of(&self, way: Way) -> &Findings {
        let [wider, narrower] = &self.ways;
        if way == Way::Wider { wider } else { narrower }
    }

    fn of_mut(&mut self, way: Way) -> &mut Findings {
        let [wider, narrower] = &mut self.ways;
        if way == Way::Wider { wider } else { narrower }
    }
}

/// Asks the solver what the change does, for at most so long. Never fails; what is not known is said to be not known.
pub(super) async fn prove(subject: Subject, within: Duration) -> Proof {
    let (done, answer) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("proof".to_owned()).stack_size(STACK_BYTES);
    let started = thread.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let proof = match runtime {
            Ok(runtime) => runtime.block_on(settle(&subject, within)),
            Err(error) => Proof::unasked(format!("the machine gives no thread: {error}")),
        };
        // Nobody waits any more if the command was interrupted.
        let _ = done.send(proof);
    });
    match started {
        Ok(_) => answer.await.unwrap_or_else(|_| Proof::unasked("the rules could not be put into formulas")),
        Err(error) => Proof::unasked(format!("the machine gives no thread: {error}")),
    }
}

async fn settle(subject: &Subject, within: Duration) -> Proof {
    let Subject { old, new, agents, tools } = subject;
    let questions = match Questions::between(old, new, agents, tools) {
        Ok(questions) => questions,
        Err(why) => return Proof::unasked(format!("the rules cannot be put into questions: {why}")),
    };
    if questions.asked.is_empty() && !questions.cut {
        return Proof { same: questions.same, ..Proof::default() };
    }
    if within.is_zero() {
        return Proof::unasked("the solver was given no time");
    }
    match Program::find().await {
        Ok(program) => Asking::new(program, within).all(&questions).await,
        Err(why) => Proof::unasked(why),
    }
}

enum Answer {
    Proved,
    Today(Example),
    Later(Example),
    Open(String),
}

/// What the solver says.
enum Word {
    Proved,
    /// An act with what is registered.
    Today(Box<Env>),
    /// An act, and none with what is registered.
    Later(Box<Env>),
    Open(String),
}

/// A row of questions to one solver, which is started anew after it failed.
struct Asking {
    program: Program,
    began: Instant,
    within: Duration,
    running: Option<CedarSymCompiler<Cvc5>>,
}

impl Asking {
    fn new(program: Program, within: Duration) -> Asking {
        Asking { program, began: Instant::now(), within, running: None }
    }

    async fn all(mut self, questions: &Questions<'_>) -> Proof {
        let mut proof =
            Proof { solver: Some(self.program.name.clone()), same: questions.same, ..Proof::default() };
        let mut settled = None;
        for question in &questions.asked {
            if settled == Some(question.subject()) {
                continue;
            }
            proof.questions += 1;
            let answer = self.ask(questions, question).await;
            let shown = |example| Shown { example, yes: question.yes.as_ref().map(|yes| yes.in_words()) };
            let found = proof.of_mut(question.way);
            match answer {
                Answer::Proved => {}
                Answer::Today(example) => {
                    found.today.push(shown(example));
                    settled = Some(question.subject());
                }
                Answer::Later(example) => found.later.push(shown(example)),
                Answer::Open(why) => found.open.push((question.about.clone(), why)),
            }
        }
        if questions.cut {
            for found in &mut proof.ways {
                found
                    .open
                    .push(("the rest".to_owned(), "there are more questions than are asked".to_owned()));
            }
        }
        proof.took = self.began.elapsed();
        proof
    }

    async fn ask(&mut self, questions: &Questions<'_>, question: &Question) -> Answer {
        let left = self.within.saturating_sub(self.began.elapsed());
        if left.is_zero() {
            return Answer::Open(format!("the solver was given {} s in all", self.within.as_secs()));
        }
        let patience = left.min(Duration::from_secs(QUESTION_SECS_MAX));
        let word = match tokio::time::timeout(patience, self.word(questions, question)).await {
            Ok(Ok(word)) => word,
            Ok(Err(why)) => {
                self.running = None;
                Word::Open(why)
            }
            Err(_) => {
                self.running = None;
                Word::Open(format!("the solver gave up after {} s", patience.as_secs().max(1)))
            }
        };
        let confirm = |found: &Env| questions.confirm(question, &found.request, &found.entities);
        match word {
            Word::Proved => Answer::Proved,
            Word::Open(why) => Answer::Open(why),
            Word::Later(found) => confirm(&found).map_or_else(unconfirmed, Answer::Later),
            Word::Today(found) => {
                let plainer = self.plainer(questions, question).await;
                let example = plainer.and_then(|plainer| confirm(&plainer).ok()).map(Ok);
                example.unwrap_or_else(|| confirm(&found)).map_or_else(unconfirmed, Answer::Today)
            }
        }
    }

    async fn word(&mut self, questions: &Questions<'_>, question: &Question) -> Result<Word, String> {
        let schema = &questions.schema;
        for policy in &question.must_not_fail {
            let compiled = CompiledPolicy::compile(policy, &question.env, schema).map_err(|e| told(&e))?;
            if !self.solver()?.check_never_errors_opt(&compiled).await.map_err(|e| told(&e))? {
                return Ok(Word::Open(format!("rule `{}` can fail, and what fails denies", policy.id())));
            }
        }
        let covers = compiled(&question.covers, question, schema)?;
        let Some(any) = self.beyond(&compiled(&question.lets, question, schema)?, &covers).await? else {
            return Ok(Word::Proved);
        };
        let today = compiled(&question.lets_today, question, schema)?;
        Ok(match self.beyond(&today, &covers).await? {
            Some(found) => Word::Today(Box::new(found)),
            None => Word::Later(Box::new(any)),
        })
    }

    /// A counterexample with as little in it that is special as can be. Nothing depends on it: `None` if there is no
    /// plainer one, or no time to look for it.
    async fn plainer(&mut self, questions: &Questions<'_>, question: &Question) -> Option<Env> {
        let schema = &questions.schema;
        let covers = compiled(&question.covers, question, schema).ok()?;
        let (began, mut kept, mut found) = (Instant::now(), Vec::new(), None);
        for fact in question.plainer() {
            let left = PLAINER_PATIENCE.min(self.within).saturating_sub(began.elapsed());
            kept.push(fact);
            let lets = compiled(&question.assuming(&kept).ok()?, question, schema).ok()?;
            match tokio::time::timeout(left, self.beyond(&lets, &covers)).await {
                Ok(Ok(Some(plainer))) => found = Some(plainer),
                Ok(Ok(None)) => drop(kept.pop()),
                _ => {
                    self.running = None;
                    break;
                }
            }
        }
        found
    }

    /// An act that these rules let through and the others do not.
    async fn beyond(
        &mut self,
        lets: &CompiledPolicySet,
        covers: &CompiledPolicySet,
    ) -> Result<Option<Env>, String> {
        self.solver()?.check_implies_with_counterexample_opt(lets, covers).await.map_err(|e| told(&e))
    }

    fn solver(&mut self) -> Result<&mut CedarSymCompiler<Cvc5>, String> {
        if self.running.is_none() {
            let patience = Duration::from_secs(QUESTION_SECS_MAX);
            let started =
                self.program.start(patience).map_err(|e| format!("the solver cannot be started: {e}"))?;
            self.running = Some(CedarSymCompiler::new(started).map_err(|e| told(&e))?);
        }
        self.running.as_mut().ok_or_else(|| "the solver cannot be started".to_owned())
    }
}

fn compiled(rules: &PolicySet, question: &Question, schema: &Schema) -> Result<CompiledPolicySet, String> {
    CompiledPolicySet::compile(rules, &question.env, schema).map_err(|e| told(&e))
}

fn unconfirmed(why: String) -> Answer {
    Answer::Open(format!("the solver names an act: {why}"))
}

fn told(error: &Error) -> String {
    match error {
        Error::SolverUnknown => "the solver cannot tell".to_owned(),
        Error::SolverError(error) => format!("the solver answers strangely: {error}"),
        Error::DecodeModel(error) => format!("the solver's example cannot be read: {error}"),
        other => plain(&other.to_string(), 200),
    }
}

// ---- in words ---------------------------------------------------------------------------------------------------

impl Proof {
    /// For programs.
    pub(super) fn document(&self) -> serde_json::Value {
        let way = |way: Way| {
            let found = self.of(way);
            let shown = |shown: &Shown, today: bool| {
                let Shown { example: e, yes } = shown;
                json!({
                    "change": e.change.as_str(), "act": e.act, "args": e.args, "example": e.when, "yes": yes,
                    "old": e.old, "new": e.new, "registered": today,
                })
            };
            let examples =
                found.today.iter().map(|s| shown(s, true)).chain(found.later.iter().map(|s| shown(s, false)));
            let open = found.open.iter().map(|(about, why)| json!({"about": about, "why": why}));
            json!({
                "state": self.standing(way).as_str(), "counterexamples": examples.collect::<Vec<_>>(),
                "unproved": open.collect::<Vec<_>>(),
            })
        };
        json!({
            "solver": self.solver, "unasked": self.unasked, "questions": self.questions, "same": self.same,
            "millis": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "wider": way(Way::Wider), "narrower": way(Way::Narrower),
        })
    }

    /// For people.
    pub(super) fn in_words(&self, paint: Paint) -> Vec<String> {
        if let Some(why) = &self.unasked {
            let next = "Debian and Ubuntu: apt install cvc5; or name a program in CVC5";
            return vec![format!("{}  {why} ({next})", paint.yellow("nothing proved"))];
        }
        let mut lines = self.way_in_words(Way::Wider, paint);
        lines.extend(self.way_in_words(Way::Narrower, paint));
        let same = format!("{} answered by the rules being the same", several(self.same, "question"));
        lines.push(paint.dim(&match &self.solver {
            Some(solver) => {
                let asked = several(self.questions, "question");
                format!("{asked} put to {solver} in {:.1} s; {same}", self.took.as_secs_f64())
            }
            None => same,
        }));
        lines
    }

    fn way_in_words(&self, way: Way, paint: Paint) -> Vec<String> {
        let found = self.of(way);
        let claim = match way {
            Way::Wider => "nothing more is allowed, by itself or with anybody's yes",
            Way::Narrower => "nothing less is allowed, by itself or with anybody's yes",
        };
        let mut lines = vec![match self.standing(way) {
            Standing::Proved => format!("{}  {claim}", paint.green("proved")),
            Standing::ProvedToday => {
                format!("{}  {claim}, with the agents and resources there are", paint.green("proved"))
            }
            Standing::Refuted if way == Way::Wider => format!("{}  more is allowed", paint.red("refuted")),
            Standing::Refuted => format!("{}  less is allowed", paint.yellow("refuted")),
            Standing::Unproved => format!("{}  that {claim}", paint.yellow("not proved")),
        }];
        for (shown, about) in found
            .today
            .iter()
            .map(|s| (s, ""))
            .chain(found.later.iter().map(|s| (s, ", once there is such a thing")))
        {
            let Shown { example: e, yes } = shown;
            let yes = yes.as_ref().map(|yes| format!(" {yes}")).unwrap_or_default();
            lines.push(format!("    {}{yes}{about}", plain(&e.act, 200)));
            lines.push(format!("    such as  {}", plain(&e.when, 300)));
            lines.push(format!("    old      {}", plain(&e.old, 300)));
            lines.push(format!("    new      {}", plain(&e.new, 300)));
        }
        let most = found.open.len().min(SHOWN);
        lines.extend(found.open.iter().take(SHOWN).map(|(about, why)| format!("    {about}: {why}")));
        if found.open.len() > most {
            lines.push(format!("    … and {} more", found.open.len() - most));
        }
        lines
    }
}
