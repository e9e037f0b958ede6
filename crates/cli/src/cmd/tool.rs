//! `tool ls|show|import|classify`: what a human has stated about tools, and what still waits for that.
//!
//! What a tool server says of itself is a hint and never a classification: `import` proposes a manifest in which
//! every guess is marked, a person corrects it, and `classify` makes it count.

use std::path::PathBuf;

use bailiwick_api::wire::{ToolDetail, ToolSet};
use bailiwick_core::tool::{Effect, Manifest, Role};
use bailiwick_core::value::Value;
use bailiwick_core::{Digest, ToolId};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::ctx::Ctx;
use crate::fail::{Done, Failure};
use crate::out::{Paint, plain, several, table};

/// What can be done with tools.
#[derive(Debug, Subcommand)]
pub(crate) enum Tool {
    /// List the tools, those that wait for a human first
    Ls,
    /// One tool: what is stated, and what its server says of itself
    Show {
        /// Its name, system.action
        tool: ToolId,
    },
    /// Propose a manifest from the definition that was seen; every guess is marked
    Import {
        /// Its name; without one, every tool that waits
        tool: Option<ToolId>,
    },
    /// State what a tool is; from then on it can be granted
    Classify(Classify),
}

/// States what a tool is.
#[derive(Debug, Args)]
pub(crate) struct Classify {
    /// A file with one manifest or a list of them
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// The hash of the definition you looked at; refused if it has changed since
    #[arg(long, value_name = "HASH")]
    pin: Option<String>,
    /// Confirm every guess in the file as it stands: you have checked each of them
    #[arg(long)]
    confirm: bool,
}

pub(crate) async fn run(ctx: &Ctx, tool: Tool) -> Done {
    match tool {
        Tool::Ls => ls(ctx).await,
        Tool::Show { tool } => show(ctx, &tool).await,
        Tool::Import { tool } => import(ctx, tool.as_ref()).await,
        Tool::Classify(classify) => self::classify(ctx, classify).await,
    }
}

async fn ls(ctx: &Ctx) -> Done {
    let mut tools = ctx.people()?.tools().await?;
    tools.sort_by_key(|t| (t.standing == "classified", t.tool.clone()));
    ctx.out.show(&tools, |paint| {
        let rows = tools.iter().map(|t| {
            let stated = t.manifest.as_ref();
            vec![
                t.tool.to_string(),
                standing(t, paint),
                stated.map_or("-", |m| m.effect.as_str()).to_owned(),
                stated.map_or("-", |m| if m.reversible { "yes" } else { "no" }).to_owned(),
                t.seen.as_ref().map_or("never".to_owned(), Digest::short),
            ]
        });
        table(paint, &["tool", "standing", "effect", "undo", "seen"], rows.collect())
    });
    Ok(())
}

fn standing(tool: &ToolDetail, paint: Paint) -> String {
    match tool.standing.as_str() {
        "classified" => tool.standing.clone(),
        "quarantined" => paint.red("quarantined"),
        other => paint.yellow(other),
    }
}

async fn show(ctx: &Ctx, tool: &ToolId) -> Done {
    let detail = ctx.people()?.tool(tool).await?;
    ctx.out.show(&detail, |paint| {
        let mut lines = vec![format!("{}   {}", paint.bold(detail.tool.as_str()), standing(&detail, paint))];
        let hash = |d: &Option<Digest>| d.as_ref().map_or("none".to_owned(), ToString::to_string);
        lines.push(format!("pinned  {}\nseen    {}", hash(&detail.pin), hash(&detail.seen)));
        if let Some(manifest) = &detail.manifest {
            lines.push("stated".to_owned());
            lines.push(serde_saphyr::to_string(manifest).unwrap_or_default().trim_end().to_owned());
        }
        if let Some(definition) = &detail.definition {
            lines.push(paint.dim("the tool server's own words, untrusted"));
            lines.push(paint.dim(&plain(&definition.canonical(), 4000)));
        }
        if detail.standing != "classified" {
            lines.push(format!("next: bailiwick tool import {tool} > {tool}.yaml, correct it, bailiwick tool classify -f {tool}.yaml"));
        }
        lines.join("\n")
    });
    Ok(())
}

async fn import(ctx: &Ctx, tool: Option<&ToolId>) -> Done {
    let people = ctx.people()?;
    let tools = match tool {
        Some(tool) => vec![people.tool(tool).await?],
        None => people.tools().await?.into_iter().filter(|t| t.standing != "classified").collect(),
    };
    let proposals: Vec<Proposal> = tools.iter().filter_map(propose).collect();
    if proposals.is_empty() {
        return Err(Failure::failed(
            "not_found",
            "no definition was seen that waits",
            "See `bailiwick tool ls`.",
        ));
    }
    let all: Vec<_> =
        proposals.iter().map(|p| json!({"manifest": p.manifest, "definition": p.pin})).collect();
    ctx.out.show(&all, |_| proposals.iter().map(Proposal::in_yaml).collect::<Vec<_>>().join("\n"));
    ctx.out.say(" each line under `guess` is a guess: check it, correct it, remove the line; then: bailiwick tool classify -f FILE");
    Ok(())
}

