//! What an operator states about an HTTP API: where it is, which key goes with each request, and which requests
//! it takes.
//!
//! Nothing is taken that is not stated. An action is a method, a path template and typed arguments, each with a
//! place in the request; [`Api::compile`] refuses what could be read in two ways. The definition that an action
//! shows to the control plane holds all of it, so that a changed rule is a changed tool.

use super::address::Guard;
use super::echo::{Echo, is_distinct};
use super::send::client;
use crate::secret::Secret;
use bailiwick_core::constraint::{Cidr, Constraint};
use bailiwick_core::{Digest, SystemId, ToolId, Value};
use http::{HeaderName, HeaderValue, Method};
use reqwest::Url;
use std::collections::{BTreeMap, BTreeSet};

/// Deadline of one request to an API, in milliseconds, unless the operator says otherwise.
pub const CALL_TIMEOUT_MS: u64 = 60_000;
/// Largest answer of an API, in bytes, unless the operator says otherwise; never more than this.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;
/// The action under which requests that fit no rule are refused and recorded.
pub const UNLISTED: &str = "unlisted";

/// One HTTP API.
#[derive(Debug, Clone)]
pub struct ApiSpec {
    /// The name under which its actions appear.
    pub system: SystemId,
    /// Scheme, host, port and the path that all requests share. `https`, or `http` on this machine.
    pub url: String,
    /// What goes with every request, put in by the gateway. Agents never see it.
    pub keys: Vec<Key>,
    /// Headers without secrets that go with every request.
    pub headers: Vec<(String, String)>,
    /// Networks the host may be in besides the public ones: nothing private is reached unless it is named.
    pub networks: Vec<Cidr>,
    /// Certificates (PEM) that are trusted instead of the system's.
    pub roots: Option<Vec<u8>>,
    /// Deadline of one request, in milliseconds.
    pub call_timeout_ms: u64,
    /// The requests it takes.
    pub actions: Vec<ActionSpec>,
}

impl ApiSpec {
    /// An API that takes nothing yet; for builders.
    pub fn new(system: SystemId, url: impl Into<String>) -> Self {
        ApiSpec {
            system,
            url: url.into(),
            keys: Vec::new(),
            headers: Vec::new(),
            networks: Vec::new(),
            roots: None,
            call_timeout_ms: CALL_TIMEOUT_MS,
            actions: Vec::new(),
        }
    }
}

/// Where a key goes.
#[derive(Debug, Clone)]
pub enum Key {
    /// Into a header, whole: `Bearer …` includes the word.
    Header(String, Secret),
    /// Into the query.
    Query(String, Secret),
}

impl Key {
    pub(crate) fn secret(&self) -> &Secret {
        match self {
            Key::Header(_, secret) | Key::Query(_, secret) => secret,
        }
    }
}

/// One request an API takes.
#[derive(Debug, Clone)]
pub struct ActionSpec {
    /// The action.
    pub tool: ToolId,
    /// Method, a blank, and the path below the API's URL: `GET /customers/{id}?view=short`. `{name}` stands for
    /// one segment, `{name...}` at the end for one or more; a query is sent as it stands here, always.
    pub request: String,
    /// The form of the body.
    pub body: BodyForm,
    /// The arguments.
    pub args: BTreeMap<String, ArgSpec>,
    /// What of the answer reaches the agent.
    pub answer: AnswerSpec,
}

/// The form of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyForm {
    /// There is none.
    #[default]
    None,
    /// A JSON object, or any value if one argument is the whole body.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Plain text: one argument.
    Text,
}

impl BodyForm {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            BodyForm::None => "none",
            BodyForm::Json => "json",
            BodyForm::Form => "form",
            BodyForm::Text => "text",
        }
    }
    /// The media type that is sent.
    pub(crate) fn media(self) -> Option<&'static str> {
        match self {
            BodyForm::None => None,
            BodyForm::Json => Some("application/json"),
            BodyForm::Form => Some("application/x-www-form-urlencoded"),
            BodyForm::Text => Some("text/plain; charset=utf-8"),
        }
    }
}

