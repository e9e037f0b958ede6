//! What front doors ask besides the verbs: a look at the registry, and at policies without changing them.

use bailiwick_api::wire::PolicyVersionView;
use bailiwick_core::registry::{PolicyVersion, Registry, RegistryEvent};
use bailiwick_core::value::Digest;
use bailiwick_core::{PrincipalId, Time};
use bailiwick_policy::Source;

use crate::error::EngineError;
use crate::log::Engine;

/// The rules of these texts that are only observed and enforce nothing.
pub fn observed_rules(sources: &[(String, String)]) -> Vec<String> {
    let sources: Vec<Source> = sources.iter().map(|(name, text)| Source::new(name, text)).collect();
    bailiwick_policy::observed_rules(&sources)
}

impl Engine {
    /// Runs something on the registry as it is now, without copying it.
    pub fn look<T>(&self, look: impl FnOnce(&Registry) -> T) -> T {
        look(&self.authority().registry)
    }

    /// The active policies by name, and the hash of the set; no hash while the defaults are active.
    pub fn policies(&self) -> (Option<Digest>, Vec<(String, String)>) {
        self.look(|registry| {
            let sources = crate::admin::sources(registry);
            let version = registry.policy().map(|(version, _)| version);
            (version, sources.into_iter().map(|s| (s.name, s.text)).collect())
        })
    }

    /// Every set of policies that was ever made active, in order.
    pub fn policy_versions(&self) -> Vec<PolicyVersionView> {
        self.look(|registry| {
            let active = registry.policy().map(|(version, _)| version);
            let last = registry.policy_versions().len().saturating_sub(1);
            let view = |(place, p): (usize, &PolicyVersion)| PolicyVersionView {
                version: p.version,
                active: place == last && Some(p.version) == active,
                by: p.by.clone(),
                epoch: p.epoch,
                files: bailiwick_policy::unpack(&p.text).into_iter().map(|s| s.name).collect(),
            };
            registry.policy_versions().iter().enumerate().map(view).collect()
        })
    }

    /// The text of one of them, by its hash or by a beginning of it that fits only one.
    ///
    /// # Errors
    /// If none fits, or more than one.
    pub fn policy_version(&self, wanted: &str) -> Result<(Digest, Vec<(String, String)>), EngineError> {
        self.look(|registry| {
            let fits = |p: &&PolicyVersion| wanted.len() >= 6 && p.version.to_string().starts_with(wanted);
            let found: std::collections::BTreeMap<String, &PolicyVersion> =
                registry.policy_versions().iter().filter(fits).map(|p| (p.version.to_string(), p)).collect();
            match (found.len(), found.into_values().next()) {
                (1, Some(p)) => {
                    let texts = bailiwick_policy::unpack(&p.text).into_iter().map(|s| (s.name, s.text));
                    Ok((p.version, texts.collect()))
                }
                (0, _) => {
                    Err(EngineError::missing("policy version", wanted.chars().take(64).collect::<String>()))
                }
                _ => Err(EngineError::invalid(
                    "policy.version",
                    "more than one version begins so; write more of it",
                )),
            }
        })
    }

    /// Whether these policies could be made active against the registry as it is now. Changes nothing.
    ///
    /// # Errors
    /// What [`Engine::set_policy`] would refuse them with.
    pub fn check_policy(&self, sources: &[(String, String)]) -> Result<(), EngineError> {
        let sources: Vec<Source> = sources.iter().map(|(name, text)| Source::new(name, text)).collect();
        let nobody =
            PrincipalId::parse("check").map_err(|e| EngineError::invalid(e.code(), e.to_string()))?;
        let mut registry = self.registry();
        registry.apply(&RegistryEvent::PolicySet {
            version: bailiwick_policy::version(&sources),
            text: bailiwick_policy::pack(&sources),
            by: nobody,
        });
        crate::admin::compile(&registry).map(|_| ())
    }

    /// Remembers that something was used; true only for the first who says so, on any node and after any
    /// restart, until `until`.
    ///
    /// # Errors
    /// If the store cannot take it: then it must count as used.
    pub async fn use_once(&self, what: &str, id: &[u8; 32], until: Time) -> Result<bool, EngineError> {
        let scope = format!("{}/{what}", self.tenant());
        let seen = self.store().remember_once(&scope, id, Vec::new(), until.0, self.now().0).await?;
        Ok(seen == bailiwick_store::Remembered::New)
    }
}
