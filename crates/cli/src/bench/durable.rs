//! What a decision costs when it has to be on disk before the answer, beside an append that decides nothing.
//!
//! Three writers in one folder: a preallocated file that is written and flushed (the medium's own price), a
//! store that appends an event of the same size (the price of the ledger), and the engine.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bailiwick_api::{Answer, Call, Caller, HandoffAsk, ProofSeen};
use bailiwick_audit::NoteSigner;
use bailiwick_core::{Digest, GrantId, TaskId, TenantId, Value};
use bailiwick_engine::{Config, Engine, Ledger, NewTask, SystemClock, TokenAsk};
use bailiwick_store::{Append, Location, NewEvent, Store};
use bailiwick_token::{KeyAlgorithm, Mint, SigningKey};
use tokio::runtime::Runtime;

use super::decision::take;
use super::rounds::{median, rotate};
use super::{Effort, Goal, Line, scene};

/// Callers that wait for their answers side by side.
const CALLERS: usize = 64;
/// Operations in one figure of a single caller.
const CALLS: usize = 200;
/// Bytes of the file that is written over and over.
const FILE_BYTES: u64 = 16 << 20;
pub(super) const AUDIENCE: &str = "http://127.0.0.1:7777";

/// Measures and compares, in a folder that is the caller's to remove.
pub(crate) fn measure(effort: Effort, folder: &Path) -> anyhow::Result<Vec<Line>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let engine = runtime.block_on(engine(&folder.join("product.db"), AUDIENCE))?;
    let store = runtime.block_on(Store::open(Location::Sqlite(folder.join("bare.db"))))?;
    let size = runtime.block_on(event_bytes(&engine))?;
    let house = House { runtime, engine, store, size, serial: AtomicU64::new(0) };
    let mut lines = house.alone(effort, folder)?;
    lines.extend(house.together(effort)?);
    lines.extend(house.handing_on(effort)?);
    house.runtime.block_on(house.verified(folder))?;
    Ok(lines)
}

struct House {
    runtime: Runtime,
    engine: Engine,
    store: Store,
    size: usize,
    serial: AtomicU64,
}

impl House {
    /// One caller.
    fn alone(&self, effort: Effort, folder: &Path) -> anyhow::Result<Vec<Line>> {
        let mut file = Preallocated::create(&folder.join("floor"), self.size)?;
        let mut troubles = Vec::new();
        let mut note = |result: anyhow::Result<f64>| result.unwrap_or_else(|e| (troubles.push(e), 0.0).1);
        let note = std::cell::RefCell::new(&mut note);
        let figures = rotate(
            effort.rounds,
            &mut [
                &mut || (note.borrow_mut())(file.burst(CALLS)),
                &mut || (note.borrow_mut())(self.runtime.block_on(self.append_burst())),
                &mut || (note.borrow_mut())(self.runtime.block_on(self.decide_burst())),
            ],
        );
        first(troubles)?;
        let [file, append, decide] = take(figures)?;
        Ok(vec![
            Line::new("durable.alone", "durable decision, one caller, median", "µs")
                .product(decide.median() / 1e3)
                .floor("append of its size", append.median() / 1e3)
                .peer("write + fdatasync", file.median() / 1e3)
                .goal(decide.over(&append), Goal::AtMost(2.0), "x the append"),
        ])
    }

    /// Many callers, each with a task of its own.
    fn together(&self, effort: Effort) -> anyhow::Result<Vec<Line>> {
        let mut troubles = Vec::new();
        let mut note = |result: anyhow::Result<f64>| result.unwrap_or_else(|e| (troubles.push(e), 0.0).1);
        let note = std::cell::RefCell::new(&mut note);
        let figures = rotate(
            effort.rounds,
            &mut [
                &mut || (note.borrow_mut())(self.runtime.block_on(self.append_rate(effort.span))),
                &mut || (note.borrow_mut())(self.runtime.block_on(self.decide_rate(effort.span))),
            ],
        );
        first(troubles)?;
        let [append, decide] = take(figures)?;
        Ok(vec![
            Line::new("durable.together", "durable decisions, 64 callers", "/s")
                .product(decide.median())
                .floor("appends of their size", append.median())
                .goal(decide.over(&append), Goal::AtLeast(0.25), "x the appends"),
        ])
    }

