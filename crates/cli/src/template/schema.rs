//! The published JSON Schema of template files, made from the types that read them.
//!
//! `schema/task-template.schema.json` is this document. Editors use it through
//! `# yaml-language-server: $schema=…` at the head of a template.

use bailiwick_core::input::{INPUTS_MAX, InputKind};
use bailiwick_engine::ASKS_MAX;
use serde_json::{Value as Json, json};

/// The document as it is checked in: two spaces, one line feed at the end.
pub(crate) fn printed() -> String {
    format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap_or_default())
}

fn schema() -> Json {
    let kinds: Vec<&str> = InputKind::ALL.iter().map(|k| k.as_str()).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://bailiwick.dev/schema/task-template.schema.json",
        "title": "A task template",
        "description": "What all tasks of a kind have in common: typed inputs, the permitted chain, limits. Unknown keys are errors.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "template": { "type": "string", "description": "Its name, kept in the record of every task." },
            "about": { "type": "string", "description": "What tasks of this kind are for, in words." },
            "agent": { "$ref": "#/$defs/label", "description": "The agent that begins." },
            "inputs": {
                "type": "object",
                "maxProperties": INPUTS_MAX,
                "additionalProperties": { "$ref": "#/$defs/input" },
                "description": "What whoever opens a task says about this one, by name. Checked as a whole against its type when the task is opened; nothing is looked for inside it."
            },
            "chain": { "$ref": "#/$defs/chain", "description": "The permitted action chain. Without one, weaker guarantees apply, and every surface says so." },
            "ttl": { "type": "string", "pattern": "^[0-9]+(s|m|min|h|d)?$", "description": "How long the window stays open, at most seven days." },
            "asks": { "type": "integer", "minimum": 0, "maximum": ASKS_MAX, "description": "Questions to people; one more freezes the task." },
            "handoffs": { "$ref": "#/$defs/count", "description": "Handoffs in all." },
            "depth": { "type": "integer", "minimum": 0, "maximum": 255, "description": "Handoffs in a row; never more than 8." },
            "refusals": { "$ref": "#/$defs/count", "description": "Refusals before the task freezes." },
            "seeking": { "$ref": "#/$defs/count", "description": "Tries for more authority than there is, over all agents, before the task freezes; 25 if absent." }
        },
        "$defs": {
            "label": label(),
            "count": { "type": "integer", "minimum": 0, "maximum": u32::MAX },
            "tool": tool(),
            "input": input(&kinds),
            "chain": chain(),
            "reads": reads(),
            "deviation": deviation(),
            "step": step(),
            "pass": pass(),
            "bound": bound(),
            "range": range(),
            "url": url(),
            "each": each()
        }
    })
}

fn label() -> Json {
    json!({ "type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$" })
}

fn tool() -> Json {
    json!({ "type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}\\.[A-Za-z0-9_./-]{0,128}\\*?$" })
}

fn input(kinds: &[&str]) -> Json {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["type"],
        "properties": {
            "type": { "enum": kinds, "description": "What it is. Only what names something (mail, url, host, path, account, phone, record) can say where an effect lands." },
            "of": { "type": "string", "description": "For a record: of which type." },
            "about": { "type": "string", "description": "What it is for, in words." },
            "optional": { "type": "boolean", "default": false, "description": "Whether a task can be opened without it. What it binds must then be left out." },
            "default": { "description": "Its value when none is given." },
            "many": { "type": "boolean", "default": false, "description": "Whether it is a list of such values." },
            "pattern": { "type": "string", "description": "Its shape: # a digit, @ a letter, ? either, * any run of letters, digits, -, _ and dots; everything else itself." },
            "min": { "type": ["number", "string"], "description": "The least amount, number or day; for text, the least length." },
            "max": { "type": ["number", "string"], "description": "The greatest." },
            "one_of": { "type": "array", "description": "The only values there are." },
            "within": { "$ref": "#/$defs/bound", "description": "A further bound, written as in chains, without inputs." }
        }
    })
}

