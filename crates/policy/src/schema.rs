//! The Cedar schema, generated from manifests: what a policy can speak about.
//!
//! Nobody writes it by hand, so it cannot disagree with the tools. Policies are validated strictly against it,
//! which leaves overflow as the only way a valid policy can fail on facts that fit.
//!
//! Every argument of a call is in `context.args` as the set of the plain values inside it, whether it is a
//! scalar, a list or absent: a rule on an argument cannot be slipped past by sending a list where a word was
//! expected. Secrets and free text for people are not there. The amount, if the manifest names one, is
//! `context.amount`, in whole units, rounded away from zero.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bailiwick_core::agent::Agent;
use bailiwick_core::tool::{Effect, Manifest, Role};

use crate::errors::PolicyError;

/// The action of a handoff. Its resource is the agent that receives.
pub const HANDOFF: &str = "handoff";
/// The group of everything but reads.
pub const WRITE: &str = "write";
/// The group of deletion and administration.
pub const DESTRUCTIVE: &str = "destructive";

/// Names a manifest may not use for its resources, because the schema uses them.
const RESERVED_KINDS: &[&str] = &[
    "Agent",
    "Class",
    "Person",
    "Task",
    "Action",
    "Approval",
    "Bool",
    "Boolean",
    "Long",
    "String",
    "Set",
    "Record",
    "Entity",
    "Extension",
    "ipaddr",
    "decimal",
    "datetime",
    "duration",
    "true",
    "false",
    "if",
    "then",
    "else",
    "in",
    "like",
    "has",
    "is",
    "permit",
    "forbid",
    "when",
    "unless",
    "principal",
    "action",
    "resource",
    "context",
    "namespace",
    "entity",
    "type",
    "appliesTo",
    "enum",
    "tags",
];

/// What the schema is made of.
#[derive(Debug, Clone, Default)]
pub struct SchemaInputs {
    pub(crate) tools: BTreeMap<String, ToolShape>,
    pub(crate) kinds: BTreeMap<String, BTreeSet<String>>,
    pub(crate) agents: BTreeSet<String>,
    pub(crate) classes: BTreeSet<String>,
}

/// What a policy can see of one tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolShape {
    pub(crate) effect: Effect,
    pub(crate) kind: String,
    pub(crate) args: BTreeSet<String>,
    pub(crate) amount: Option<String>,
}

impl SchemaInputs {
    /// Takes the classified tools and the registered agents. Fails when a manifest uses a resource type that
    /// policies cannot name; [`check_manifest`] says so earlier, when the tool is classified.
    pub fn new<'a>(
        manifests: impl IntoIterator<Item = &'a Manifest>,
        agents: impl IntoIterator<Item = &'a Agent>,
    ) -> Result<Self, PolicyError> {
        let mut inputs = SchemaInputs::default();
        inputs.kinds.insert("System".to_owned(), BTreeSet::new());
        for manifest in manifests {
            check_manifest(manifest)?;
            inputs.add_tool(manifest);
        }
        for agent in agents {
            inputs.agents.insert(agent.id.as_str().to_owned());
            inputs.classes.insert(agent.class.as_str().to_owned());
        }
        Ok(inputs)
    }

    /// The schema as people read it.
    pub fn to_cedar(&self) -> String {
        let mut out = String::from(HEAD);
        for (kind, attrs) in &self.kinds {
            let parent = if kind == "System" { "" } else { " in [System]" };
            let fields: Vec<String> = attrs.iter().map(|a| format!("{}?: String", quoted(a))).collect();
            let _ = writeln!(out, "entity {kind}{parent} = {{ {} }};", fields.join(", "));
        }
        out.push('\n');
        for (tool, shape) in &self.tools {
            out.push_str(&action(tool, shape));
        }
        out.push_str(&handoff());
        out
    }

    fn add_tool(&mut self, manifest: &Manifest) {
        let shape = ToolShape::of(manifest);
        let attrs = self.kinds.entry(shape.kind.clone()).or_default();
        if let Some(spec) = &manifest.resource {
            attrs.extend(spec.known.values().flat_map(BTreeMap::keys).cloned());
        }
        self.tools.insert(manifest.tool.as_str().to_owned(), shape);
    }
}

impl ToolShape {
    /// What policies see of a manifest.
    pub(crate) fn of(manifest: &Manifest) -> Self {
        let visible = |role: Role| !matches!(role, Role::Secret | Role::Content);
        ToolShape {
            effect: manifest.effect,
            kind: manifest.resource.as_ref().map_or("System", |r| r.kind.as_str()).to_owned(),
            args: manifest.args.iter().filter(|(_, a)| visible(a.role)).map(|(n, _)| n.clone()).collect(),
            amount: manifest.amount_arg().map(str::to_owned),
        }
    }
    /// Whether a manifest still shows policies what it showed when the set was compiled. No allocation.
    pub(crate) fn fits(&self, manifest: &Manifest) -> bool {
        let visible = |role: Role| !matches!(role, Role::Secret | Role::Content);
        self.effect == manifest.effect
            && self.kind == manifest.resource.as_ref().map_or("System", |r| r.kind.as_str())
            && self.amount.as_deref() == manifest.amount_arg()
            && manifest.args.iter().filter(|(_, a)| visible(a.role)).map(|(n, _)| n).eq(self.args.iter())
    }
}