/// A manifest made of guesses, each marked as one with what it rests on.
struct Proposal {
    manifest: Manifest,
    pin: Option<Digest>,
}

impl Proposal {
    fn in_yaml(&self) -> String {
        let mut lines = vec![format!(
            "# {}: guessed from the tool server's own words. It is refused while anything stands under `guess`.",
            self.manifest.tool
        )];
        lines.extend(self.pin.map(|pin| format!("# definition {pin}")));
        let yaml = serde_saphyr::to_string(&[&self.manifest]).unwrap_or_default();
        lines.push(yaml.trim_end().to_owned());
        lines.join("\n")
    }
}

/// What can be guessed from a definition. In doubt the guess is the stricter one.
fn propose(tool: &ToolDetail) -> Option<Proposal> {
    let definition = tool.definition.as_ref()?;
    let hint =
        |name: &str| definition.get("annotations").and_then(|a| a.get(name)) == Some(&Value::Bool(true));
    let (effect, from) = guess_effect(tool.tool.action(), hint("readOnlyHint"), hint("destructiveHint"));
    let mut manifest = Manifest::new(tool.tool.clone(), effect);
    let mut guess = |what: &str, why: String| drop(manifest.guess.insert(what.to_owned(), plain(&why, 200)));
    guess("effect", format!("{} from {from}", effect.as_str()));
    if effect != Effect::Read {
        guess("reversible", "false because nothing says that it can be undone".to_owned());
    }
    let schema = definition.get("inputSchema");
    let required: Vec<&str> = schema
        .and_then(|s| s.get("required"))
        .and_then(Value::as_list)
        .map(|names| names.iter().filter_map(Value::as_text).collect())
        .unwrap_or_default();
    let properties = schema.and_then(|s| s.get("properties")).and_then(Value::as_map);
    for (name, shape) in properties.into_iter().flatten() {
        let (role, from) = guess_role(name, shape);
        manifest.guess.insert(plain(&format!("args.{name}"), 80), format!("{} by {from}", word(role)));
        manifest = manifest.arg(name, role);
        if let Some(arg) = manifest.args.get_mut(name) {
            arg.required = required.contains(&name.as_str());
        }
    }
    Some(Proposal { manifest, pin: tool.seen })
}

fn guess_effect(action: &str, read_only: bool, destructive: bool) -> (Effect, &'static str) {
    let action = action.to_ascii_lowercase();
    let names = |words: &[&str]| words.iter().any(|w| action.contains(w));
    if names(&["delete", "remove", "drop", "destroy", "purge", "wipe"]) || destructive {
        (Effect::Delete, "its name or its destructive hint")
    } else if names(&["grant", "permission", "role", "invite", "admin", "policy"]) {
        (Effect::Admin, "its name")
    } else if names(&["send", "mail", "post", "publish", "pay", "transfer", "upload", "share", "fetch_url"]) {
        (Effect::Egress, "its name")
    } else if names(&["create", "add", "new", "insert", "open"]) {
        (Effect::Create, "its name")
    } else if read_only && names(&["get", "list", "read", "search", "find", "show", "describe", "query"]) {
        (Effect::Read, "its name and its read-only hint")
    } else {
        (Effect::Update, "nothing better; a hint alone makes nothing a read")
    }
}

/// What an argument is for, by its name and by the shape that its server gives it. A shape can only make the guess
/// stricter, except that yes and no steer nothing.
fn guess_role(name: &str, shape: &Value) -> (Role, &'static str) {
    let says = |member: &str| shape.get(member).and_then(Value::as_text).unwrap_or_default().to_owned();
    let by_name = role_by_name(name);
    match (by_name, says("type").as_str(), says("format").as_str()) {
        (Role::Secret, ..) => (by_name, "its name"),
        (_, "boolean", _) => (Role::Free, "its type, yes or no"),
        (_, _, "email" | "idn-email" | "uri" | "url" | "hostname" | "ipv4" | "ipv6") => {
            (Role::Target, "its format")
        }
        _ => (by_name, "its name"),
    }
}

fn role_by_name(name: &str) -> Role {
    let name = name.to_ascii_lowercase();
    let holds = |words: &[&str]| words.iter().any(|w| name.contains(w));
    if holds(&["password", "secret", "token", "api_key", "credential"]) {
        Role::Secret
    } else if holds(&["body", "text", "content", "message", "subject", "title", "description", "comment"]) {
        Role::Content
    } else if holds(&[
        "limit", "page", "offset", "sort", "format", "verbose", "amount", "count", "date", "time",
    ]) {
        Role::Free
    } else if holds(&["to", "recipient", "url", "host", "email", "address", "account", "dest", "iban"]) {
        Role::Target
    } else {
        Role::Selector
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Target => "target",
        Role::Selector => "selector",
        Role::Content => "content",
        Role::Data => "data",
        Role::Secret => "secret",
        Role::Free => "free",
    }
}