/// One argument.
#[derive(Debug, Clone)]
pub struct ArgSpec {
    /// Where it stands in the request.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
    /// A list of these: a repeated query key, or a JSON array.
    pub list: bool,
    /// What it must satisfy besides.
    pub must: Constraint,
    /// Whether the request cannot do without it.
    pub required: bool,
}

impl ArgSpec {
    /// An optional text; for builders.
    pub fn new(place: Place) -> Self {
        ArgSpec { place, kind: Kind::Text, list: false, must: Constraint::Any, required: false }
    }
}

/// Where an argument stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the path, where the template names it.
    Path,
    /// In the query, under this key.
    Query(String),
    /// In this header.
    Header(String),
    /// In the body: a JSON pointer (RFC 6901) of object members, or the key in a form. Empty: the whole body.
    Body(String),
}

/// What an argument is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Text.
    #[default]
    Text,
    /// Letters, digits, `_` and `-`, at least one.
    Word,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A UUID in lower or upper case (RFC 9562 section 4).
    Uuid,
    /// Any JSON; in a JSON body only.
    Json,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Word => "word",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Boolean => "boolean",
            Kind::Uuid => "uuid",
            Kind::Json => "json",
        }
    }

    /// Whether the value is one of these.
    pub(crate) fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (Kind::Json, _) | (Kind::Text, Value::Text(_)) | (Kind::Integer, Value::Int(_)) => true,
            (Kind::Number, Value::Int(_) | Value::Float(_)) | (Kind::Boolean, Value::Bool(_)) => true,
            (Kind::Word, Value::Text(text)) => is_word(text),
            (Kind::Uuid, Value::Text(text)) => is_uuid(text),
            _ => false,
        }
    }

    /// Reads one from text, as it stands in a path or a query. Each value has one spelling there.
    pub(crate) fn read(self, text: &str) -> Option<Value> {
        let value = match self {
            Kind::Text | Kind::Word | Kind::Uuid => Value::from(text),
            Kind::Json => return None,
            Kind::Integer | Kind::Number | Kind::Boolean => Value::parse(text.as_bytes()).ok()?,
        };
        (self.fits(&value) && value.spelled().is_some_and(|s| s == text || self == Kind::Text))
            .then_some(value)
    }

    /// The JSON Schema of one.
    fn schema(self) -> Value {
        let kind = match self {
            Kind::Text | Kind::Word | Kind::Uuid => "string",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Boolean => "boolean",
            Kind::Json => return Value::empty(),
        };
        Value::from([("type", Value::from(kind))])
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// What of an answer reaches the agent.
#[derive(Debug, Clone)]
pub struct AnswerSpec {
    /// Only these fields of a JSON answer, as dotted paths; lists are looked through. Empty: all.
    pub keep: Vec<String>,
    /// None of these.
    pub drop: Vec<String>,
    /// Largest answer in bytes; a larger one is withheld.
    pub bytes_max: usize,
}

impl Default for AnswerSpec {
    fn default() -> Self {
        AnswerSpec { keep: Vec::new(), drop: Vec::new(), bytes_max: ANSWER_BYTES_MAX }
    }
}

/// A spec that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("api `{system}`: {why}")]
pub struct BadApi {
    system: String,
    why: String,
}

impl BadApi {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        "egress.spec"
    }
}

/// An API, ready to take requests.
pub(crate) struct Api {
    pub(crate) system: SystemId,
    /// The URL, without a slash at its end.
    pub(crate) url: Url,
    /// The segments of its path.
    pub(crate) base: Vec<String>,
    pub(crate) keys: Vec<Key>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) echo: Echo,
    pub(crate) client: reqwest::Client,
    pub(crate) call_timeout_ms: u64,
    pub(crate) actions: Vec<Action>,
}

/// An action, ready to be matched.
pub(crate) struct Action {
    pub(crate) tool: ToolId,
    pub(crate) method: Method,
    pub(crate) path: Vec<Piece>,
    pub(crate) constants: Vec<(String, String)>,
    pub(crate) body: BodyForm,
    pub(crate) args: BTreeMap<String, ArgSpec>,
    pub(crate) answer: AnswerSpec,
    pub(crate) definition: Value,
    pub(crate) pin: Digest,
}

