//! What a tool server offers at this moment, by action name, each definition with its hash.
//!
//! The hash covers the whole tool object: name, description, schema, annotations (threat A39). What cannot
//! be named, appears twice or breaks a cap is left out, so it can neither be classified nor called.

use crate::headers::ParamHeader;
use bailiwick_core::{Digest, SystemId, ToolId, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Most tools of one server.
pub(crate) const TOOLS_MAX: usize = 2000;
/// Largest single definition, in bytes of its canonical form.
const DEFINITION_BYTES_MAX: usize = 256 << 10;

/// One tool as its server defines it now.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// The name the server knows it by.
    pub action: String,
    /// The MCP tool object.
    pub definition: Value,
    /// SHA-256 of the definition's canonical form.
    pub digest: Digest,
    /// Arguments that the server wants mirrored into headers.
    pub params: Vec<ParamHeader>,
}

/// All tools of one server.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Catalogue {
    tools: BTreeMap<String, Live>,
}

impl Catalogue {
    /// Reads tool objects; logs and leaves out what is unfit.
    pub(crate) fn read(system: &SystemId, definitions: Vec<Value>) -> Self {
        let mut tools = BTreeMap::new();
        let mut twice = BTreeSet::new();
        for definition in definitions.into_iter().take(TOOLS_MAX) {
            match read(system, definition) {
                Ok(live) => {
                    let action = live.action.clone();
                    if tools.insert(action.clone(), live).is_some() {
                        twice.insert(action);
                    }
                }
                Err(why) => tracing::warn!(%system, why, "a tool definition is left out"),
            }
        }
        for action in twice {
            tracing::warn!(%system, action = ?action, why = "it is offered twice", "a tool definition is left out");
            tools.remove(&action);
        }
        Catalogue { tools }
    }

    /// One tool.
    pub fn get(&self, action: &str) -> Option<&Live> {
        self.tools.get(action)
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.tools.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }
    /// All definitions, in the order of their names.
    pub fn definitions(&self) -> Vec<Value> {
        self.tools.values().map(|live| live.definition.clone()).collect()
    }
}

fn read(system: &SystemId, definition: Value) -> Result<Live, &'static str> {
    let action = definition.get("name").and_then(Value::as_text).ok_or("it has no name")?.to_owned();
    ToolId::of(system, &action).map_err(|_| "its name is not a tool name")?;
    let printed = definition.canonical();
    if printed.len() > DEFINITION_BYTES_MAX {
        return Err("it is larger than 256 KiB");
    }
    let params = ParamHeader::of_definition(&definition)?;
    Ok(Live { action, digest: Digest::of(printed.as_bytes()), definition, params })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(json: &str) -> Value {
        Value::parse(json.as_bytes()).unwrap()
    }

    // proves: A39
    #[test]
    fn every_part_of_a_definition_moves_its_hash() {
        let system = SystemId::parse("s").unwrap();
        let hash = |json: &str| Catalogue::read(&system, vec![tool(json)]).get("a").map(|live| live.digest);
        let plain = hash(r#"{"name":"a","description":"reads","inputSchema":{"type":"object"}}"#);
        assert!(plain.is_some());
        assert_eq!(plain, hash(r#"{"inputSchema":{"type":"object"},"description":"reads","name":"a"}"#));
        for changed in [
            r#"{"name":"a","description":"reads all","inputSchema":{"type":"object"}}"#,
            r#"{"name":"a","description":"reads","inputSchema":{"type":"object","properties":{}}}"#,
            r#"{"name":"a","description":"reads","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}"#,
        ] {
            assert_ne!(plain, hash(changed), "{changed}");
        }
    }

    // proves: A40
    #[test]
    fn what_is_offered_twice_or_cannot_be_named_is_not_offered() {
        let system = SystemId::parse("s").unwrap();
        let offered =
            ["{\"name\":\"a\"}", "{\"name\":\"b\"}", "{\"name\":\"a\",\"x\":1}", "{\"name\":\"о b\"}", "{}"];
        let catalogue = Catalogue::read(&system, offered.into_iter().map(tool).collect());
        assert_eq!(catalogue.len(), 1);
        assert!(catalogue.get("b").is_some());
    }
}
