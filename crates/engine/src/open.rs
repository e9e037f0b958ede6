//! Opening a task: intent, inputs, chain and limits, recorded before anything runs.

use std::collections::BTreeMap;

use bailiwick_core::capability::Capability;
use bailiwick_core::chain::Chain;
use bailiwick_core::event::{Guarantees, Opening, TaskEvent, TaskLimits};
use bailiwick_core::input::{BadInput, InputTypes, complete};
use bailiwick_core::opening::{capabilities_for, check};
use bailiwick_core::registry::Registry;
use bailiwick_core::value::Value;
use bailiwick_core::{AgentId, GrantId, PrincipalId, TaskId, Time};
use bailiwick_store::{Append, AppendError, ViewPut};

use crate::error::EngineError;
use crate::log::{Engine, encode};
use crate::names;

/// A task to be opened.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// The human or workflow whose intent it serves; the one who is signed in.
    pub initiator: PrincipalId,
    /// The intent, in that person's words.
    pub intent: String,
    /// The inputs.
    pub inputs: BTreeMap<String, Value>,
    /// Their types; empty: nobody declared any.
    pub types: InputTypes,
    /// The first agent.
    pub agent: AgentId,
    /// The permitted action chain in JSON form; wherever a constraint stands, `{"input": "name"}` binds an
    /// input. Absent: weaker guarantees.
    pub chain: Option<Value>,
    /// What the first agent shall hold. Absent: what the chain needs, or without a chain its whole ceiling for
    /// use.
    pub capabilities: Option<Vec<Capability>>,
    /// How long the window stays open, in milliseconds.
    pub ttl_ms: u64,
    /// Questions to humans; one more freezes the task.
    pub asks: u32,
    /// Handoffs in all.
    pub handoffs: u32,
    /// Handoffs in a row.
    pub depth: u8,
    /// Refusals before it freezes.
    pub refusals: Option<u32>,
    /// Tries for more authority than there is before it freezes.
    pub seeking: Option<u32>,
    /// The template it was made from.
    pub template: Option<String>,
}

/// A task that was opened.
#[derive(Debug, Clone)]
pub struct OpenedTask {
    /// Its id.
    pub task: TaskId,
    /// The root grant; its agent fetches a token for it.
    pub grant: GrantId,
    /// What it may do.
    pub capabilities: Vec<Capability>,
    /// When the window closes.
    pub until: Time,
    /// How much was declared.
    pub guarantees: Guarantees,
}