/// One piece of a path template.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Piece {
    /// This segment. Sorts first: what is named wins over what is open.
    Word(String),
    /// Any one segment: an argument.
    Hole(String),
    /// The rest of the path: an argument.
    Rest(String),
}

impl Api {
    /// Checks a spec. `guard` says which addresses may be reached.
    pub(crate) fn compile(spec: ApiSpec, guard: Guard) -> Result<Api, BadApi> {
        let system = spec.system.to_string();
        Self::try_compile(spec, guard).map_err(|why| BadApi { system, why })
    }

    fn try_compile(spec: ApiSpec, guard: Guard) -> Result<Api, String> {
        let (url, base) = read_url(&spec)?;
        for key in &spec.keys {
            if !is_distinct(key.secret()) {
                return Err("a key shorter than 8 characters could not be told from other text".to_owned());
            }
        }
        let headers = spec.headers.iter().map(read_header).collect::<Result<Vec<_>, _>>()?;
        for key in &spec.keys {
            if let Key::Header(name, value) = key {
                read_header(&(name.clone(), value.expose().to_owned())).map_err(|_| {
                    format!(
                        "header `{name}` cannot be sent with this key: a name and printable text are needed"
                    )
                })?;
            }
        }
        let client = client(&spec, &url, guard)?;
        let mut actions = Vec::new();
        for action in &spec.actions {
            actions.push(
                compile(&spec, action, &url).map_err(|why| format!("action `{}`: {why}", action.tool))?,
            );
        }
        actions.sort_by(|a, b| openness(a).cmp(&openness(b)));
        distinct(&actions)?;
        let echo = Echo::of(spec.keys.iter().map(Key::secret));
        Ok(Api {
            system: spec.system,
            url,
            base,
            echo,
            keys: spec.keys,
            headers,
            client,
            call_timeout_ms: spec.call_timeout_ms,
            actions,
        })
    }

    /// Scheme, host and port, as clients write them (RFC 6454 section 6.2).
    pub(crate) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// The action of a tool.
    pub(crate) fn action(&self, tool: &ToolId) -> Option<&Action> {
        self.actions.iter().find(|action| action.tool == *tool)
    }

    /// The definitions of all actions, for the control plane.
    pub(crate) fn definitions(&self) -> Vec<Value> {
        self.actions.iter().map(|action| action.definition.clone()).collect()
    }
}

fn read_url(spec: &ApiSpec) -> Result<(Url, Vec<String>), String> {
    let text = spec.url.trim_end_matches('/');
    let url = Url::parse(text).map_err(|e| format!("its URL cannot be read: {e}"))?;
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err("its URL must not hold user, password, query or fragment: use `key`".to_owned());
    }
    let local = match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        None => return Err("its URL has no host".to_owned()),
    };
    match url.scheme() {
        "https" => {}
        "http" if local => {}
        "http" => return Err("the key would travel in clear text: use https".to_owned()),
        _ => return Err("its URL must be https".to_owned()),
    }
    let base: Vec<String> =
        url.path().split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
    if base.iter().any(|segment| segment.contains('%')) || url.path().contains("//") {
        return Err("its path must be plain".to_owned());
    }
    Ok((url, base))
}

fn read_header((name, value): &(String, String)) -> Result<(HeaderName, HeaderValue), String> {
    let parsed =
        HeaderName::try_from(name.as_str()).map_err(|_| "a header's name is not a name".to_owned())?;
    let value =
        HeaderValue::from_str(value).map_err(|_| format!("the value of header `{name}` cannot be sent"))?;
    Ok((parsed, value))
}

fn compile(spec: &ApiSpec, action: &ActionSpec, url: &Url) -> Result<Action, String> {
    if action.tool.system() != spec.system.as_str() {
        return Err(format!("it belongs to another system than `{}`", spec.system));
    }
    if action.tool.action() == UNLISTED {
        return Err(format!("`{UNLISTED}` is the name of what fits no rule"));
    }
    let (method, path, constants) = read_request(&action.request)?;
    check_args(spec, action, &path, &constants)?;
    let definition = definition(action, url);
    Ok(Action {
        tool: action.tool.clone(),
        method,
        path,
        constants,
        body: action.body,
        args: action.args.clone(),
        answer: AnswerSpec {
            bytes_max: action.answer.bytes_max.min(ANSWER_BYTES_MAX),
            ..action.answer.clone()
        },
        pin: definition.digest(),
        definition,
    })
}