    /// A handoff, with and without the child's own token.
    fn handing_on(&self, effort: Effort) -> anyhow::Result<Vec<Line>> {
        let key = SigningKey::generate(KeyAlgorithm::Ed25519)?;
        let mut troubles = Vec::new();
        let mut note = |result: anyhow::Result<f64>| result.unwrap_or_else(|e| (troubles.push(e), 0.0).1);
        let note = std::cell::RefCell::new(&mut note);
        let figures = rotate(
            effort.rounds,
            &mut [
                &mut || (note.borrow_mut())(self.runtime.block_on(self.sign_and_append_burst(&key))),
                &mut || (note.borrow_mut())(self.runtime.block_on(self.hand_off_burst(false))),
                &mut || (note.borrow_mut())(self.runtime.block_on(self.hand_off_burst(true))),
            ],
        );
        first(troubles)?;
        let [floor, handoff, with_token] = take(figures)?;
        let line =
            |id: &str, what: &str| Line::new(id, what, "µs").floor("sign + append", floor.median() / 1e3);
        Ok(vec![
            line("handoff.durable", "durable handoff, median").product(handoff.median() / 1e3).goal(
                handoff.over(&floor),
                Goal::AtMost(2.0),
                "x sign + append",
            ),
            line("handoff.token", "durable handoff and the child's token, median")
                .product(with_token.median() / 1e3)
                .goal(with_token.over(&floor), Goal::AtMost(3.0), "x sign + append"),
        ])
    }

    async fn append_burst(&self) -> anyhow::Result<f64> {
        let stream = self.fresh_stream();
        let mut took = Vec::with_capacity(CALLS);
        for expect in 0..CALLS as u64 {
            let append = bare_append(&stream, expect, self.size);
            let start = Instant::now();
            self.store.append_at(append).await?;
            took.push(start.elapsed().as_nanos() as f64);
        }
        Ok(median(took))
    }

    async fn sign_and_append_burst(&self, key: &SigningKey) -> anyhow::Result<f64> {
        let stream = self.fresh_stream();
        let mut took = Vec::with_capacity(CALLS);
        for expect in 0..CALLS as u64 {
            let append = bare_append(&stream, expect, self.size);
            let start = Instant::now();
            std::hint::black_box(key.sign(&append.events[0].bytes)?);
            self.store.append_at(append).await?;
            took.push(start.elapsed().as_nanos() as f64);
        }
        Ok(median(took))
    }

    async fn decide_burst(&self) -> anyhow::Result<f64> {
        let (task, grant) = open(&self.engine).await?;
        let mut took = Vec::with_capacity(CALLS);
        for n in 0..CALLS {
            let caller = caller(&self.engine, &task, &grant, 0, n)?;
            let start = Instant::now();
            allowed(self.engine.decide(&caller, call()?).await?)?;
            took.push(start.elapsed().as_nanos() as f64);
        }
        Ok(median(took))
    }

    async fn hand_off_burst(&self, with_token: bool) -> anyhow::Result<f64> {
        let (task, grant) = open(&self.engine).await?;
        let to = scene::agent(1)?;
        // A child's token names its parent's, so there has to be one.
        let (agent, instance) = (scene::agent(0)?, scene::instance(&scene::agent(0)?));
        self.engine.issue_token(&TokenAsk { agent, instance, grant: grant.clone(), proof: None }).await?;
        let mut took = Vec::with_capacity(CALLS);
        for n in 0..CALLS {
            let caller = caller(&self.engine, &task, &grant, 0, n)?;
            let ask = HandoffAsk {
                to: to.clone(),
                capabilities: vec![],
                ttl_ms: None,
                depth: 0,
                payload: Value::from([("summary", Value::from("web-3 is slow"))]),
            };
            let start = Instant::now();
            let made = self.engine.hand_off(&caller, ask).await?;
            let made = made.map_err(|denial| anyhow::anyhow!("the handoff was refused: {}", denial.text))?;
            if with_token {
                let ask = TokenAsk {
                    agent: to.clone(),
                    instance: scene::instance(&to),
                    grant: made.grant,
                    proof: None,
                };
                self.engine.issue_token(&ask).await?;
            }
            took.push(start.elapsed().as_nanos() as f64);
        }
        Ok(median(took))
    }

