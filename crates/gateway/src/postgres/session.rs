//! One session: a client's messages on one side, the database on the other, and a decision between them.
//!
//! The client may speak the simple or the extended protocol; the server only ever hears the extended one, a statement at
//! a time, in the words of [`statement::read`]. Each message is answered before the next one is taken, so a refusal
//! stands in its place. What a statement gives is held back until its outcome is recorded.

use bailiwick_api::{
    Allowed, Answer, ApprovalState, Call, Caller, DecisionPoint, Denial, Outcome, OutcomeStatus, PointError,
};
use bailiwick_core::{ApprovalId, DecisionId, SystemId, Time, ToolId, Value};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::rows::{Shape, Taken, given};
use super::server::{Server, state_of};
use super::spec::{Scope, Verb, action};
use super::statement::{self, Datum, Kind, Statement, Unfit, Uses};
use super::wire::{BadWire, Bind, CLIENT_MAX, Frame, Named, Out, Said, Trouble, read_frame, said};
use crate::egress::spec::UNLISTED;
use crate::envelope::cut;
use crate::in_flight::report;
use crate::pending::PendingActs;

/// Largest result of one statement, in bytes.
const RESULT_MAX: usize = 8 << 20;
/// Rows asked of the server at once.
const ROWS_AT_ONCE: u32 = 500;
/// Prepared statements, portals and cursors of a session, each.
const NAMES_MAX: usize = 256;
/// Bytes to a client that are held before they are sent without being asked for.
const OUT_MAX: usize = 64 << 10;
/// Longest text of a statement that is recorded when it is refused unread.
const TEXT_MAX: usize = 1024;
/// The status of a session outside and inside a transaction.
const IDLE: u8 = b'I';
const IN_TRANSACTION: u8 = b'T';

/// Why a session is over.
#[derive(Debug)]
pub(crate) enum End {
    /// The client left.
    Left,
    /// The client's connection broke, or it sent what cannot be read.
    Client(BadWire),
    /// The database's connection broke.
    Server,
    /// It may not go on.
    Over(Trouble),
}

/// What a session stands on.
pub(crate) struct Ground<'g, P> {
    pub(crate) point: &'g P,
    pub(crate) pending: &'g PendingActs,
    pub(crate) system: &'g SystemId,
    pub(crate) scope_name: &'g str,
    pub(crate) scope: &'g Scope,
    /// How long a statement may take.
    pub(crate) statement_within: Duration,
}

/// What outlives the session's own work: who it is, and what it has not accounted for.
#[derive(Default)]
pub(crate) struct Account {
    /// Decisions that allowed and whose outcome is not recorded yet.
    open: Mutex<BTreeSet<DecisionId>>,
}

impl Account {
    fn opened(&self, decision: &DecisionId) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(decision.clone());
    }
    fn closed(&self, decision: &DecisionId) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(decision);
    }
    /// What is left, once.
    pub(crate) fn take(&self) -> Vec<DecisionId> {
        std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
    }
}

/// A session that is logged in on both sides.
pub(crate) struct Session<'g, P> {
    ground: Ground<'g, P>,
    caller: Arc<Mutex<Caller>>,
    account: Arc<Account>,
    server: Server,
    out: Out,
    prepared: HashMap<String, Prepared>,
    portals: HashMap<String, Portal>,
    cursors: HashMap<String, Uses>,
    status: u8,
    /// Something was refused or failed: what follows is not read before the client's next `Sync`.
    failed: bool,
    /// The server does not know of that failure.
    unknown_to_server: bool,
    /// Something ran since the last `Sync`.
    ran: bool,
    /// Whether a message to the client was begun and not ended.
    pub(crate) writing: bool,
}

#[derive(Clone)]
struct Prepared {
    statement: Arc<Statement>,
    params: Vec<u32>,
    described: Vec<Frame>,
    shape: Shape,
}

struct Portal {
    statement: Arc<Statement>,
    act: Option<Act>,
    /// The decision for its first run, and until when that may begin.
    paid: Option<(DecisionId, Time)>,
    shape: Shape,
}

/// What is decided.
#[derive(Clone)]
struct Act {
    tool: ToolId,
    args: Value,
    /// Whether the server may be asked for a few rows at a time.
    pieces: bool,
}