type ReadRequest = (Method, Vec<Piece>, Vec<(String, String)>);

fn read_request(text: &str) -> Result<ReadRequest, String> {
    let wrong = || "`request` must read like `GET /customers/{id}`".to_owned();
    let (method, target) = text.split_once(' ').ok_or_else(wrong)?;
    let method = match method {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        "POST" => Method::POST,
        "PUT" => Method::PUT,
        "PATCH" => Method::PATCH,
        "DELETE" => Method::DELETE,
        _ => return Err("its method must be GET, HEAD, POST, PUT, PATCH or DELETE".to_owned()),
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.strip_prefix('/').ok_or_else(wrong)?;
    let pieces: Vec<Piece> = match path {
        "" => Vec::new(),
        path => path.split('/').map(read_piece).collect::<Result<_, _>>()?,
    };
    if pieces.iter().rev().skip(1).any(|p| matches!(p, Piece::Rest(_)) || *p == Piece::Word(String::new())) {
        return Err("`{name...}` and an empty segment may only stand at the end of a path".to_owned());
    }
    let constants = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).ok_or_else(wrong))
        .collect::<Result<Vec<_>, _>>()?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~,:$[]".contains(&b));
    if !constants.iter().all(|(key, value)| plain(key) && plain(value)) {
        return Err("the query in `request` must be plain text".to_owned());
    }
    Ok((method, pieces, constants))
}

fn read_piece(text: &str) -> Result<Piece, String> {
    if let Some(name) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        return Ok(match name.strip_suffix("...") {
            Some(name) => Piece::Rest(name.to_owned()),
            None => Piece::Hole(name.to_owned()),
        });
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$'()*+,=:@&".contains(&b);
    if !text.bytes().all(plain) || matches!(text, "." | "..") {
        return Err(format!(
            "`{text}` cannot stand in a path; write an argument as a whole segment: `{{name}}`"
        ));
    }
    Ok(Piece::Word(text.to_owned()))
}

/// Headers that are the gateway's or the connection's, never an argument.
const NOT_ARGUMENTS: [&str; 12] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
];

fn check_args(
    spec: &ApiSpec,
    action: &ActionSpec,
    path: &[Piece],
    constants: &[(String, String)],
) -> Result<(), String> {
    let mut holes = BTreeSet::new();
    for piece in path {
        if let Piece::Hole(name) | Piece::Rest(name) = piece
            && !holes.insert(name.as_str())
        {
            return Err(format!("`{{{name}}}` stands twice in its path"));
        }
    }
    let mut places = BTreeSet::new();
    for (name, arg) in &action.args {
        if !is_name(name) {
            return Err(format!(
                "`{name}` is not a name: letters, digits, `_` and `-`, beginning with a letter"
            ));
        }
        if (arg.place == Place::Path) != holes.remove(name.as_str()) {
            return Err(format!("argument `{name}` must stand in the path exactly if its place is the path"));
        }
        if arg.place != Place::Path && !places.insert(&arg.place) {
            return Err(format!("argument `{name}` stands where another one does"));
        }
        check_arg(spec, action, arg, constants).map_err(|why| format!("argument `{name}`: {why}"))?;
    }
    if let Some(name) = holes.first() {
        return Err(format!("`{{{name}}}` is not among its arguments"));
    }
    disjoint(action)
}