    async fn append_rate(&self, span: Duration) -> anyhow::Result<f64> {
        let end = Instant::now() + span;
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..CALLERS {
            let (store, stream, size) = (self.store.clone(), self.fresh_stream(), self.size);
            callers.spawn(async move {
                let mut done: u64 = 0;
                while Instant::now() < end {
                    store.append_at(bare_append(&stream, done, size)).await?;
                    done += 1;
                }
                anyhow::Ok(done)
            });
        }
        rate(callers, span).await
    }

    async fn decide_rate(&self, span: Duration) -> anyhow::Result<f64> {
        let mut tasks = Vec::new();
        for _ in 0..CALLERS {
            let (task, grant) = open(&self.engine).await?;
            // The first decision of a task reads its log; after that it is in memory.
            allowed(
                self.engine.decide(&caller(&self.engine, &task, &grant, 0, usize::MAX)?, call()?).await?,
            )?;
            tasks.push((task, grant));
        }
        let end = Instant::now() + span;
        let mut callers = tokio::task::JoinSet::new();
        for (task, grant) in tasks {
            let engine = self.engine.clone();
            callers.spawn(async move {
                let mut done: u64 = 0;
                while Instant::now() < end {
                    let caller = caller(&engine, &task, &grant, 0, done as usize)?;
                    allowed(engine.decide(&caller, call()?).await?)?;
                    done += 1;
                }
                anyhow::Ok(done)
            });
        }
        rate(callers, span).await
    }

    /// The ledger that was measured is whole.
    async fn verified(&self, folder: &Path) -> anyhow::Result<()> {
        self.engine.export(&folder.join("bundle")).await?;
        Ok(())
    }

    fn fresh_stream(&self) -> String {
        format!("measured/task/{}", self.serial.fetch_add(1, Ordering::Relaxed))
    }
}

async fn rate(mut callers: tokio::task::JoinSet<anyhow::Result<u64>>, span: Duration) -> anyhow::Result<f64> {
    let mut all = 0;
    while let Some(done) = callers.join_next().await {
        all += done??;
    }
    Ok(all as f64 / span.as_secs_f64())
}

fn first(troubles: Vec<anyhow::Error>) -> anyhow::Result<()> {
    troubles.into_iter().next().map_or(Ok(()), Err)
}

pub(super) fn bare_append(stream: &str, expect: u64, size: usize) -> Append {
    let event = NewEvent { time_ms: scene::NOW.0, kind: "decided".to_owned(), bytes: vec![b'x'; size] };
    Append { stream: stream.to_owned(), expect, guards: vec![], events: vec![event], views: vec![] }
}

/// A file that is long enough already, so that flushing it writes data and nothing else.
struct Preallocated {
    file: File,
    event: Vec<u8>,
    at: u64,
}

impl Preallocated {
    fn create(path: &Path, size: usize) -> anyhow::Result<Self> {
        let file = File::create(path)?;
        file.write_all_at(&vec![0; FILE_BYTES as usize], 0)?;
        file.sync_all()?;
        Ok(Preallocated { file, event: vec![b'x'; size], at: 0 })
    }

    fn burst(&mut self, calls: usize) -> anyhow::Result<f64> {
        let mut took = Vec::with_capacity(calls);
        for _ in 0..calls {
            let start = Instant::now();
            self.file.write_all_at(&self.event, self.at)?;
            self.file.sync_data()?;
            took.push(start.elapsed().as_nanos() as f64);
            self.at = (self.at + self.event.len() as u64) % (FILE_BYTES - (1 << 16));
        }
        Ok(median(took))
    }
}