fn chain() -> Json {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["steps"],
        "properties": {
            "steps": { "type": "array", "items": { "$ref": "#/$defs/step" } },
            "reads": { "$ref": "#/$defs/reads", "description": "Whether reads need a step: everywhere, or system by system." },
            "on_deviation": { "$ref": "#/$defs/deviation", "description": "What leaving the chain means." },
            "on_dangerous_deviation": { "$ref": "#/$defs/deviation", "description": "What leaving it means by deleting, administering, or what cannot be undone." },
            "deviations": {
                "type": "object",
                "propertyNames": { "enum": ["read", "create", "update", "delete", "egress", "admin", "irreversible", "hand_off"] },
                "additionalProperties": { "$ref": "#/$defs/deviation" },
                "description": "What leaving it means by class of risk. Of all that applies the strictest holds."
            },
            "ends_with": { "type": "array", "items": { "$ref": "#/$defs/label" }, "description": "The task is over once these steps are done." }
        }
    })
}

fn reads() -> Json {
    let only = |word: &str| {
        json!({
            "type": "object", "additionalProperties": false, "required": [word],
            "properties": { word: { "type": "array", "items": { "$ref": "#/$defs/label" } } }
        })
    };
    json!({ "oneOf": [ { "enum": ["open", "declared"] }, only("open"), only("declared") ] })
}

fn deviation() -> Json {
    json!({
        "enum": ["refuse", "freeze", "refuse and freeze", "end", "end and revoke"],
        "description": "refuse: nothing more. freeze: the task stops until a person resumes it. end: it is over and everything is revoked."
    })
}

fn step() -> Json {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["id", "agent", "act"],
        "properties": {
            "id": { "$ref": "#/$defs/label", "description": "Its name in the chain." },
            "agent": { "$ref": "#/$defs/label", "description": "Who takes it." },
            "act": { "enum": ["call", "hand_off"] },
            "tool": { "$ref": "#/$defs/tool", "description": "system.action, system.prefix* or system.*" },
            "args": { "type": "object", "additionalProperties": { "$ref": "#/$defs/bound" }, "description": "A constraint for each argument. An effect's argument that is not named is refused." },
            "to": { "$ref": "#/$defs/label", "description": "The agent that receives." },
            "pass": { "$ref": "#/$defs/pass", "description": "The payload fields that are delivered; all others are stripped. As a map, with the type of each: a field of another type stops the handoff." },
            "drop": { "type": "array", "items": { "type": "string" }, "description": "Payload fields that are expected and meant to be stripped." },
            "after": { "type": "array", "items": { "$ref": "#/$defs/label" }, "description": "Steps that must have reached their least count." },
            "min": { "$ref": "#/$defs/count", "default": 1, "description": "Least count for what comes after; 0 makes the step optional." },
            "max": { "$ref": "#/$defs/count", "default": 1, "description": "Greatest count." }
        }
    })
}

/// The fields of a payload: their names, or each with its type.
fn pass() -> Json {
    let field = json!({ "oneOf": [ { "const": "any" }, { "$ref": "#/$defs/input" } ] });
    json!({ "oneOf": [
        { "type": "array", "maxItems": 64, "items": { "type": "string" } },
        { "type": "object", "maxProperties": 64, "additionalProperties": field },
    ] })
}

/// A constraint, or the input that stands for one.
fn bound() -> Json {
    let one = |word: &str, inner: Json| json!({ "type": "object", "additionalProperties": false, "required": [word], "properties": { word: inner } });
    let text = || json!({ "type": "string" });
    let texts = || json!({ "type": "array", "items": { "type": "string" } });
    json!({ "oneOf": [
        { "enum": ["any", "never"] },
        one("input", text()),
        one("exact", json!({})),
        one("one_of", json!({ "type": "array" })),
        one("spelled", texts()),
        one("template", texts()),
        one("range", json!({ "$ref": "#/$defs/range" })),
        one("prefix", text()),
        one("path_under", text()),
        one("host", text()),
        one("url", json!({ "$ref": "#/$defs/url" })),
        one("cidr", text()),
        one("each", json!({ "$ref": "#/$defs/each" })),
        one("length", json!({ "$ref": "#/$defs/count" })),
        one("all_of", json!({ "type": "array", "items": { "$ref": "#/$defs/bound" } })),
    ] })
}

fn range() -> Json {
    json!({
        "type": "object", "additionalProperties": false,
        "properties": { "min": { "type": "number" }, "max": { "type": "number" } }
    })
}

fn url() -> Json {
    json!({
        "type": "object", "additionalProperties": false, "required": ["host"],
        "properties": {
            "scheme": { "type": "string", "default": "https" },
            "host": { "type": "string" },
            "path": { "type": "string", "default": "/" }
        }
    })
}

