//! What front doors ask besides the verbs: a look at the registry, and at policies without changing them.

use bailiwick_core::registry::{Registry, RegistryEvent};
use bailiwick_core::value::Digest;
use bailiwick_core::{PrincipalId, Time};
use bailiwick_policy::Source;

use crate::error::EngineError;
use crate::log::Engine;

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