async fn classify(ctx: &Ctx, classify: Classify) -> Done {
    let mut manifests = if classify.confirm {
        crate::config::proposed(&classify.file)?
    } else {
        crate::config::manifests(&classify.file)?
    };
    let confirmed: usize = manifests.iter_mut().map(|m| std::mem::take(&mut m.guess).len()).sum();
    if confirmed > 0 {
        ctx.out.say(&format!(" you confirm {} as they stand", several(confirmed, "guess")));
    }
    let pin = match classify.pin.as_deref() {
        None => None,
        Some(text) => Some(Digest::parse(text).ok_or_else(|| {
            Failure::usage("the pin is not a hash", "Copy the 64 digits that `bailiwick tool show` prints.")
        })?),
    };
    if pin.is_some() && manifests.len() != 1 {
        return Err(Failure::usage("a pin fits one tool only", "Classify one tool at a time."));
    }
    let people = ctx.people()?;
    let mut done = Vec::new();
    for manifest in manifests {
        done.push(people.classify(&ToolSet { manifest, pin }).await?);
    }
    ctx.out.show(&done, |paint| {
        let rows = done.iter().map(|t| {
            let pin = t.pin.as_ref().map_or("no definition seen yet".to_owned(), Digest::short);
            vec![t.tool.to_string(), standing(t, paint), pin]
        });
        table(paint, &["tool", "standing", "pinned to"], rows.collect())
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guessed(json: &str) -> Proposal {
        let definition = Value::parse(json.as_bytes()).unwrap();
        let name = definition.get("name").and_then(Value::as_text).unwrap().to_owned();
        let tool = ToolId::parse(&format!("x.{name}")).unwrap();
        let detail = ToolDetail {
            tool,
            standing: "proposed".into(),
            pin: None,
            seen: Some(definition.digest()),
            manifest: None,
            definition: Some(definition),
        };
        propose(&detail).unwrap()
    }

    // proves: A39
    #[test]
    fn a_tool_that_calls_itself_harmless_is_not_believed() {
        let wolf = guessed(
            r#"{"name":"vm.delete","annotations":{"readOnlyHint":true},"inputSchema":{"properties":{"name":{}},"required":["name"]}}"#,
        );
        assert_eq!(wolf.manifest.effect, Effect::Delete);
        let odd = guessed(r#"{"name":"frobnicate","annotations":{"readOnlyHint":true}}"#);
        assert_eq!(odd.manifest.effect, Effect::Update);
        let sheep = guessed(r#"{"name":"list_files","annotations":{"readOnlyHint":true}}"#);
        assert_eq!(sheep.manifest.effect, Effect::Read);
        assert!(!wolf.manifest.reversible && sheep.manifest.reversible);
    }

    #[test]
    fn the_shape_of_an_argument_is_a_hint_too() {
        let proposal = guessed(
            r#"{"name":"update_thing","inputSchema":{"properties":{"note":{"format":"uri"},"deep":{"type":"boolean"},"token":{"type":"boolean"}}}}"#,
        );
        let role = |name: &str| proposal.manifest.args[name].role;
        assert_eq!((role("note"), role("deep"), role("token")), (Role::Target, Role::Free, Role::Secret));
    }

    #[test]
    fn every_guess_is_marked_and_the_proposal_can_be_read_back() {
        let proposal = guessed(
            r#"{"name":"send_mail","inputSchema":{"properties":{"to":{},"body":{},"password":{}},"required":["to"]}}"#,
        );
        let yaml = proposal.in_yaml();
        let marked: Vec<&str> = proposal.manifest.guess.keys().map(String::as_str).collect();
        assert_eq!(marked, ["args.body", "args.password", "args.to", "effect", "reversible"], "{yaml}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.yaml");
        std::fs::write(&file, &yaml).unwrap();
        assert_eq!(crate::config::proposed(&file).unwrap(), std::slice::from_ref(&proposal.manifest));
        let refused = crate::config::manifests(&file).unwrap_err();
        assert!(refused.code() == "config.guessed" && refused.to_string().contains("args.to"), "{refused}");
        let confirmed: String =
            yaml.lines().take_while(|l| l.trim() != "guess:").map(|l| format!("{l}\n")).collect();
        std::fs::write(&file, confirmed).unwrap();
        assert_eq!(crate::config::manifests(&file).unwrap().len(), 1);
        let role = |name: &str| proposal.manifest.args[name].role;
        assert_eq!((role("to"), role("body"), role("password")), (Role::Target, Role::Content, Role::Secret));
        assert!(proposal.manifest.args["to"].required && !proposal.manifest.args["body"].required);
    }
}
