//! `systems.NAME.api`: an HTTP API and the requests it takes, each with what it does and what its arguments are for.
//!
//! One entry says both how a request is read and what it means: the rule goes to the gateway, the manifest to the
//! control plane, so that the two cannot disagree.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bailiwick_core::ToolId;
use bailiwick_core::constraint::{Cidr, Constraint};
use bailiwick_core::declassify::Declassifier;
use bailiwick_core::ids::SystemId;
use bailiwick_core::label::Label;
use bailiwick_core::sought::Sought;
use bailiwick_core::tool::{Arg, Effect, Manifest, ResourceSpec, ResultRule, Role};
use bailiwick_gateway::Secret;
use bailiwick_gateway::egress::spec::{ActionSpec, AnswerSpec, ApiSpec, ArgSpec, BodyForm, Key, Kind, Place};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::yaml::ConfigError;
use super::{Base, secret};

/// Stands for a secret that was left where it is, so that the rest can be checked.
const NOT_FETCHED: &str = "not-fetched";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApiEntry {
    url: Spanned<String>,
    #[serde(default)]
    headers: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    query: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    networks: Vec<Cidr>,
    #[serde(default)]
    ca: Option<Spanned<PathBuf>>,
    #[serde(default)]
    call_timeout_ms: Option<u64>,
    #[serde(default)]
    actions: BTreeMap<String, Spanned<ActionEntry>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionEntry {
    request: String,
    effect: Effect,
    #[serde(default)]
    reversible: Option<bool>,
    #[serde(default)]
    body: Option<Body>,
    #[serde(default)]
    args: BTreeMap<String, ArgEntry>,
    #[serde(default)]
    resource: Option<ResourceSpec>,
    #[serde(default)]
    answer: AnswerEntry,
    #[serde(default)]
    result: Vec<ResultRule>,
    #[serde(default)]
    labels: Label,
    #[serde(default)]
    sink: Option<Label>,
    #[serde(default)]
    trusted_result: bool,
    #[serde(default)]
    declassifies: Vec<Declassifier>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Body {
    None,
    Json,
    Form,
    Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArgEntry {
    role: Role,
    #[serde(default, rename = "in")]
    place: Option<In>,
    #[serde(default)]
    at: Option<String>,
    #[serde(default, rename = "type")]
    kind: Type,
    #[serde(default)]
    list: bool,
    #[serde(default)]
    must: Option<Constraint>,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    amount: bool,
    #[serde(default)]
    scan: Option<Vec<Sought>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum In {
    Path,
    Query,
    Header,
    Body,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Type {
    #[default]
    Text,
    Word,
    Integer,
    Number,
    Boolean,
    Uuid,
    Json,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerEntry {
    #[serde(default)]
    keep: Vec<String>,
    #[serde(default)]
    drop: Vec<String>,
    #[serde(default)]
    bytes_max: Option<usize>,
}

/// The API and the manifests of its actions.
pub(super) fn api(
    id: SystemId,
    entry: ApiEntry,
    base: Base<'_>,
) -> Result<(ApiSpec, Vec<Manifest>), ConfigError> {
    secret::no_secret("the URL", &entry.url.value).map_err(|e| e.at(entry.url.referenced))?;
    let place = entry.url.referenced;
    let mut spec = ApiSpec::new(id, entry.url.value);
    (spec.networks, spec.call_timeout_ms) =
        (entry.networks, entry.call_timeout_ms.unwrap_or(spec.call_timeout_ms));
    for (name, value) in entry.headers {
        let at = |e: ConfigError| e.at(value.referenced);
        match header(&name, &value.value).map_err(at)? {
            Some(reference) => spec.keys.push(Key::Header(name, fetched(base, &reference).map_err(at)?)),
            None => spec.headers.push((name, value.value)),
        }
    }
    for (name, value) in entry.query {
        let at = |e: ConfigError| e.at(value.referenced);
        let reference = secret::must_refer(&format!("query key `{name}`"), &value.value).map_err(at)?;
        spec.keys.push(Key::Query(name, fetched(base, &reference).map_err(at)?));
    }
    if let Some(ca) = entry.ca {
        let read = std::fs::read(base.root.join(&ca.value)).map_err(|e| {
            let what = format!("the certificates of `{}` cannot be read: {}", spec.system, e.kind());
            ConfigError::new("config.unreadable", what, "Name a PEM file.").at(ca.referenced)
        })?;
        spec.roots = Some(read);
    }
    let mut manifests = Vec::new();
    for (name, entry) in entry.actions {
        let at = entry.referenced;
        let tool = ToolId::of(&spec.system, &name)
            .map_err(|e| ConfigError::new("config.malformed", e.to_string(), "").at(at))?;
        let (action, manifest) = action(tool, entry.value);
        spec.actions.push(action);
        manifests.push(manifest);
    }
    bailiwick_gateway::egress::check(&spec).map_err(|e| {
        ConfigError::new("config.api", e.to_string(), "See the manual's page on HTTP APIs.").at(place)
    })?;
    Ok((spec, manifests))
}

/// A header of every request: a reference to a key, or a plain value where no key belongs.
fn header(name: &str, value: &str) -> Result<Option<secret::SecretRef>, ConfigError> {
    let usual = ["authorization", "cookie", "x-api-key", "api-key", "x-auth-token"];
    match usual.iter().any(|n| name.eq_ignore_ascii_case(n)) {
        true => secret::must_refer(&format!("header `{name}`"), value).map(Some),
        false => secret::variable(&name.replace('-', "_"), value),
    }
}

fn fetched(base: Base<'_>, reference: &secret::SecretRef) -> Result<Secret, ConfigError> {
    let found = base.secret(reference)?;
    Ok(if found.expose().is_empty() { Secret::new(NOT_FETCHED) } else { found })
}

fn action(tool: ToolId, entry: ActionEntry) -> (ActionSpec, Manifest) {
    let writes = ["POST ", "PUT ", "PATCH "].iter().any(|method| entry.request.starts_with(method));
    let usual = match (writes, entry.body) {
        (true, None | Some(Body::Json | Body::Form | Body::Text)) => In::Body,
        _ => In::Query,
    };
    let mut manifest = Manifest::new(tool.clone(), entry.effect);
    let mut args = BTreeMap::new();
    for (name, arg) in entry.args {
        let in_path =
            [format!("{{{name}}}"), format!("{{{name}...}}")].iter().any(|hole| entry.request.contains(hole));
        let place = arg.place.unwrap_or(if in_path { In::Path } else { usual });
        let required = arg.required || place == In::Path;
        let scan = arg.scan.clone();
        let stated = Arg { required, amount: arg.amount, scan, ..Arg::of_role(arg.role) };
        manifest.args.insert(name.clone(), stated);
        args.insert(name.clone(), argument(&name, place, required, arg, entry.body));
    }
    let has_body = args.values().any(|arg: &ArgSpec| matches!(arg.place, Place::Body(_)));
    let body = match entry.body {
        Some(Body::None) => BodyForm::None,
        Some(Body::Json) => BodyForm::Json,
        Some(Body::Form) => BodyForm::Form,
        Some(Body::Text) => BodyForm::Text,
        None if has_body => BodyForm::Json,
        None => BodyForm::None,
    };
    let usual = AnswerSpec::default();
    let answer = AnswerSpec {
        keep: entry.answer.keep,
        drop: entry.answer.drop,
        bytes_max: entry.answer.bytes_max.unwrap_or(usual.bytes_max),
    };
    let manifest = Manifest {
        reversible: entry.reversible.unwrap_or(manifest.reversible),
        resource: entry.resource,
        result: entry.result,
        labels: entry.labels,
        sink: entry.sink,
        trusted_result: entry.trusted_result,
        declassifies: entry.declassifies,
        ..manifest
    };
    (ActionSpec { tool, request: entry.request, body, args, answer }, manifest)
}

fn argument(name: &str, place: In, required: bool, entry: ArgEntry, body: Option<Body>) -> ArgSpec {
    let at = entry.at;
    let own = |at: Option<String>| at.unwrap_or_else(|| name.to_owned());
    let place = match (place, body) {
        (In::Path, _) => Place::Path,
        (In::Query, _) => Place::Query(own(at)),
        (In::Header, _) => Place::Header(own(at)),
        (In::Body, Some(Body::Text)) => Place::Body(at.unwrap_or_default()),
        (In::Body, Some(Body::Form)) => Place::Body(own(at)),
        (In::Body, _) => Place::Body(at.unwrap_or_else(|| format!("/{name}"))),
    };
    let kind = match entry.kind {
        Type::Text => Kind::Text,
        Type::Word => Kind::Word,
        Type::Integer => Kind::Integer,
        Type::Number => Kind::Number,
        Type::Boolean => Kind::Boolean,
        Type::Uuid => Kind::Uuid,
        Type::Json => Kind::Json,
    };
    ArgSpec { place, kind, list: entry.list, must: entry.must.unwrap_or(Constraint::Any), required }
}
