//! Task templates: what all tasks of a kind have in common, written once, read strictly, checked before use.
//!
//! A template names the inputs with their types, the first agent, the permitted chain and the limits. Reading one
//! refuses every key nobody knows; [`check::findings`] says what else is wrong, with line, column and what to
//! write instead.

pub(crate) mod check;
pub(crate) mod schema;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use bailiwick_core::chain::{Deviation, Reads, Risk};
use bailiwick_core::constraint::Constraint;
use bailiwick_core::input::{InputType, InputTypes};
use bailiwick_core::payload::Pass;
use bailiwick_core::tool::ToolPattern;
use bailiwick_core::value::Value;
use bailiwick_core::{AgentId, StepId};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use crate::config::{ConfigError, yaml};

/// A template as it is used: what goes into a task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Template {
    pub(crate) template: Option<String>,
    pub(crate) about: Option<String>,
    pub(crate) agent: Option<AgentId>,
    pub(crate) inputs: InputTypes,
    pub(crate) chain: Option<Value>,
    pub(crate) ttl: Option<String>,
    pub(crate) asks: Option<u32>,
    pub(crate) handoffs: Option<u32>,
    pub(crate) depth: Option<u8>,
    pub(crate) refusals: Option<u32>,
    pub(crate) seeking: Option<u32>,
}

/// A template as it is written, each part with its place in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    #[serde(default)]
    pub(crate) template: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) about: Option<String>,
    #[serde(default)]
    pub(crate) agent: Option<Spanned<AgentId>>,
    #[serde(default)]
    pub(crate) inputs: Option<Spanned<BTreeMap<String, Spanned<InputType>>>>,
    #[serde(default)]
    pub(crate) chain: Option<Spanned<ChainForm>>,
    #[serde(default)]
    pub(crate) ttl: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) asks: Option<Spanned<u32>>,
    #[serde(default)]
    pub(crate) handoffs: Option<u32>,
    #[serde(default)]
    pub(crate) depth: Option<u8>,
    #[serde(default)]
    pub(crate) refusals: Option<u32>,
    #[serde(default)]
    pub(crate) seeking: Option<u32>,
}

/// The chain as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChainForm {
    pub(crate) steps: Vec<Spanned<StepForm>>,
    #[serde(default)]
    pub(crate) reads: Option<Spanned<Reads>>,
    #[serde(default)]
    pub(crate) on_deviation: Deviation,
    #[serde(default)]
    pub(crate) on_dangerous_deviation: Deviation,
    #[serde(default)]
    pub(crate) deviations: BTreeMap<Risk, Deviation>,
    #[serde(default)]
    pub(crate) ends_with: Vec<Spanned<StepId>>,
}

/// A step as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepForm {
    pub(crate) id: Spanned<StepId>,
    pub(crate) agent: Spanned<AgentId>,
    pub(crate) act: Spanned<ActWord>,
    #[serde(default)]
    pub(crate) tool: Option<Spanned<ToolPattern>>,
    #[serde(default)]
    pub(crate) args: Option<BTreeMap<String, Spanned<Bound>>>,
    #[serde(default)]
    pub(crate) to: Option<Spanned<AgentId>>,
    #[serde(default)]
    pub(crate) pass: Option<Spanned<Pass>>,
    #[serde(default)]
    pub(crate) drop: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(crate) after: Vec<Spanned<StepId>>,
    #[serde(default = "one")]
    pub(crate) min: Spanned<u32>,
    #[serde(default = "one")]
    pub(crate) max: Spanned<u32>,
}

fn one() -> Spanned<u32> {
    let nowhere = serde_saphyr::Location::UNKNOWN;
    Spanned { value: 1, referenced: nowhere, defined: nowhere }
}

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ActWord {
    Call,
    HandOff,
}

/// A constraint in which inputs may stand for constraints.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    /// The inputs it names, in order.
    pub(crate) inputs: Vec<String>,
    /// Whether it is one input and nothing else.
    pub(crate) alone: bool,
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Value::deserialize(deserializer)?;
        let mut inputs = Vec::new();
        let open = without_inputs(&written, &mut inputs).map_err(de::Error::custom)?;
        serde_json::from_str::<Constraint>(&open.canonical()).map_err(|e| {
            let why = e.to_string();
            let why = why.split(" at line").next().unwrap_or_default();
            de::Error::custom(format!(
                "not a constraint ({why}); write `any`, {{ exact: VALUE }} or {{ input: NAME }}, for example"
            ))
        })?;
        Ok(Bound { alone: input_name(&written).is_some(), inputs })
    }
}

/// The input that a value stands for, if it does.
fn input_name(value: &Value) -> Option<&str> {
    let map = value.as_map().filter(|map| map.len() == 1)?;
    map.get("input").and_then(Value::as_text)
}

/// The same with `any` in place of every input, whose names are collected.
fn without_inputs(value: &Value, inputs: &mut Vec<String>) -> Result<Value, String> {
    if let Some(name) = input_name(value) {
        inputs.push(name.to_owned());
        return Ok(Value::from("any"));
    }
    match value {
        Value::Map(map) => {
            let inside = |word: &str| map.get(word).is_some_and(names_input);
            if inside("exact") || inside("one_of") {
                return Err(
                    "write { input: NAME } in place of the whole constraint, not inside `exact` or `one_of`"
                        .to_owned(),
                );
            }
            let members: Result<_, String> =
                map.iter().map(|(key, v)| Ok((key.clone(), without_inputs(v, inputs)?))).collect();
            Ok(Value::Map(members?))
        }
        Value::List(items) => {
            Ok(Value::List(items.iter().map(|v| without_inputs(v, inputs)).collect::<Result<_, _>>()?))
        }
        other => Ok(other.clone()),
    }
}

fn names_input(value: &Value) -> bool {
    input_name(value).is_some() || value.as_list().is_some_and(|items| items.iter().any(names_input))
}

/// Reads a template: first with every part in its place, then the chain as it goes to the server.
///
/// # Errors
/// [`ConfigError`] with line and column.
pub(crate) fn read(file: &Path, text: &str) -> Result<(File, Template), ConfigError> {
    #[derive(Deserialize)]
    struct Loose {
        chain: Option<Value>,
    }
    let written: File = yaml::parse(file, text)?;
    let Loose { chain } = yaml::parse(file, text)?;
    let inputs =
        written.inputs.as_ref().map(|all| all.value.iter().map(|(n, t)| (n.clone(), t.value.clone())));
    let template = Template {
        template: written.template.as_ref().map(|t| t.value.clone()),
        about: written.about.clone(),
        agent: written.agent.as_ref().map(|a| a.value.clone()),
        inputs: inputs.into_iter().flatten().collect(),
        chain,
        ttl: written.ttl.as_ref().map(|t| t.value.clone()),
        asks: written.asks.as_ref().map(|asks| asks.value),
        handoffs: written.handoffs,
        depth: written.depth,
        refusals: written.refusals,
        seeking: written.seeking,
    };
    Ok((written, template))
}

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Grade {
    /// The template is refused.
    Error,
    /// It can be used, and somebody should look at it.
    Look,
}

/// One thing that is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) grade: Grade,
    pub(crate) code: &'static str,
    pub(crate) file: String,
    pub(crate) line: u64,
    pub(crate) column: u64,
    pub(crate) what: String,
    pub(crate) next: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.what)?;
        if self.next.is_empty() { Ok(()) } else { write!(f, "\n  {}", self.next) }
    }
}
