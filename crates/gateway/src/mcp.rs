//! The methods of MCP as an agent behind bailiwick sees them.
//!
//! `tools/list` shows what the decision point says could be allowed, from pinned copies. `tools/call` asks
//! it, forwards with its witness, reports what came of it, and only then answers: a result whose outcome
//! could not be recorded is withheld, because what it brought would move on unlabelled. (The record of a reading may
//! reach the disk after the answer; the decision point sees to it that nothing decided later misses it.) Once a
//! decision was asked for, the call runs to its report even if the client goes away. What is not known here is refused.

use crate::answer::{self, Answer, META_APPROVAL, META_SAYS, int};
use crate::builtin;
use crate::door::Door;
use crate::envelope::{Body, Request, codes, cut};
use crate::forward::forward;
use crate::gateway::Gateway;
use crate::headers::{self, ParamHeader};
use crate::in_flight::{Stopped, report, stopped};
use crate::names::{self, BUILT_IN};
use crate::upstream::CallError;
use crate::version;
use bailiwick_api::{
    Answer as Decided, ApprovalState, Call, Caller, DecisionPoint, Outcome, OutcomeStatus, PointError,
    ToolView,
};
use bailiwick_core::{ApprovalId, DecisionId, SystemId, ToolId, Value};
use http::HeaderMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Longest note of the agent that is recorded, in bytes.
const SAYS_MAX: usize = 2048;
/// How long a client may keep a tool list, in milliseconds. Each call is decided anew whatever it kept.
const LIST_TTL_MS: u64 = 5_000;

/// Around one request: who asks, at which endpoint, in which generation.
pub(crate) struct Context {
    pub(crate) caller: Caller,
    /// The one system this endpoint is for; `None` for all.
    pub(crate) only: Option<SystemId>,
    /// True for the stateless generation.
    pub(crate) modern: bool,
    /// The request's headers where they must agree with the arguments (stateless generation).
    pub(crate) headers: HeaderMap,
    /// Turns true when the client takes the request back or goes away.
    pub(crate) withdrawn: watch::Receiver<bool>,
}

impl<P: DecisionPoint, D: Door> Gateway<P, D> {
    /// Serves one request. Sessions and greetings are the transport's; this is the rest.
    pub(crate) async fn serve(self: &Arc<Self>, context: Context, request: Request) -> Answer {
        let modern = context.modern;
        let answer = match request.method.as_str() {
            "tools/call" => self.clone().call(context, request).await,
            "tools/list" => self.list(&context, &request).await,
            "server/discover" if modern => Answer::Result(discovered()),
            "ping" if !modern => Answer::Result(Value::empty()),
            // Nothing but tools is passed on: the lists are empty, and no name in them exists.
            "prompts/list" => Answer::Result(empty_list("prompts", modern)),
            "resources/list" => Answer::Result(empty_list("resources", modern)),
            "resources/templates/list" => Answer::Result(empty_list("resourceTemplates", modern)),
            "prompts/get" | "resources/read" => {
                Answer::error(codes::INVALID_PARAMS, "nothing of this name is offered here")
            }
            _ => Answer::error(codes::METHOD_NOT_FOUND, "this method is not served here"),
        };
        match answer {
            Answer::Result(result) if modern => Answer::Result(answer::modern(result)),
            other => other,
        }
    }

    async fn list(&self, context: &Context, request: &Request) -> Answer {
        if request.params.get("cursor").is_some() {
            return Answer::error(codes::INVALID_PARAMS, "the list has one page: ask without a cursor");
        }
        let views = match self.point.list(&context.caller).await {
            Ok(views) => views,
            Err(error) => return Answer::point(&error),
        };
        let mut tools: Vec<(String, Value)> =
            views.iter().filter_map(|view| self.shown(context, view)).collect();
        tools.extend(builtin::definitions());
        tools.sort_by(|a, b| a.0.cmp(&b.0));
        tools.dedup_by(|a, b| a.0 == b.0);
        let tools = Value::List(tools.into_iter().map(|(_, definition)| definition).collect());
        Answer::Result(cacheable(Value::from([("tools", tools)]), context.modern, LIST_TTL_MS))
    }

    /// A tool as the agent may see it: the pinned definition under its name on the wire.
    fn shown(&self, context: &Context, view: &ToolView) -> Option<(String, Value)> {
        if !self.upstreams.serves(view.tool.system()) {
            return None;
        }
        let name = names::wire_name(&view.tool, context.only.as_ref())?;
        let mut definition = view.definition.as_map()?.clone();
        definition.insert("name".to_owned(), Value::from(name.as_str()));
        definition.remove("execution");
        definition
            .entry("inputSchema".to_owned())
            .or_insert_with(|| Value::from([("type", Value::from("object"))]));
        Some((name, Value::Map(definition)))
    }