impl Engine {
    /// Opens a task. Nothing runs yet: the root agent has to fetch a token for the root grant.
    pub async fn open_task(&self, new: NewTask) -> Result<OpenedTask, EngineError> {
        let id = names::task()?;
        for _ in 0..16 {
            let authority = self.authority();
            let now = self.now();
            let opening = opening(&authority.registry, &id, &new, now)?;
            check(&authority.registry, &opening, now).map_err(|e| EngineError::invalid(e.code, e.reason))?;
            let opened = OpenedTask {
                task: id.clone(),
                grant: opening.grant.clone(),
                capabilities: opening.capabilities.clone(),
                until: opening.limits.until,
                guarantees: opening.guarantees(),
            };
            let stream = self.task_stream(&id);
            let event = TaskEvent::Opened(opening);
            let append = Append {
                expect: 0,
                guards: vec![(self.registry_stream(), authority.registry.version())],
                events: vec![encode(&stream, 0, now, &event, event.name())?],
                views: vec![
                    ViewPut { view: self.view("open"), key: id.to_string(), value: Some(Vec::new()) },
                    ViewPut {
                        view: self.view("tasks"),
                        key: recent_key(now, &id),
                        value: Some(id.to_string().into_bytes()),
                    },
                ],
                stream,
            };
            match self.store().append_at(append).await {
                Ok(_) => return Ok(opened),
                Err(AppendError::Conflict { .. }) => {
                    self.catch_up().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(EngineError::new(
            crate::Kind::Unavailable,
            "store.contended",
            "too many writers at once; try again in a moment",
        ))
    }
}

/// Newest first in a scan.
fn recent_key(now: Time, id: &TaskId) -> String {
    format!("{:020}-{id}", u64::MAX - now.0)
}

/// The most questions that one task may ask people. Its end takes all that wait off the list in the one append that
/// makes it so, and that append has a size.
pub const ASKS_MAX: u32 = 200;

/// Whether a task may ask so many questions.
pub(crate) fn few_enough(asks: u32) -> Result<(), EngineError> {
    if asks <= ASKS_MAX {
        return Ok(());
    }
    let why = format!("a task asks people at most {ASKS_MAX} questions; this one could ask {asks}");
    Err(EngineError::invalid("task.asks", why))
}

fn opening(registry: &Registry, id: &TaskId, new: &NewTask, now: Time) -> Result<Opening, EngineError> {
    few_enough(new.asks)?;
    let from = crate::templates::origin(registry, new)?;
    let inputs = completed(new, from.is_some())?;
    let chain = new.chain.as_ref().map(|c| bound(c, &inputs, &new.types)).transpose()?;
    let Some(agent) = registry.agent(&new.agent) else {
        return Err(EngineError::invalid(
            "task.agent",
            format!("no agent {} is registered; see `bailiwick agent ls`", new.agent),
        ));
    };
    let capabilities = match (&new.capabilities, &chain) {
        (Some(asked), _) => asked.clone(),
        (None, Some(chain)) => capabilities_for(registry, chain, agent),
        (None, None) => agent
            .ceiling
            .iter()
            .filter(|c| c.may_use)
            .map(|c| Capability { delegate: None, ..c.clone() })
            .collect(),
    };
    Ok(Opening {
        task: id.clone(),
        initiator: new.initiator.clone(),
        intent: new.intent.clone(),
        inputs,
        types: new.types.clone(),
        chain,
        limits: TaskLimits {
            until: now.plus_ms(new.ttl_ms),
            asks: new.asks,
            handoffs: new.handoffs,
            depth: new.depth,
            refusals: new.refusals,
            seeking: new.seeking,
        },
        grant: names::grant(id, 0)?,
        agent: new.agent.clone(),
        capabilities,
        template: new.template.clone(),
    })
}

/// The inputs as they are recorded: checked against their types, defaults filled in. A registered template takes none but
/// those that it declares, even if it declares none.
fn completed(new: &NewTask, registered: bool) -> Result<BTreeMap<String, Value>, EngineError> {
    if new.types.is_empty() && !registered {
        return Ok(new.inputs.clone());
    }
    let invalid = |bad: BadInput| EngineError::invalid(bad.code, format!("{bad}. {}", bad.next));
    for (name, declared) in &new.types {
        declared.validate(name).map_err(invalid)?;
    }
    complete(&new.types, &new.inputs).map_err(invalid)
}

/// The chain with every `{"input": "name"}` replaced by exactly that input's value. What binds an optional input
/// that was not given must be left out.
fn bound(chain: &Value, inputs: &BTreeMap<String, Value>, types: &InputTypes) -> Result<Chain, EngineError> {
    let mut known = inputs.clone();
    for (name, _) in types.iter().filter(|(_, declared)| declared.optional) {
        known.entry(name.clone()).or_insert(Value::Null);
    }
    chain_of(chain, &|name| known.get(name).map(|value| Value::from([("exact", value.clone())])))
}

/// A chain with every `{"input": "name"}` replaced by the constraint that it stands for, if it stands for one.
pub(crate) fn chain_of(
    chain: &Value,
    stands_for: &impl Fn(&str) -> Option<Value>,
) -> Result<Chain, EngineError> {
    let bound = bind(chain, stands_for)?;
    serde_json::from_str(&bound.canonical())
        .map_err(|e| EngineError::invalid("task.chain", format!("the chain cannot be read: {e}")))
}

fn bind(value: &Value, stands_for: &impl Fn(&str) -> Option<Value>) -> Result<Value, EngineError> {
    Ok(match value {
        Value::Map(map) => {
            match (map.len(), map.get("input").and_then(Value::as_text)) {
                (1, Some(name)) => stands_for(name).ok_or_else(|| {
                    EngineError::invalid(
                        "task.input",
                        format!("the chain binds input `{name}`, which the task does not have"),
                    )
                })?,
                // `{"exact": {"input": …}}` would bind to a constraint inside a value, which nothing ever equals.
                _ if map.get("exact").or(map.get("one_of")).is_some_and(names_input) => {
                    return Err(EngineError::invalid(
                        "task.chain",
                        "write {\"input\": \"name\"} in place of the whole constraint, not inside `exact` or `one_of`",
                    ));
                }
                _ => Value::Map(
                    map.iter()
                        .map(|(k, v)| Ok((k.clone(), bind(v, stands_for)?)))
                        .collect::<Result<_, EngineError>>()?,
                ),
            }
        }
        Value::List(items) => {
            Value::List(items.iter().map(|v| bind(v, stands_for)).collect::<Result<_, _>>()?)
        }
        other => other.clone(),
    })
}

fn names_input(value: &Value) -> bool {
    match value {
        Value::Map(map) => map.len() == 1 && map.contains_key("input"),
        Value::List(items) => items.iter().any(names_input),
        _ => false,
    }
}