/// The organisation on a store of its own.
pub(super) async fn engine(file: &Path, audience: &str) -> anyhow::Result<Engine> {
    let store = Store::open(Location::Sqlite(file.to_owned())).await?;
    let key = SigningKey::generate(KeyAlgorithm::Ed25519)?;
    let config = Config {
        tenant: tenant()?,
        trust_domain: "example.org".to_owned(),
        audience: audience.to_owned(),
        token_ttl_secs: 300,
        clock: Arc::new(SystemClock::default()),
        mint: Mint::new(audience, key),
        ledger: Ledger::new(NoteSigner::from_seed("example.org/ledger", &[7; 32])?),
    };
    let engine = Engine::open(store, config).await?;
    let by = scene::dana()?;
    engine.set_person(&by, scene::person()?).await?;
    for manifest in scene::manifests()? {
        engine.classify(&by, manifest, None).await?;
    }
    for agent in scene::agents()? {
        engine.set_agent(&by, agent).await?;
    }
    let sources: Vec<_> = scene::policies(10).into_iter().map(|s| (s.name, s.text)).collect();
    engine.set_policy(&by, &sources).await?;
    Ok(engine)
}

fn tenant() -> anyhow::Result<TenantId> {
    TenantId::parse("acme").map_err(|e| anyhow::anyhow!("{e}"))
}

/// A task whose first agent restarts machines itself, and may hand that on.
pub(super) async fn open(engine: &Engine) -> anyhow::Result<(TaskId, GrantId)> {
    let chain = format!(
        r#"{{"steps":[{},{{"id":"hand","agent":"worker-0","act":"hand_off","to":"worker-1","pass":["summary"],"min":0,"max":4000000000}}]}}"#,
        scene::steps(0..2)
    );
    let new = NewTask {
        initiator: scene::dana()?,
        intent: "Fix ticket 4711: web-3 is slow".to_owned(),
        inputs: BTreeMap::from([("vm".to_owned(), Value::from("web-3"))]),
        types: BTreeMap::new(),
        agent: scene::agent(0)?,
        chain: Some(Value::parse(chain.as_bytes())?),
        capabilities: None,
        ttl_ms: 3_600_000,
        asks: 3,
        handoffs: 1 << 20,
        depth: 4,
        refusals: None,
        seeking: None,
        template: None,
    };
    let opened = engine.open_task(new).await?;
    Ok((opened.task, opened.grant))
}

/// An agent with a token and a fresh proof of possession.
fn caller(engine: &Engine, task: &TaskId, grant: &GrantId, agent: usize, n: usize) -> anyhow::Result<Caller> {
    let (agent, now) = (scene::agent(agent)?, engine.now());
    Ok(Caller {
        tenant: tenant()?,
        task: task.clone(),
        grant: grant.clone(),
        initiator: scene::dana()?,
        instance: scene::instance(&agent),
        agent,
        until: now.plus_ms(300_000),
        proof: Some(ProofSeen { id: Digest::of(&n.to_be_bytes()), until: now.plus_ms(60_000) }),
    })
}

fn call() -> anyhow::Result<Call> {
    Ok(Call { tool: scene::restart()?, args: scene::args(), definition: None, approval: None, says: None })
}

fn allowed(answer: Answer) -> anyhow::Result<()> {
    match answer {
        Answer::Allow(_) => Ok(()),
        other => anyhow::bail!("the decision was not the yes it had to be: {other:?}"),
    }
}

/// Bytes of the event that a decision of this scene writes.
pub(super) async fn event_bytes(engine: &Engine) -> anyhow::Result<usize> {
    let (task, grant) = open(engine).await?;
    allowed(engine.decide(&caller(engine, &task, &grant, 0, 0)?, call()?).await?)?;
    let size = engine.store().head().await?.size;
    let last = engine.store().scan(size.saturating_sub(1), 1).await?;
    last.first().map(|event| event.bytes.len()).ok_or_else(|| anyhow::anyhow!("nothing was recorded"))
}