fn check_arg(
    spec: &ApiSpec,
    action: &ActionSpec,
    arg: &ArgSpec,
    constants: &[(String, String)],
) -> Result<(), String> {
    let json_body = matches!(arg.place, Place::Body(_)) && action.body == BodyForm::Json;
    if arg.kind == Kind::Json && !json_body {
        return Err("only a JSON body holds `json`".to_owned());
    }
    match &arg.place {
        Place::Path if arg.list => Err("a path holds no list".to_owned()),
        Place::Path => Ok(()),
        Place::Query(key) => {
            let ours = spec.keys.iter().any(|k| matches!(k, Key::Query(name, _) if name == key));
            if ours || constants.iter().any(|(name, _)| name == key) || key.is_empty() {
                return Err(format!("the query key `{key}` is taken"));
            }
            Ok(())
        }
        Place::Header(name) => {
            let lower = name.to_ascii_lowercase();
            let ours =
                spec.keys.iter().any(|k| matches!(k, Key::Header(n, _) if n.eq_ignore_ascii_case(name)))
                    || spec.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
            if arg.list
                || ours
                || NOT_ARGUMENTS.contains(&lower.as_str())
                || super::request::overrides(&lower)
            {
                return Err(format!("header `{name}` cannot be an argument"));
            }
            HeaderName::try_from(lower).map(drop).map_err(|_| format!("`{name}` is not a header's name"))
        }
        Place::Body(at) => match action.body {
            BodyForm::None => Err("there is no body: say `body: json`, `form` or `text`".to_owned()),
            BodyForm::Json if at.is_empty() || is_pointer(at) => Ok(()),
            BodyForm::Json => Err("`at` must be a JSON pointer such as `/message/to`".to_owned()),
            BodyForm::Form if at.is_empty() => Err("a form's argument needs a key".to_owned()),
            BodyForm::Form => Ok(()),
            BodyForm::Text if at.is_empty() && arg.kind == Kind::Text && !arg.list => Ok(()),
            BodyForm::Text => Err("a text body is one argument of type `text` with `at: \"\"`".to_owned()),
        },
    }
}

/// No argument of a JSON body lies inside another, and the whole body is the only one if it is one.
fn disjoint(action: &ActionSpec) -> Result<(), String> {
    let ats: Vec<&str> = action
        .args
        .values()
        .filter_map(|arg| match &arg.place {
            Place::Body(at) => Some(at.as_str()),
            _ => None,
        })
        .collect();
    let inside = |a: &str, b: &str| {
        a != b && b.strip_prefix(a).is_some_and(|rest| rest.starts_with('/') || a.is_empty())
    };
    match action.body == BodyForm::Json && ats.iter().any(|a| ats.iter().any(|b| inside(a, b))) {
        true => Err("one argument of the body lies inside another".to_owned()),
        false => Ok(()),
    }
}

fn is_name(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// A JSON pointer whose members need no escapes.
fn is_pointer(text: &str) -> bool {
    text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|t| !t.is_empty() && !t.contains('~')))
}

/// Orders rules by path: what is named comes before what is open, whatever its arguments are called.
fn openness(action: &Action) -> Vec<(u8, &str)> {
    fn rank(piece: &Piece) -> (u8, &str) {
        match piece {
            Piece::Word(word) => (0, word.as_str()),
            Piece::Hole(_) => (1, ""),
            Piece::Rest(_) => (2, ""),
        }
    }
    action.path.iter().map(rank).collect()
}

/// Two rules for the same method and shape of path would be one guess too many.
fn distinct(actions: &[Action]) -> Result<(), String> {
    let shape = |action: &Action| -> Vec<Option<String>> {
        let words = action.path.iter().map(|piece| match piece {
            Piece::Word(word) => Some(word.clone()),
            Piece::Hole(_) => None,
            Piece::Rest(_) => Some("...".to_owned()),
        });
        words.collect()
    };
    let mut shapes = BTreeSet::new();
    let mut tools = BTreeSet::new();
    for action in actions {
        if !shapes.insert((action.method.as_str(), shape(action), action.constants.clone())) {
            return Err(format!("`{}` takes the same requests as another action", action.tool));
        }
        if !tools.insert(&action.tool) {
            return Err(format!("`{}` is there twice", action.tool));
        }
    }
    Ok(())
}

