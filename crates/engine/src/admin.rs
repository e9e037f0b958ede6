//! Administration: agents, people, tools, directory, policies. Each change is one event, by a named person.

use std::sync::Arc;

use bailiwick_core::agent::{Agent, Person};
use bailiwick_core::event::Cause;
use bailiwick_core::registry::{Directory, Registry, RegistryEvent};
use bailiwick_core::tool::{Manifest, Standing};
use bailiwick_core::value::{Digest, Value};
use bailiwick_core::verdict::Policy;
use bailiwick_core::{AgentId, PrincipalId, SystemId, ToolId};
use bailiwick_policy::{SchemaInputs, Source};

use crate::error::EngineError;
use crate::log::Engine;

/// A tool with where it stands, for lists.
#[derive(Debug, Clone)]
pub struct ToolState {
    /// The tool.
    pub tool: ToolId,
    /// Where it stands.
    pub standing: Standing,
    /// What was said of it.
    pub manifest: Option<Manifest>,
    /// The newest definition seen, untrusted.
    pub definition: Option<Value>,
}

/// How large a definition may be to be pinned.
const DEFINITION_MAX: usize = 48_000;

impl Engine {
    /// Registers an agent or changes it. Grants nothing. Open tasks feel the change at their next call.
    pub async fn set_agent(&self, by: &PrincipalId, agent: Agent) -> Result<(), EngineError> {
        self.amend(|registry| {
            if registry.is_retired(&agent.id) {
                return Err(EngineError::new(
                    crate::Kind::Conflict,
                    "agent.retired",
                    format!("{} was retired; a name is never used twice", agent.id),
                ));
            }
            if let Some(other) =
                registry.agents().find(|a| a.id != agent.id && !a.keys.is_disjoint(&agent.keys))
            {
                return Err(EngineError::new(
                    crate::Kind::Conflict,
                    "agent.key",
                    format!("{} has one of these keys already; every agent has its own", other.id),
                ));
            }
            Ok(vec![RegistryEvent::AgentSet { agent: agent.clone(), by: by.clone() }])
        })
        .await
        .map(|_| ())
    }

    /// Retires an agent for good and ends what it holds.
    pub async fn retire_agent(
        &self,
        by: &PrincipalId,
        agent: &AgentId,
        reason: &str,
    ) -> Result<crate::Halted, EngineError> {
        let scope = bailiwick_core::registry::Scope::Agent(agent.clone());
        let halted = self.suspend(by, scope, bailiwick_core::registry::Halt::Killed, reason).await?;
        self.amend(|registry| {
            registry.agent(agent).ok_or_else(|| EngineError::missing("agent", agent))?;
            Ok(vec![RegistryEvent::AgentRetired { agent: agent.clone(), by: by.clone() }])
        })
        .await?;
        Ok(halted)
    }

    /// Registers a person or workflow, or changes their groups.
    pub async fn set_person(&self, by: &PrincipalId, person: Person) -> Result<(), EngineError> {
        self.amend(|registry| {
            if registry.person(&person.id) == Some(&person) {
                return Ok(vec![]);
            }
            Ok(vec![RegistryEvent::PersonSet { person: person.clone(), by: by.clone() }])
        })
        .await
        .map(|_| ())
    }

    /// Classifies a tool as a human states it, pinned to the definition given (or the newest one seen).
    pub async fn classify(
        &self,
        by: &PrincipalId,
        manifest: Manifest,
        pin: Option<Digest>,
    ) -> Result<(), EngineError> {
        manifest.validate().map_err(|what| EngineError::invalid("tool.manifest", what))?;
        if !manifest.guess.is_empty() {
            let guesses: Vec<&str> = manifest.guess.keys().map(String::as_str).collect();
            let what = format!(
                "the manifest of {} holds guesses that nobody has confirmed: {}",
                manifest.tool,
                guesses.join(", ")
            );
            return Err(EngineError::invalid("tool.guessed", what));
        }
        self.amend(|registry| {
            let seen = registry.tool(&manifest.tool).and_then(|t| t.seen);
            if let (Some(pin), Some(seen)) = (pin, seen)
                && pin != seen
            {
                return Err(EngineError::new(
                    crate::Kind::Conflict,
                    "tool.changed",
                    format!(
                        "{} has changed since you looked: look at it again, then classify",
                        manifest.tool
                    ),
                ));
            }
            let held = registry.tool(&manifest.tool);
            let pin = pin.or(seen);
            if held.is_some_and(|t| {
                t.manifest.as_ref() == Some(&manifest) && t.standing == Standing::Classified { pin }
            }) {
                return Ok(vec![]);
            }
            Ok(vec![RegistryEvent::ToolClassified { manifest: manifest.clone(), pin, by: by.clone() }])
        })
        .await
        .map(|_| ())
    }

    /// Replaces the directory.
    pub async fn set_directory(&self, by: &PrincipalId, directory: Directory) -> Result<(), EngineError> {
        self.amend(|registry| {
            if *registry.directory() == directory {
                return Ok(vec![]);
            }
            Ok(vec![RegistryEvent::DirectorySet { directory: directory.clone(), by: by.clone() }])
        })
        .await
        .map(|_| ())
    }

    /// Makes a set of policies the active one, if it compiles against the registry.
    pub async fn set_policy(
        &self,
        by: &PrincipalId,
        sources: &[(String, String)],
    ) -> Result<Digest, EngineError> {
        let sources: Vec<Source> = sources.iter().map(|(name, text)| Source::new(name, text)).collect();
        let (text, version) = (bailiwick_policy::pack(&sources), bailiwick_policy::version(&sources));
        self.amend(|registry| {
            if registry.policy().is_some_and(|(active, _)| active == version) {
                return Ok(vec![]);
            }
            Ok(vec![RegistryEvent::PolicySet { version, text: text.clone(), by: by.clone() }])
        })
        .await?;
        Ok(version)
    }