type Worked<T> = Result<T, End>;

impl From<BadWire> for End {
    fn from(_: BadWire) -> Self {
        End::Server
    }
}

impl<'g, P: DecisionPoint> Session<'g, P> {
    pub(crate) fn new(
        ground: Ground<'g, P>,
        caller: Arc<Mutex<Caller>>,
        account: Arc<Account>,
        server: Server,
    ) -> Self {
        Session {
            ground,
            caller,
            account,
            server,
            out: Out::default(),
            prepared: HashMap::new(),
            portals: HashMap::new(),
            cursors: HashMap::new(),
            status: IDLE,
            failed: false,
            unknown_to_server: false,
            ran: false,
            writing: false,
        }
    }

    /// Serves the client until one of the two is gone or the session is over.
    pub(crate) async fn run<R, W>(&mut self, from: &mut R, to: &mut W) -> End
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            let said = match read_frame(from, CLIENT_MAX).await.and_then(|frame| said(&frame)) {
                Ok(Said::Terminate) => return End::Left,
                Ok(said) => said,
                Err(bad) => return End::Client(bad),
            };
            let send = matches!(said, Said::Sync | Said::Flush | Said::Query(_));
            if let Err(end) = self.take(said).await {
                // What was true before the end is still told.
                let _ = self.send(to).await;
                return end;
            }
            if (send || self.out.len() > OUT_MAX) && self.send(to).await.is_err() {
                return End::Left;
            }
        }
    }

    async fn send<W: AsyncWrite + Unpin>(&mut self, to: &mut W) -> std::io::Result<()> {
        self.writing = true;
        to.write_all(&self.out.take()).await?;
        to.flush().await?;
        self.writing = false;
        Ok(())
    }

    async fn take(&mut self, said: Said) -> Worked<()> {
        match said {
            Said::Sync => self.sync().await,
            Said::Flush | Said::Terminate => Ok(()),
            _ if self.failed => Ok(()),
            Said::Query(sql) => self.query(&sql).await,
            Said::Parse { name, sql, types } => {
                if self.prepare(&name, &sql, &types).await? {
                    self.out.empty(b'1');
                }
                Ok(())
            }
            Said::Bind(bind) => {
                if self.bind(bind).await? {
                    self.out.empty(b'2');
                }
                Ok(())
            }
            Said::Describe(named) => self.describe(&named).await,
            Said::Execute { portal, rows_max } => self.execute(&portal, rows_max).await,
            Said::Close(named) => self.close(&named).await,
        }
    }

    // ---- the simple protocol ------------------------------------------------------------------------------------

    /// One statement without parameters, as the extended protocol says it.
    async fn query(&mut self, sql: &str) -> Worked<()> {
        if self.prepare("", sql, &[]).await? {
            self.run_prepared().await?;
        }
        self.sync().await
    }

    async fn run_prepared(&mut self) -> Worked<()> {
        let Some(prepared) = self.prepared.get("").cloned() else { return Ok(()) };
        if !prepared.params.is_empty() {
            self.fail(trouble("42P02", "there is no parameter $1"));
            return Ok(());
        }
        let none = Bind {
            portal: String::new(),
            statement: String::new(),
            formats: Vec::new(),
            values: Vec::new(),
            results: Vec::new(),
        };
        if self.bind(none).await? {
            if let Some(rows) = prepared.described.iter().find(|frame| frame.tag == b'T') {
                self.out.frame(rows);
            }
            self.execute("", 0).await?;
        }
        Ok(())
    }

    // ---- the extended protocol ----------------------------------------------------------------------------------

    /// Reads a statement and has the server prepare it. False if it was refused, and the client knows.
    async fn prepare(&mut self, name: &str, sql: &str, types: &[u32]) -> Worked<bool> {
        let read = match statement::read(sql, self.ground.scope) {
            Ok(read) => read,
            Err(unfit) => return self.refuse(&unfit, sql).await.map(|()| false),
        };
        if name.is_empty() {
            self.prepared.remove("");
        } else if self.prepared.contains_key(name) || self.prepared.len() >= NAMES_MAX {
            self.fail(trouble(
                "42P05",
                "a prepared statement of this name is there already, or there are too many",
            ));
            return Ok(false);
        }
        let mut prepared = Prepared {
            statement: Arc::new(read),
            params: Vec::new(),
            described: Vec::new(),
            shape: Shape::default(),
        };
        if prepared.statement.kind != Kind::Empty {
            let named = Named::Statement(name.to_owned());
            self.server.out.parse(name, &prepared.statement.sql, types);
            self.server.out.named(b'D', &named);
            self.server.out.empty(b'H');
            self.server.flush().await?;
            loop {
                let frame = self.next().await?;
                match frame.tag {
                    b'1' => {}
                    b't' => {
                        prepared.params = super::rows::params(&frame)?;
                        prepared.described.push(frame);
                    }
                    b'T' | b'n' => {
                        prepared.shape = Shape::of(&frame)?;
                        prepared.described.push(frame);
                        break;
                    }
                    b'E' => return self.failed_there(&frame).map(|()| false),
                    _ => return Err(End::Server),
                }
            }
        }
        self.prepared.insert(name.to_owned(), prepared);
        Ok(true)
    }

    /// Decides a statement with its values, and only then gives them to the server.
    async fn bind(&mut self, bind: Bind) -> Worked<bool> {
        let Some(prepared) = self.prepared.get(&bind.statement).cloned() else {
            self.fail(trouble("26000", "there is no such prepared statement"));
            return Ok(false);
        };
        if bind.portal.is_empty() {
            self.drop_portal("").await;
        } else if self.portals.contains_key(&bind.portal) || self.portals.len() >= NAMES_MAX {
            self.fail(trouble("42P03", "a portal of this name is there already, or there are too many"));
            return Ok(false);
        }
        if bind.values.len() != prepared.params.len() {
            self.fail(trouble("08P01", "the statement takes another number of parameters"));
            return Ok(false);
        }
        let act = match self.act(&prepared, &bind) {
            Ok(act) => act,
            Err(refused) => {
                self.fail(refused);
                return Ok(false);
            }
        };
        let paid = match &act {
            None => None,
            Some(act) => match self.decide(act).await? {
                Some(decision) => Some(decision),
                None => return Ok(false),
            },
        };
        let shape = prepared.shape.with_formats(&bind.results);
        let name = bind.portal.clone();
        let portal = Portal { statement: prepared.statement.clone(), act, paid, shape };
        let empty = portal.statement.kind == Kind::Empty;
        self.portals.insert(name.clone(), portal);
        if empty {
            return Ok(true);
        }
        self.server.out.bind(&bind);
        self.server.out.empty(b'H');
        self.server.flush().await?;
        let frame = self.next().await?;
        match frame.tag {
            b'2' => Ok(true),
            b'E' => {
                self.drop_portal(&name).await;
                self.failed_there(&frame).map(|()| false)
            }
            _ => Err(End::Server),
        }
    }

    /// What a statement with its values is decided as; `None` for what touches no data.
    fn act(&self, prepared: &Prepared, bind: &Bind) -> Result<Option<Act>, Trouble> {
        let statement = &*prepared.statement;
        let (verb, uses, pieces) = match &statement.kind {
            Kind::Data(verb, uses) => (*verb, uses, *verb == Verb::Select),
            Kind::Declare(_, uses) => (Verb::Select, uses, false),
            Kind::Fetch(cursor) => {
                let uses = self.cursors.get(cursor);
                (Verb::Select, uses.ok_or_else(|| trouble("34000", "there is no such cursor"))?, false)
            }
            Kind::Close(_) | Kind::Control | Kind::Empty => return Ok(None),
        };
        let tool = action(self.ground.system, self.ground.scope_name, verb);
        let tool = tool.ok_or_else(|| trouble("XX000", "the action has no name"))?;
        let data = |data: &[Datum]| {
            Value::List(
                data.iter()
                    .map(|datum| match datum {
                        Datum::Written(value) => value.clone(),
                        Datum::Given(number) => given(*number, &prepared.params, bind),
                    })
                    .collect(),
            )
        };
        let names = |names: &BTreeSet<String>| {
            Value::List(names.iter().map(|name| Value::from(name.as_str())).collect())
        };
        let mut args = vec![("tables", names(&uses.tables)), ("sql", Value::from(statement.sql.as_str()))];
        let more = [
            ("columns", names(&uses.columns)),
            ("functions", names(&uses.functions)),
            ("selectors", data(&uses.selectors)),
            ("values", data(&uses.values)),
        ];
        args.extend(
            more.into_iter().filter(|(_, value)| value.as_list().is_some_and(|list| !list.is_empty())),
        );
        let args = Value::Map(args.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
        Ok(Some(Act { tool, args, pieces }))
    }

    async fn describe(&mut self, named: &Named) -> Worked<()> {
        match named {
            Named::Statement(name) => {
                let Some(prepared) = self.prepared.get(name) else {
                    self.fail(trouble("26000", "there is no such prepared statement"));
                    return Ok(());
                };
                if prepared.described.is_empty() {
                    self.out.message(b't', |body| body.extend_from_slice(&[0, 0]));
                    self.out.empty(b'n');
                }
                prepared.described.iter().for_each(|frame| self.out.frame(frame));
            }
            Named::Portal(name) => {
                let Some(portal) = self.portals.get(name) else {
                    self.fail(trouble("34000", "there is no such portal"));
                    return Ok(());
                };
                if portal.statement.kind == Kind::Empty {
                    self.out.empty(b'n');
                    return Ok(());
                }
                self.server.out.named(b'D', named);
                self.server.out.empty(b'H');
                self.server.flush().await?;
                let frame = self.next().await?;
                match frame.tag {
                    b'T' | b'n' => self.out.frame(&frame),
                    b'E' => self.failed_there(&frame)?,
                    _ => return Err(End::Server),
                }
            }
        }
        Ok(())
    }

    /// Runs a portal: its first run is decided already, each further one is decided anew.
    async fn execute(&mut self, name: &str, rows_max: u32) -> Worked<()> {
        let Some(portal) = self.portals.get_mut(name) else {
            self.fail(trouble("34000", "there is no such portal"));
            return Ok(());
        };
        let (statement, shape, act) = (portal.statement.clone(), portal.shape.clone(), portal.act.clone());
        if statement.kind == Kind::Empty {
            self.out.empty(b'I');
            return Ok(());
        }
        let paid = portal.paid.take();
        let decision = match &act {
            // What touches no data needs no decision, but nothing is committed for a task that is over.
            None => {
                self.still_live().await?;
                None
            }
            Some(act) => match self.paid_for(act, paid).await? {
                Some(decision) => Some(decision),
                None => return Ok(()),
            },
        };
        self.ran = true;
        let pieces = act.is_some_and(|act| act.pieces);
        let within = self.ground.statement_within;
        let taken = match timeout(within, self.fetch(name, rows_max, pieces, &shape)).await {
            Ok(taken) => taken?,
            Err(_) => {
                let _ = self.server.cancel.send().await;
                return Err(End::Over(fatal("57014", "the statement took too long and was cut off")));
            }
        };
        if let Some(decision) = &decision {
            self.account_for(decision, taken.outcome(self.status == IN_TRANSACTION)).await?;
        }
        self.release(&statement, taken)
    }

    /// The decision for one run: the one that came with the values, if it is not too old, or a new one.
    async fn paid_for(&mut self, act: &Act, paid: Option<(DecisionId, Time)>) -> Worked<Option<DecisionId>> {
        if let Some((decision, until)) = paid {
            if crate::forward::now() <= until {
                return Ok(Some(decision));
            }
            self.never_run(&decision).await;
        }
        Ok(self.decide(act).await?.map(|(decision, _)| decision))
    }

    /// Has the server run a portal, a few rows at a time where it can be; nothing reaches the client yet.
    async fn fetch(&mut self, name: &str, rows_max: u32, pieces: bool, shape: &Shape) -> Worked<Taken> {
        let mut taken = Taken::default();
        loop {
            let left = rows_max.saturating_sub(taken.count());
            let piece = match (pieces, rows_max) {
                (false, _) => rows_max,
                (true, 0) => ROWS_AT_ONCE,
                (true, _) => left.min(ROWS_AT_ONCE),
            };
            self.server.out.execute(name, piece);
            self.server.out.empty(b'H');
            self.server.flush().await?;
            loop {
                let frame = self.next().await?;
                match frame.tag {
                    b'D' if taken.bytes() + frame.body.len() > RESULT_MAX => {
                        taken.too_large();
                        if !pieces {
                            let _ = self.server.cancel.send().await;
                        }
                    }
                    b'D' => taken.row(shape, frame)?,
                    b'C' | b'E' | b'I' => {
                        taken.end(frame);
                        return Ok(taken);
                    }
                    b's' if taken.is_too_large() || (rows_max > 0 && taken.count() >= rows_max) => {
                        taken.end(frame);
                        return Ok(taken);
                    }
                    b's' if pieces => break,
                    b's' => {
                        taken.end(frame);
                        return Ok(taken);
                    }
                    _ => return Err(End::Server),
                }
            }
        }
    }

    /// Tells the client what came of a statement.
    fn release(&mut self, statement: &Statement, taken: Taken) -> Worked<()> {
        if taken.is_too_large() {
            let mut refused = trouble("54000", "the result is larger than 8 MiB; it was withheld");
            "Read it in parts: with LIMIT, or through a cursor.".clone_into(&mut refused.hint);
            self.fail(refused);
            return Ok(());
        }
        if let Some(error) = taken.error() {
            return self.failed_there(error);
        }
        match &statement.kind {
            Kind::Declare(cursor, uses) if self.cursors.len() < NAMES_MAX => {
                self.cursors.insert(cursor.clone(), uses.clone());
            }
            Kind::Close(cursor) => _ = self.cursors.remove(cursor),
            _ => {}
        }
        taken.write(&mut self.out);
        Ok(())
    }

    async fn close(&mut self, named: &Named) -> Worked<()> {
        let known = match named {
            Named::Statement(name) => {
                self.prepared.remove(name).is_some_and(|p| p.statement.kind != Kind::Empty)
            }
            Named::Portal(name) => {
                let known = self.portals.get(name).is_some_and(|p| p.statement.kind != Kind::Empty);
                self.drop_portal(name).await;
                known
            }
        };
        if known {
            self.server.out.named(b'C', named);
            self.server.out.empty(b'H');
            self.server.flush().await?;
            let frame = self.next().await?;
            match frame.tag {
                b'3' => {}
                b'E' => return self.failed_there(&frame),
                _ => return Err(End::Server),
            }
        }
        self.out.empty(b'3');
        Ok(())
    }

    /// Ends what was begun since the last one. A refusal of ours fails the server's transaction too.
    async fn sync(&mut self) -> Worked<()> {
        let provoked = self.unknown_to_server && (self.ran || self.status == IN_TRANSACTION);
        if provoked {
            let nowhere = Bind {
                portal: String::new(),
                statement: "bailiwick refused a statement".to_owned(),
                formats: Vec::new(),
                values: Vec::new(),
                results: Vec::new(),
            };
            self.server.out.bind(&nowhere);
        }
        self.server.out.empty(b'S');
        self.server.flush().await?;
        let status = loop {
            let frame = self.next().await?;
            match (frame.tag, frame.body.as_slice()) {
                (b'Z', [status]) => break *status,
                (b'E', _) if provoked => {}
                // What only comes to light when a transaction ends.
                (b'E', _) => self.out.frame(&frame),
                _ => return Err(End::Server),
            }
        };
        (self.failed, self.unknown_to_server, self.ran, self.status) = (false, false, false, status);
        if status == IDLE {
            let names: Vec<String> = self.portals.keys().cloned().collect();
            for name in names {
                self.drop_portal(&name).await;
            }
            self.cursors.clear();
        }
        self.out.ready(status);
        Ok(())
    }

    /// Forgets a portal. A decision for it that nothing came of is accounted for.
    async fn drop_portal(&mut self, name: &str) {
        if let Some(Portal { paid: Some((decision, _)), .. }) = self.portals.remove(name) {
            self.never_run(&decision).await;
        }
    }

    async fn never_run(&self, decision: &DecisionId) {
        let note = Some("it was never run".to_owned());
        let outcome =
            Outcome { status: OutcomeStatus::Failed, result: None, bytes: 0, words: Vec::new(), note };
        if self.account_for(decision, outcome).await.is_err() {
            tracing::warn!(%decision, "an outcome could not be recorded");
        }
    }

    // ---- the server ---------------------------------------------------------------------------------------------

    /// The next message that answers something; what the server says besides is passed on or dropped.
    async fn next(&mut self) -> Worked<Frame> {
        loop {
            let frame = self.server.read().await?;
            match frame.tag {
                b'N' => self.out.frame(&frame),
                b'S' => {
                    self.server.said(&frame)?;
                    self.out.frame(&frame);
                }
                b'A' => {}
                _ => return Ok(frame),
            }
        }
    }

    /// The server refused: the client reads why. What ends the server's side ends the session.
    fn failed_there(&mut self, frame: &Frame) -> Worked<()> {
        let state = state_of(frame);
        self.out.frame(frame);
        self.failed = true;
        let ended = state.starts_with("57P") || state.starts_with("08");
        if ended { Err(End::Server) } else { Ok(()) }
    }

    /// We refused: what follows is not read until the client is in step again.
    fn fail(&mut self, trouble: Trouble) {
        self.out.error(&trouble);
        self.failed = true;
        self.unknown_to_server = true;
    }

    // ---- decisions ----------------------------------------------------------------------------------------------

    fn caller(&self) -> Caller {
        // The proof of possession was used up when the session began.
        let caller = self.caller.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Caller { proof: None, ..caller }
    }

    async fn still_live(&self) -> Worked<()> {
        if self.ground.point.live(&self.caller()).await {
            return Ok(());
        }
        Err(End::Over(fatal("57P01", "the task or grant of this session has ended")))
    }

    /// Asks for a decision. `None` if it is not a yes, and the client knows.
    async fn decide(&mut self, act: &Act) -> Worked<Option<(DecisionId, Time)>> {
        let caller = self.caller();
        let approval = match self.recall(&caller, act).await {
            Ok(approval) => approval,
            Err(waiting) => {
                self.fail(*waiting);
                return Ok(None);
            }
        };
        let call =
            Call { tool: act.tool.clone(), args: act.args.clone(), definition: None, approval, says: None };
        let answer = match self.ground.point.decide(&caller, call).await {
            Ok(answer) => answer,
            Err(error) => {
                self.fail(undecided(&error));
                return Ok(None);
            }
        };
        match answer.allowed() {
            Ok(allowed) => {
                self.ground.pending.forget(&caller, &act.tool, &act.args);
                self.allowed(act, &allowed).await
            }
            Err(other) => self.not_now(&caller, act, *other).map(|()| None),
        }
    }

    /// What was allowed must be what was asked: a statement cannot be narrowed by whoever approves it.
    async fn allowed(&mut self, act: &Act, allowed: &Allowed) -> Worked<Option<(DecisionId, Time)>> {
        let decision = allowed.decision().clone();
        self.account.opened(&decision);
        if allowed.args() == &act.args && crate::forward::now() <= allowed.until() {
            return Ok(Some((decision, allowed.until())));
        }
        let note = Some("sql.not_as_asked".to_owned());
        let outcome =
            Outcome { status: OutcomeStatus::Failed, result: None, bytes: 0, words: Vec::new(), note };
        self.account_for(&decision, outcome).await?;
        self.fail(trouble(
            "42501",
            "what was allowed is not this statement, or too long ago; nothing was done",
        ));
        Ok(None)
    }

    fn not_now(&mut self, caller: &Caller, act: &Act, answer: Answer) -> Worked<()> {
        match answer {
            Answer::Ask(pending) => {
                self.ground.pending.remember(caller, &act.tool, &act.args, &pending.approval);
                self.fail(asked(&pending.approval, &pending.text));
                Ok(())
            }
            Answer::Deny(denial) if denial.step < 4 => {
                Err(End::Over(Trouble { fatal: true, ..denied(&denial) }))
            }
            Answer::Deny(denial) => {
                self.ground.pending.forget(caller, &act.tool, &act.args);
                self.fail(denied(&denial));
                Ok(())
            }
            // `allowed` gives back only what does not allow; if that ever changes, this stays a refusal.
            Answer::Allow(_) => Err(End::Over(fatal("XX000", "no decision could be made"))),
        }
    }

    /// The handle of an act that waited for a person, if it has been decided.
    async fn recall(&self, caller: &Caller, act: &Act) -> Result<Option<ApprovalId>, Box<Trouble>> {
        let Some(approval) = self.ground.pending.find(caller, &act.tool, &act.args) else { return Ok(None) };
        match self.ground.point.approval(caller, &approval).await {
            Ok(ApprovalState::Waiting { .. }) => {
                Err(Box::new(asked(&approval, "Nobody has decided yet whether this may be done.")))
            }
            Ok(ApprovalState::Approved { .. } | ApprovalState::Denied { .. }) => Ok(Some(approval)),
            Ok(ApprovalState::Closed { .. }) => {
                self.ground.pending.forget(caller, &act.tool, &act.args);
                Ok(None)
            }
            Err(error) => Err(Box::new(undecided(&error))),
        }
    }

    /// Refuses what cannot be judged, by the same decision point: it is recorded and counts. An answer that allows
    /// changes nothing.
    async fn refuse(&mut self, unfit: &Unfit, sql: &str) -> Worked<()> {
        let caller = self.caller();
        let mut refused = trouble("42501", &format!("refused: {}", unfit.why));
        unfit.code.clone_into(&mut refused.detail);
        if let Ok(tool) = ToolId::of(self.ground.system, UNLISTED) {
            let args = Value::from([
                ("scope", Value::from(self.ground.scope_name)),
                ("sql", Value::from(cut(sql, TEXT_MAX))),
                ("why", Value::from(unfit.code)),
            ]);
            // The arguments of what is not classified are not recorded; what the agent says is, as its own words.
            let says = Some(cut(sql, TEXT_MAX).to_owned());
            let call = Call { tool, args, definition: None, approval: None, says };
            let decision = match self.ground.point.decide(&caller, call).await {
                Ok(Answer::Deny(denial)) if denial.step < 4 => {
                    return Err(End::Over(Trouble { fatal: true, ..denied(&denial) }));
                }
                Ok(Answer::Deny(denial)) => denial.decision,
                Ok(Answer::Ask(pending)) => pending.decision,
                Ok(Answer::Allow(allow)) => {
                    self.account.opened(&allow.decision);
                    let note = Some(unfit.code.to_owned());
                    let outcome = Outcome {
                        status: OutcomeStatus::Failed,
                        result: None,
                        bytes: 0,
                        words: Vec::new(),
                        note,
                    };
                    self.account_for(&allow.decision, outcome).await?;
                    allow.decision
                }
                Err(error) => {
                    self.fail(undecided(&error));
                    return Ok(());
                }
            };
            refused.detail = format!("{} (decision {decision})", unfit.code);
        }
        self.fail(refused);
        Ok(())
    }

    /// Records what came of an allowed statement. If that cannot be recorded, nothing of it is told.
    async fn account_for(&self, decision: &DecisionId, outcome: Outcome) -> Worked<()> {
        let recorded = report(self.ground.point, &self.caller(), decision, outcome).await;
        self.account.closed(decision);
        recorded.map_err(|error| {
            tracing::error!(%decision, %error, "an outcome could not be recorded");
            End::Over(fatal("58000", "what came of it could not be recorded, so it is not told"))
        })
    }
}

fn trouble(state: &'static str, message: &str) -> Trouble {
    let message = message.to_owned();
    Trouble { fatal: false, state, message, detail: String::new(), hint: String::new() }
}

/// The end of a session, in words.
pub(crate) fn fatal(state: &'static str, message: &str) -> Trouble {
    Trouble { fatal: true, ..trouble(state, message) }
}

/// A refusal as a client reads it.
pub(crate) fn denied(denial: &Denial) -> Trouble {
    let mut refused = trouble("42501", &denial.text);
    refused.detail = format!("{} (decision {})", denial.code, denial.decision);
    denial.remedy.clone_into(&mut refused.hint);
    refused
}

/// A question to a person as a client reads it.
pub(crate) fn asked(approval: &ApprovalId, text: &str) -> Trouble {
    let mut waits = trouble("42501", text);
    waits.detail = format!("approval.waiting ({approval})");
    "Once a person has said yes, do exactly the same again.".clone_into(&mut waits.hint);
    waits
}

/// No decision could be made.
pub(crate) fn undecided(error: &PointError) -> Trouble {
    let mut none =
        trouble("57000", &format!("no decision could be made, so nothing was done: {}", error.reason));
    error.code.clone_into(&mut none.detail);
    none
}