    async fn call(self: Arc<Self>, context: Context, request: Request) -> Answer {
        let (tool, call) = match read_call(&context, &request) {
            Ok(read) => read,
            Err(answer) => return answer,
        };
        if tool.system() == BUILT_IN {
            return builtin::call(&self, &context.caller, &tool, call.args).await;
        }
        let running = tokio::spawn(async move { self.decide_and_run(context, tool, call).await });
        running.await.unwrap_or_else(|_| Answer::error(codes::INTERNAL, "the call failed inside the gateway"))
    }

    async fn decide_and_run(&self, context: Context, tool: ToolId, mut call: Call) -> Answer {
        let live = self.upstreams.live(&tool).await;
        if let Some(live) = &live
            && let Err(why) = mirrored(&context, &live.params, &call.args)
        {
            return Answer::error(codes::HEADER_MISMATCH, why);
        }
        let seen = live.map(|live| live.digest);
        call.definition = seen;
        if call.approval.is_none() {
            match self.recall(&context.caller, &tool, &call.args).await {
                Ok(approval) => call.approval = approval,
                Err(waiting) => return Answer::Result(waiting),
            }
        }
        let args = call.args.clone();
        let decided = match self.point.decide(&context.caller, call).await {
            Ok(decided) => decided,
            Err(error) => return Answer::Result(answer::undecided(&tool, &error)),
        };
        match decided.allowed() {
            Ok(allowed) => {
                self.pending.forget(&context.caller, &tool, &args);
                let decision = allowed.decision().clone();
                let result = self
                    .run_to_report(context, &tool, &decision, forward(allowed, seen, &self.upstreams))
                    .await;
                Answer::Result(result)
            }
            Err(other) => Answer::Result(self.not_now(&context.caller, &tool, &args, *other)),
        }
    }

    fn not_now(&self, caller: &Caller, tool: &ToolId, args: &Value, decided: Decided) -> Value {
        match decided {
            Decided::Deny(denial) => {
                self.pending.forget(caller, tool, args);
                answer::denied(&denial)
            }
            Decided::Ask(pending) => {
                self.pending.remember(caller, tool, args, &pending.approval);
                answer::asked(&pending)
            }
            // `allowed` gives back only what does not allow; if that ever changes, this stays a refusal.
            Decided::Allow(_) => answer::undecided(tool, &unreadable()),
        }
    }

    /// The handle to present for an act that waited: the model calls again, it cannot attach one. While a
    /// person has not decided, the answer is ready without asking again.
    async fn recall(
        &self,
        caller: &Caller,
        tool: &ToolId,
        args: &Value,
    ) -> Result<Option<ApprovalId>, Value> {
        let Some(approval) = self.pending.find(caller, tool, args) else { return Ok(None) };
        match self.point.approval(caller, &approval).await {
            Ok(ApprovalState::Waiting { until }) => Err(answer::still_waiting(approval.as_str(), until.0)),
            Ok(ApprovalState::Approved { .. } | ApprovalState::Denied { .. }) => Ok(Some(approval)),
            Ok(ApprovalState::Closed { .. }) => {
                self.pending.forget(caller, tool, args);
                Ok(None)
            }
            Err(error) => Err(answer::undecided(tool, &error)),
        }
    }

    /// Runs an allowed call to its report.
    async fn run_to_report(
        &self,
        context: Context,
        tool: &ToolId,
        decision: &DecisionId,
        calling: impl Future<Output = Result<Body, CallError>>,
    ) -> Value {
        let Context { caller, withdrawn, .. } = context;
        let done = tokio::select! {
            biased;
            done = calling => Ok(done),
            why = stopped(&*self.point, &caller, self.config.live_poll, withdrawn) => Err(why),
        };
        let outcome = outcome(&done);
        if let Err(error) = report(&*self.point, &caller, decision, outcome).await {
            tracing::error!(%tool, %decision, %error, "an outcome could not be recorded");
            return answer::withheld(
                tool,
                decision,
                "outcome.unrecorded",
                "its outcome could not be recorded, so the result is withheld",
            );
        }
        match done {
            Ok(Ok(body)) => answer::passed_on(decision, body),
            Ok(Err(error)) => answer::failed(tool, decision, &error),
            Err(why) => answer::withheld(tool, decision, why.code(), why.words()),
        }
    }
}