    /// Makes a set active again that was active before: its text is in the log, and its version says that it is the
    /// same. What runs is judged by it from the next decision on.
    pub async fn use_policy(&self, by: &PrincipalId, version: &Digest) -> Result<Digest, EngineError> {
        let found = self.look(|registry| {
            registry.policy_versions().iter().find(|p| p.version == *version).map(|p| p.text.clone())
        });
        let text = found.ok_or_else(|| EngineError::missing("policy version", version.short()))?;
        let sources: Vec<(String, String)> =
            bailiwick_policy::unpack(&text).into_iter().map(|s| (s.name, s.text)).collect();
        self.set_policy(by, &sources).await
    }

    /// Takes note of the definitions that a system offers now. New ones wait for a human, changed ones are shut.
    pub async fn observe(&self, system: &str, definitions: Vec<Value>) -> Result<(), EngineError> {
        let system = SystemId::parse(system).map_err(|e| EngineError::invalid(e.code(), e.to_string()))?;
        let mut seen = Vec::new();
        for definition in definitions {
            let name = definition.get("name").and_then(Value::as_text).unwrap_or("");
            let Ok(tool) = ToolId::of(&system, name) else {
                tracing::warn!(%system, "a tool with an unusable name is ignored; it cannot be called");
                continue;
            };
            let digest = definition.digest();
            let kept = if definition.canonical().len() <= DEFINITION_MAX { definition } else { Value::Null };
            seen.push((tool, digest, kept));
        }
        self.amend(|registry| {
            Ok(seen
                .iter()
                .filter(|(tool, digest, _)| registry.tool(tool).and_then(|t| t.seen) != Some(*digest))
                .map(|(tool, digest, definition)| RegistryEvent::ToolSeen {
                    tool: tool.clone(),
                    digest: *digest,
                    definition: definition.clone(),
                })
                .collect())
        })
        .await
        .map(|_| ())
    }

    /// All tools, with where each stands.
    pub fn tools(&self) -> Vec<ToolState> {
        let authority = self.authority();
        let registry = &authority.registry;
        registry
            .tools()
            .map(|(id, tool)| ToolState {
                tool: id.clone(),
                standing: tool.standing.clone(),
                manifest: tool.manifest.clone(),
                definition: registry.pending_definition(id).or_else(|| registry.definition(id)).cloned(),
            })
            .collect()
    }

    /// A change of an agent's owner or ceiling ends its open tasks, so that it takes effect on what runs (R4).
    pub async fn end_tasks_of(
        &self,
        by: &PrincipalId,
        agent: &AgentId,
        reason: &str,
    ) -> Result<u64, EngineError> {
        let mut ended = 0;
        for task in self.open_tasks().await? {
            let holds = self
                .with_task(&task, |held, _| held.grants().any(|g| g.agent == *agent && !g.revoked))
                .await?;
            if holds {
                ended += self.end_task(by.as_str(), &task, Cause::Changed, reason).await?.tasks.len() as u64;
            }
        }
        Ok(ended)
    }
}

/// Compiles the registry's active policies, or the defaults while there are none. Fails where they do not fit
/// the agents and tools of the registry.
pub(crate) fn compile(registry: &Registry) -> Result<SharedPolicy, EngineError> {
    let sources = sources(registry);
    let inputs = inputs(registry).map_err(|e| EngineError::invalid("policy.schema", e.to_string()))?;
    match bailiwick_policy::compile(&sources, &inputs) {
        Ok(set) => Ok(Arc::new(set)),
        Err(errors) => Err(EngineError::invalid("policy.invalid", errors.to_string())),
    }
}

/// The same, for a registry that is in force already: what does not compile any more denies everything.
pub(crate) fn compile_or_deny(registry: &Registry) -> Result<SharedPolicy, EngineError> {
    let sources = sources(registry);
    let inputs = inputs(registry).map_err(|e| EngineError::invalid("policy.schema", e.to_string()))?;
    Ok(match bailiwick_policy::compile(&sources, &inputs) {
        Ok(set) => Arc::new(set),
        Err(errors) => {
            tracing::error!(%errors, "the active policies do not compile; everything is denied");
            Arc::new(bailiwick_policy::Unusable::new(&sources, &errors))
        }
    })
}

/// Other policies against the same registry. The error is for people.
pub(crate) fn compile_set(registry: &Registry, sources: &[Source]) -> Result<SharedPolicy, String> {
    let inputs = inputs(registry).map_err(|e| e.to_string())?;
    match bailiwick_policy::compile(sources, &inputs) {
        Ok(set) => Ok(Arc::new(set)),
        Err(errors) => {
            Err(format!("the policies do not compile against the agents and tools of its time: {errors}"))
        }
    }
}

/// Policies that can be shared by all callers.
pub(crate) type SharedPolicy = Arc<dyn Policy + Send + Sync>;

pub(crate) fn sources(registry: &Registry) -> Vec<Source> {
    match registry.policy() {
        Some((_, text)) => bailiwick_policy::unpack(text),
        None => bailiwick_policy::defaults(),
    }
}

fn inputs(registry: &Registry) -> Result<SchemaInputs, bailiwick_policy::PolicyError> {
    SchemaInputs::new(registry.tools().filter_map(|(_, t)| t.manifest.as_ref()), registry.agents())
}