fn each() -> Json {
    json!({
        "type": "object", "additionalProperties": false, "required": ["item", "max"],
        "properties": { "item": { "$ref": "#/$defs/bound" }, "max": { "$ref": "#/$defs/count" } }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const CHECKED_IN: &str = include_str!("../../../../schema/task-template.schema.json");

    #[test]
    fn the_checked_in_schema_is_the_one_the_code_makes() {
        if std::env::var_os("BAILIWICK_WRITE_SCHEMA").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schema/task-template.schema.json");
            std::fs::write(path, printed()).unwrap();
            return;
        }
        assert!(
            printed() == CHECKED_IN,
            "schema/task-template.schema.json is stale: run `BAILIWICK_WRITE_SCHEMA=1 cargo test -p bailiwick-cli \
             checked_in_schema`, look at what changed and commit it"
        );
    }

    #[test]
    fn the_schema_takes_what_the_reader_takes_and_refuses_what_it_refuses() {
        let schema = jsonschema::validator_for(&schema()).unwrap();
        let check = |text: &str| {
            let json: Json = serde_saphyr::from_str(text).unwrap();
            let read = super::super::read(Path::new("t.yaml"), text).is_ok();
            assert_eq!(read, schema.is_valid(&json), "reader says {read}:\n{text}");
            read
        };
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        for file in ["examples/quickstart/tasks/ticket-fix.yaml", "docs/examples/notes/task.yaml"] {
            assert!(check(&std::fs::read_to_string(folder.join(file)).unwrap()), "{file}");
        }
        let chain = |inner: &str| format!("chain: {{ steps: [], {inner} }}\n");
        let step = |inner: &str| format!("chain: {{ steps: [ {{ id: a, agent: w, {inner} }} ] }}\n");
        let arg = |inner: &str| step(&format!("act: call, tool: x.y, args: {{ n: {inner} }}"));
        for good in [
            chain("reads: { declared: [crm] }"),
            chain("on_deviation: refuse and freeze, deviations: { hand_off: end and revoke }"),
            step("act: hand_off, to: v, pass: [a], drop: [b], min: 0, max: 3"),
            step("act: hand_off, to: v, pass: { a: any, b: { type: record, of: vm, many: true } }"),
            arg("{ input: x }"),
            arg("{ each: { item: { input: x }, max: 3 } }"),
            arg("{ all_of: [ { range: { min: 1 } }, { url: { host: example.org } } ] }"),
            "inputs: { a: { type: record, of: ticket, one_of: [1, 2] }, d: { type: date, min: \"2026-01-01\" } }\n".to_owned(),
        ] {
            assert!(check(&good), "{good}");
        }
        for bad in [
            chain("reads: shut"),
            chain("on_deviation: shrug"),
            chain("deviations: { shout: end }"),
            step("act: call, tool: x.y, afer: [b]"),
            step("act: dance"),
            step("act: hand_off, to: v, pass: { a: all }"),
            step("act: hand_off, to: v, pass: { a: { type: text, mx: 3 } }"),
            step("act: hand_off, to: v, pass: a"),
            arg("{ inputs: x }"),
            arg("{ range: { least: 1 } }"),
            "inputs: { a: { type: email } }\n".to_owned(),
            "inputs: { a: { type: mail, requird: true } }\n".to_owned(),
            "tempalte: x\n".to_owned(),
            "depth: 300\n".to_owned(),
        ] {
            assert!(!check(&bad), "{bad}");
        }
    }

    /// The keys of every object, as the reader itself lists them for a key it does not know.
    #[test]
    fn the_schema_knows_exactly_the_keys_that_the_reader_knows() {
        let schema = schema();
        for (place, text) in [
            ("", "\"~\": 0\n".to_owned()),
            ("input", "inputs: { a: { \"~\": 0 } }\n".to_owned()),
            ("chain", "chain: { \"~\": 0 }\n".to_owned()),
            ("step", "chain: { steps: [ { \"~\": 0 } ] }\n".to_owned()),
        ] {
            let object = if place.is_empty() { &schema } else { &schema["$defs"][place] };
            let published: std::collections::BTreeSet<String> =
                object["properties"].as_object().unwrap().keys().cloned().collect();
            let shown = super::super::read(Path::new("t.yaml"), &text).unwrap_err().to_string();
            let (_, list) = shown.split_once("Known here: ").unwrap_or_else(|| panic!("{place}: {shown}"));
            let known = list.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            assert_eq!(published, known, "{place}");
        }
    }
}