/// An MCP tool object that holds the whole rule.
fn definition(action: &ActionSpec, url: &Url) -> Value {
    let base = url.as_str().trim_end_matches('/');
    let (method, path) = action.request.split_once(' ').unwrap_or(("", ""));
    let properties = action.args.iter().map(|(name, arg)| {
        let one = arg.kind.schema();
        let list = || Value::from([("type", Value::from("array")), ("items", one.clone())]);
        (name.clone(), if arg.list { list() } else { one.clone() })
    });
    let required =
        action.args.iter().filter(|(_, arg)| arg.required).map(|(name, _)| Value::from(name.as_str()));
    let texts = |all: &[String]| Value::List(all.iter().map(|t| Value::from(t.as_str())).collect());
    Value::from([
        ("name", Value::from(action.tool.action())),
        ("description", Value::from(format!("{method} {base}{path}"))),
        (
            "inputSchema",
            Value::from([
                ("type", Value::from("object")),
                ("properties", Value::Map(properties.collect())),
                ("required", Value::List(required.collect())),
                ("additionalProperties", Value::from(false)),
            ]),
        ),
        (
            "http",
            Value::from([
                ("request", Value::from(action.request.as_str())),
                ("url", Value::from(base)),
                ("body", Value::from(action.body.as_str())),
                ("args", Value::Map(action.args.iter().map(|(n, arg)| (n.clone(), rule(arg))).collect())),
                ("keep", texts(&action.answer.keep)),
                ("drop", texts(&action.answer.drop)),
            ]),
        ),
    ])
}