/// Whether policies can speak about what this manifest states. To be asked when a tool is classified.
pub fn check_manifest(manifest: &Manifest) -> Result<(), PolicyError> {
    let Some(spec) = &manifest.resource else { return Ok(()) };
    let kind = spec.kind.as_str();
    let well_formed = kind.len() <= 63
        && kind.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !kind.contains("__");
    if well_formed && !RESERVED_KINDS.contains(&kind) {
        return Ok(());
    }
    let shown: String = kind.chars().take(64).flat_map(char::escape_default).collect();
    let what = format!("`{shown}` cannot be the resource type of {}", manifest.tool);
    let help =
        "Use a letter, then letters, digits and single '_', and none of the words policies are made of";
    Err(PolicyError::new("schema.resource_type", "manifest", what, help))
}

/// The groups an effect belongs to, its own first.
pub(crate) fn groups(effect: Effect) -> &'static [&'static str] {
    match effect {
        Effect::Read => &["read"],
        Effect::Create => &["create", WRITE],
        Effect::Update => &["update", WRITE],
        Effect::Egress => &["egress", WRITE],
        Effect::Delete => &["delete", WRITE, DESTRUCTIVE],
        Effect::Admin => &["admin", WRITE, DESTRUCTIVE],
    }
}

const HEAD: &str = r#"// Generated from manifests. What a policy can speak about.

entity Class;
entity Person;
entity Task;
// An agent is in its class: `principal in Class::"ops"`.
entity Agent in [Class] = { owner: Person };

type Approval = { by: Set<Person> };

action "write", "destructive", "read";
action "create", "update", "egress" in ["write"];
action "delete", "admin" in ["write", "destructive"];

"#;

/// What every act shows, whatever it is.
const COMMON: &[&str] = &[
    "initiator: Person",
    "task: Task",
    "has_chain: Bool",
    "step?: String",
    "depth: Long",
    "effect: String",
    "reversible: Bool",
    "level: String",
    "confidential: Bool",
    "classes: Set<String>",
    "untrusted: Bool",
    "origins: Set<String>",
    "unexplained: Set<String>",
    "destinations: Set<String>",
    "outward: Bool",
    "carries: Set<String>",
    "approval?: Approval",
    "now: Long",
    "hour_utc: Long",
    "weekday_utc: Long",
    "remaining_ms: Long",
];

fn action(tool: &str, shape: &ToolShape) -> String {
    let args: Vec<String> = shape.args.iter().map(|a| format!("{}: Set<String>", quoted(a))).collect();
    let mut context: Vec<String> = COMMON.iter().map(|s| (*s).to_owned()).collect();
    context.push(format!("args: {{ {} }}", args.join(", ")));
    context.push("amount?: Long".to_owned());
    applies(tool, Some(shape.effect.as_str()), &shape.kind, &context)
}

fn handoff() -> String {
    let mut context: Vec<String> = COMMON.iter().map(|s| (*s).to_owned()).collect();
    context.push("fields: Set<String>".to_owned());
    applies(HANDOFF, None, "Agent", &context)
}

fn applies(name: &str, group: Option<&str>, kind: &str, context: &[String]) -> String {
    let parent = group.map(|g| format!(" in [\"{g}\"]")).unwrap_or_default();
    format!(
        "action \"{name}\"{parent} appliesTo {{\n  principal: [Agent],\n  resource: [{kind}],\n  context: {{\n    {}\n  }}\n}};\n",
        context.join(",\n    ")
    )
}

/// A name as a Cedar string.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bailiwick_core::ids::ToolId;
    use bailiwick_core::tool::ResourceSpec;
    use cedar_policy::Schema;
    use std::str::FromStr as _;

    fn manifest(kind: &str) -> Manifest {
        let mut manifest = Manifest::new(ToolId::parse("cloud.vm.restart").unwrap(), Effect::Update)
            .arg("name", Role::Target)
            .arg("odd \"name\u{e9}", Role::Free)
            .arg("in", Role::Free)
            .arg("note", Role::Content)
            .arg("key", Role::Secret);
        let attrs =
            BTreeMap::from([("env".to_owned(), "prod".to_owned()), ("if".to_owned(), "x".to_owned())]);
        manifest.resource = Some(ResourceSpec {
            kind: kind.to_owned(),
            from: Some("name".to_owned()),
            known: BTreeMap::from([("db-1".to_owned(), attrs)]),
        });
        manifest
    }

    #[test]
    fn the_generated_schema_is_a_schema_whatever_manifests_call_their_arguments() {
        let manifests = [manifest("Vm")];
        let text = SchemaInputs::new(&manifests, []).unwrap().to_cedar();
        Schema::from_str(&text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
        assert!(text.contains("\"env\"?: String"), "{text}");
        assert!(
            !text.contains("\"key\"") && !text.contains("\"note\""),
            "secrets and prose stay out: {text}"
        );
        Schema::from_str(&SchemaInputs::new([], []).unwrap().to_cedar()).expect("a schema of nothing");
    }

    #[test]
    fn a_resource_type_that_means_something_else_is_refused_when_the_tool_is_classified() {
        for bad in ["Agent", "Action", "String", "in", "", "a b", "1a", "__cedar", "Vm\u{202e}", "A::B"] {
            assert_eq!(check_manifest(&manifest(bad)).unwrap_err().code(), "schema.resource_type", "{bad}");
        }
        for good in ["Vm", "System", "bank_account"] {
            check_manifest(&manifest(good)).unwrap();
            let manifests = [manifest(good)];
            Schema::from_str(&SchemaInputs::new(&manifests, []).unwrap().to_cedar()).unwrap();
        }
    }

    #[test]
    fn a_manifest_that_changed_no_longer_fits() {
        let shape = ToolShape::of(&manifest("Vm"));
        assert!(shape.fits(&manifest("Vm")));
        assert!(!shape.fits(&manifest("Disk")));
        assert!(!shape.fits(&manifest("Vm").arg("force", Role::Free)));
        assert!(!shape.fits(&Manifest { effect: Effect::Delete, ..manifest("Vm") }));
    }
}