fn outcome(done: &Result<Result<Body, CallError>, Stopped>) -> Outcome {
    let nothing = |status, note: String| Outcome {
        status,
        result: None,
        words: Vec::new(),
        bytes: 0,
        note: Some(note),
    };
    match done {
        Ok(Ok(body)) => {
            let failed = body.value.get("isError") == Some(&Value::Bool(true));
            let status = if failed { OutcomeStatus::Failed } else { OutcomeStatus::Done };
            let bytes = u64::try_from(body.bytes).unwrap_or(u64::MAX);
            let result = body.structured();
            let words = body.words(result.as_ref());
            Outcome { status, result, words, bytes, note: None }
        }
        Ok(Err(error)) if error.may_have_happened() => {
            nothing(OutcomeStatus::Unknown, error.code().to_owned())
        }
        Ok(Err(error)) => nothing(OutcomeStatus::Failed, error.code().to_owned()),
        Err(why) => nothing(OutcomeStatus::Unknown, why.code().to_owned()),
    }
}

fn read_call(context: &Context, request: &Request) -> Result<(ToolId, Call), Answer> {
    let invalid = |why: &str| Answer::error(codes::INVALID_PARAMS, why);
    let name =
        request.params.get("name").and_then(Value::as_text).ok_or_else(|| invalid("`name` must be text"))?;
    let tool = names::tool_of(name, context.only.as_ref()).ok_or_else(|| invalid("no tool has this name"))?;
    let args = match request.params.get("arguments") {
        None => Value::empty(),
        Some(args @ Value::Map(_)) => args.clone(),
        Some(_) => return Err(invalid("`arguments` must be an object")),
    };
    let approval = match request.meta(META_APPROVAL) {
        None => None,
        Some(handle) => {
            let handle = handle.as_text().and_then(|text| ApprovalId::parse(text).ok());
            Some(handle.ok_or_else(|| invalid("`bailiwick/approval` is no approval handle"))?)
        }
    };
    let says = request.meta(META_SAYS).and_then(Value::as_text).map(|text| cut(text, SAYS_MAX).to_owned());
    Ok((tool.clone(), Call { tool, args, definition: None, approval, says }))
}

/// In the stateless generation, arguments mirrored into headers must agree with them.
fn mirrored(context: &Context, params: &[ParamHeader], args: &Value) -> Result<(), String> {
    if !context.modern {
        return Ok(());
    }
    params.iter().try_for_each(|param| param.check(&context.headers, args))
}

fn unreadable() -> PointError {
    PointError {
        code: "decision.unreadable".to_owned(),
        reason: "the decision could not be read".to_owned(),
        retry: false,
    }
}

/// The capabilities of a gateway: tools, and empty lists of the rest, which clients ask for whatever is said.
/// Only the stateless generation has a stream to tell on that tools changed.
pub(crate) fn capabilities(listens: bool) -> Value {
    let tools = if listens { Value::from([("listChanged", Value::from(true))]) } else { Value::empty() };
    Value::from([("tools", tools), ("prompts", Value::empty()), ("resources", Value::empty())])
}

/// Words for the model about where it is.
pub(crate) const INSTRUCTIONS: &str = "Tools here are decided one call at a time for the task you were given. A refused \
call says why and what would help. If a call waits for a person, ask `bailiwick__resume` for its state and then call \
again with exactly the same arguments.";

fn discovered() -> Value {
    let result = Value::from([
        ("supportedVersions", version::served()),
        ("capabilities", capabilities(true)),
        ("instructions", Value::from(INSTRUCTIONS)),
    ]);
    cacheable(result, true, 3_600_000)
}

fn empty_list(of: &str, modern: bool) -> Value {
    cacheable(Value::from([(of, Value::List(Vec::new()))]), modern, LIST_TTL_MS)
}

/// Lists differ per caller, so nobody may share them.
fn cacheable(result: Value, modern: bool, ttl_ms: u64) -> Value {
    let Value::Map(mut members) = result else { return result };
    if modern {
        members.insert("ttlMs".to_owned(), int(ttl_ms));
        members.insert("cacheScope".to_owned(), Value::from("private"));
    }
    Value::Map(members)
}

/// Checks the standard headers of a stateless request.
pub(crate) fn check_headers(headers: &HeaderMap, request: &Request, version: &str) -> Result<(), String> {
    headers::check(headers, version, &request.method, &request.params)
}