fn rule(arg: &ArgSpec) -> Value {
    let (place, at) = match &arg.place {
        Place::Path => ("path", ""),
        Place::Query(at) => ("query", at.as_str()),
        Place::Header(at) => ("header", at.as_str()),
        Place::Body(at) => ("body", at.as_str()),
    };
    Value::from([
        ("in", Value::from(place)),
        ("at", Value::from(at)),
        ("type", Value::from(arg.kind.as_str())),
        ("list", Value::from(arg.list)),
        ("must", Value::from_serialize(&arg.must).unwrap_or(Value::Null)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(request: &str, body: BodyForm, args: &[(&str, Place)]) -> ApiSpec {
        let system = SystemId::parse("crm").unwrap();
        let args =
            args.iter().map(|(name, place)| ((*name).to_owned(), ArgSpec::new(place.clone()))).collect();
        let tool = ToolId::parse("crm.act").unwrap();
        let action =
            ActionSpec { tool, request: request.to_owned(), body, args, answer: AnswerSpec::default() };
        let key = Key::Header("Authorization".into(), Secret::new("Bearer 0123456789"));
        ApiSpec {
            actions: vec![action],
            keys: vec![key],
            ..ApiSpec::new(system, "https://crm.example.com/v2/")
        }
    }

    fn why(spec: ApiSpec) -> Option<String> {
        Api::compile(spec, Guard::system()).err().map(|e| e.to_string())
    }

    #[test]
    fn a_rule_reads_like_a_request() {
        let good = spec(
            "POST /customers/{id}/notes?kind=call",
            BodyForm::Json,
            &[
                ("id", Place::Path),
                ("text", Place::Body("/note/text".into())),
                ("dry", Place::Query("dry".into())),
            ],
        );
        let api = Api::compile(good, Guard::system()).unwrap();
        assert_eq!((api.origin().as_str(), api.base.len()), ("https://crm.example.com", 1));
        assert_eq!(api.actions[0].constants, [("kind".to_owned(), "call".to_owned())]);
        assert_eq!(
            api.actions[0].definition.get("description").and_then(Value::as_text),
            Some("POST https://crm.example.com/v2/customers/{id}/notes?kind=call")
        );
    }

    // proves: INV6
    #[test]
    fn a_rule_that_can_be_read_in_two_ways_is_refused() {
        let body = |at: &str| Place::Body(at.into());
        let bad = [
            spec("GET customers", BodyForm::None, &[]),
            spec("TRACE /x", BodyForm::None, &[]),
            spec("get /x", BodyForm::None, &[]),
            spec("GET /a//b", BodyForm::None, &[]),
            spec("GET /a/../b", BodyForm::None, &[]),
            spec("GET /a%2fb", BodyForm::None, &[]),
            spec("GET /{id}", BodyForm::None, &[]),
            spec("GET /{id}/{id}", BodyForm::None, &[("id", Place::Path)]),
            spec("GET /x{id}", BodyForm::None, &[("id", Place::Path)]),
            spec("GET /{rest...}/x", BodyForm::None, &[("rest", Place::Path)]),
            spec("GET /x", BodyForm::None, &[("id", Place::Path)]),
            spec("GET /x?a=1", BodyForm::None, &[("a", Place::Query("a".into()))]),
            spec(
                "GET /x",
                BodyForm::None,
                &[("a", Place::Query("q".into())), ("b", Place::Query("q".into()))],
            ),
            spec("GET /x", BodyForm::None, &[("a", Place::Header("AUTHORIZATION".into()))]),
            spec("GET /x", BodyForm::None, &[("a", Place::Header("X-HTTP-Method-Override".into()))]),
            spec("POST /x", BodyForm::None, &[("a", body("/a"))]),
            spec("POST /x", BodyForm::Json, &[("a", body("a"))]),
            spec("POST /x", BodyForm::Json, &[("a", body("/a")), ("b", body("/a/b"))]),
            spec("POST /x", BodyForm::Json, &[("a", body("")), ("b", body("/b"))]),
            spec("POST /x", BodyForm::Text, &[("a", body("/a"))]),
            spec("GET /x", BodyForm::None, &[("?a", Place::Query("a".into()))]),
        ];
        for spec in bad {
            let text = format!("{:?}", spec.actions[0]);
            assert!(why(spec).is_some(), "{text}");
        }
        let mut twice = spec("GET /a/{id}", BodyForm::None, &[("id", Place::Path)]);
        let mut other = spec("GET /a/{name}", BodyForm::None, &[("name", Place::Path)]).actions.remove(0);
        other.tool = ToolId::parse("crm.other").unwrap();
        twice.actions.push(other);
        assert!(why(twice).unwrap().contains("same requests"));
    }

    // proves: INV14
    #[test]
    fn a_key_travels_encrypted_and_is_never_named_in_an_error() {
        let at = |url: &str| ApiSpec { url: url.into(), ..spec("GET /x", BodyForm::None, &[]) };
        assert_eq!(why(at("https://crm.example.com")), None);
        assert_eq!(why(at("http://127.0.0.1:8000")), None);
        for url in
            ["http://crm.example.com", "ftp://x/", "https://u:p@x.example/", "https://x.example/?k=1", "x"]
        {
            assert!(why(at(url)).is_some(), "{url}");
        }
        let broken = Key::Header("Authorization".into(), Secret::new("s3cret-s3cret\n"));
        let said = why(ApiSpec { keys: vec![broken], ..spec("GET /x", BodyForm::None, &[]) }).unwrap();
        assert!(!said.contains("s3cret"), "{said}");
        for short in [
            Key::Query("k".into(), Secret::new("abc")),
            Key::Header("k".into(), Secret::new("Bearer abcdefg")),
        ] {
            assert!(why(ApiSpec { keys: vec![short], ..spec("GET /x", BodyForm::None, &[]) }).is_some());
        }
    }

    #[test]
    fn each_scalar_has_one_spelling_in_a_path() {
        assert_eq!(Kind::Integer.read("7"), Some(Value::Int(7)));
        for odd in ["07", "+7", "7.0", " 7", "7 ", "0x7", "1e1", "", "-0", "99999999999999999999"] {
            assert_eq!(Kind::Integer.read(odd), None, "{odd}");
        }
        assert_eq!(Kind::Boolean.read("true"), Some(Value::Bool(true)));
        assert_eq!(Kind::Boolean.read("True"), None);
        assert_eq!(Kind::Word.read("a_B-9"), Some(Value::from("a_B-9")));
        assert_eq!(Kind::Word.read("a.b"), None);
        assert_eq!(Kind::Text.read(" x "), Some(Value::from(" x ")));
        assert!(Kind::Uuid.read("6ba7b810-9dad-11d1-80b4-00c04fd430c8").is_some());
        assert!(Kind::Uuid.read("6ba7b810-9dad-11d1-80b4-00c04fd430c").is_none());
    }
}
