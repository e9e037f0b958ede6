//! One HTTP request as a tool call, and back: the only reader and the only writer, so that they cannot drift apart.
//!
//! INV9: a request is read once into typed arguments; those are judged; what is sent is written from them alone,
//! and read again by the same reader before it may leave. Whatever two servers could read in two ways is refused:
//! dot segments in any spelling, encoded slashes, double encodings, empty segments, repeated keys, bodies of
//! another type, headers that stand for another method or path.

use super::spec::{Action, Api, BodyForm, Kind, Piece, Place};
use bailiwick_core::Value;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::collections::BTreeMap;

/// Longest path and query together, in bytes.
pub(crate) const TARGET_MAX: usize = 8 << 10;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Inbound {
    pub(crate) method: Method,
    /// Path and query, undecoded, as the client wrote them. The path begins with the API's own.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Why a request cannot be taken. The words never repeat a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfit {
    pub(crate) code: &'static str,
    pub(crate) why: String,
}

fn unfit<T>(code: &'static str, why: impl Into<String>) -> Result<T, Unfit> {
    Err(Unfit { code, why: why.into() })
}

/// A request as it will be sent, without the key.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) method: Method,
    /// Path and query, encoded one way.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Vec<u8>>,
}

/// Path and query, decoded once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// An empty last segment stands for a slash at the end.
    pub(crate) segments: Vec<String>,
    pub(crate) query: Vec<(String, String)>,
}

impl Target {
    /// Reads path and query strictly.
    pub(crate) fn read(raw: &str) -> Result<Target, Unfit> {
        let odd = |why: &str| unfit("egress.path", why);
        if raw.len() > TARGET_MAX {
            return odd("path and query are too long");
        }
        if !raw.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&b)) {
            return odd("path or query hold characters that must be encoded");
        }
        let (path, query) = raw.split_once('?').map_or((raw, None), |(path, query)| (path, Some(query)));
        let Some(path) = path.strip_prefix('/') else { return odd("the path must begin with a slash") };
        let segments = match path {
            "" => Vec::new(),
            path => path.split('/').map(segment).collect::<Result<_, _>>()?,
        };
        if segments.iter().rev().skip(1).any(String::is_empty) {
            return odd("the path has an empty segment");
        }
        Ok(Target { segments, query: query.map_or(Ok(Vec::new()), pairs)? })
    }
}

/// One segment, decoded. What could be taken for more or less than one segment is refused.
fn segment(raw: &str) -> Result<String, Unfit> {
    let odd = |why: &str| unfit("egress.path", why);
    let Some(text) = decoded(raw, false) else { return odd("an escape in the path is not UTF-8 text") };
    if text.contains(['/', '\\']) {
        return odd("a slash inside a segment of the path is refused, however it is written");
    }
    if text.contains('%') {
        return odd("a percent sign inside a segment of the path is refused: it could be decoded twice");
    }
    if text.contains([';', '?', '#']) || text.chars().any(char::is_control) {
        return odd("a segment of the path holds a character that servers read in different ways");
    }
    let dots = text.trim_matches(|c: char| c.is_whitespace());
    if !text.is_empty()
        && (dots.is_empty() || dots.chars().all(|c| matches!(c, '.' | '\u{ff0e}' | '\u{2024}')))
    {
        return odd("dot segments are refused");
    }
    Ok(text)
}

/// The pairs of a query or a form.
fn pairs(raw: &str) -> Result<Vec<(String, String)>, Unfit> {
    let odd = |why: &str| unfit("egress.query", why);
    if raw.is_empty() {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for pair in raw.split('&') {
        let Some((key, value)) = pair.split_once('=') else {
            return odd("write every part of the query as `key=value`");
        };
        let (Some(key), Some(value)) = (decoded(key, true), decoded(value, true)) else {
            return odd("an escape in the query is not UTF-8 text");
        };
        if key.is_empty() || key.chars().any(char::is_control) || value.contains('\0') {
            return odd("a key or value of the query cannot be read");
        }
        all.push((key, value));
    }
    Ok(all)
}

/// Undoes percent-encoding, once. `None` if an escape is broken or the result is not UTF-8.
fn decoded(raw: &str, plus: bool) -> Option<String> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |b: u8| char::from(b).to_digit(16);
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' if plus => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

/// Percent-encoding; `keep` stays besides the unreserved characters (RFC 3986 section 2.3).
fn encoded(text: &str, keep: &[u8], out: &mut String) {
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) || keep.contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
}

/// Headers by which some servers take another method or path than the request line's.
pub(crate) fn overrides(lower: &str) -> bool {
    matches!(
        lower,
        "x-http-method-override"
            | "x-http-method"
            | "x-method-override"
            | "x-original-method"
            | "x-original-url"
            | "x-original-uri"
            | "x-rewrite-url"
            | "x-forwarded-path"
            | "x-forwarded-uri"
            | "x-forwarded-prefix"
    )
}

/// Refuses what no request through here may carry, whatever it is for.
pub(crate) fn check_headers(headers: &HeaderMap) -> Result<(), Unfit> {
    let odd = |why: &str| unfit("egress.header", why);
    if let Some(name) = headers.keys().find(|name| overrides(name.as_str())) {
        return odd(&format!("header `{name}` stands for another method or path; ask for that itself"));
    }
    if headers.contains_key(http::header::UPGRADE) {
        return odd("upgrades to other protocols are not passed on");
    }
    if headers.contains_key(CONTENT_ENCODING) {
        return odd("send the body uncompressed");
    }
    match headers.get_all(CONTENT_TYPE).iter().count() {
        0 | 1 => Ok(()),
        _ => odd("the content type is given more than once"),
    }
}

type Args = BTreeMap<String, Value>;

impl Api {
    /// The action and arguments that a request means.
    pub(crate) fn read(&self, request: &Inbound) -> Result<(&Action, Value), Unfit> {
        check_headers(&request.headers)?;
        let target = Target::read(&request.target)?;
        let below = self.below(&target.segments)?;
        let (action, mut args) = self.find(&request.method, below, &target.query)?;
        action.read_query(&target.query, &mut args)?;
        action.read_headers(&request.headers, &mut args)?;
        action.read_body(&request.headers, &request.body, &mut args)?;
        action.check(&args)?;
        let declared = args.keys().all(|name| action.args.contains_key(name));
        let args = Value::Map(args);
        if declared {
            self.plan(action, &args)?;
        }
        Ok((action, args))
    }

    /// The segments below the API's own path.
    fn below<'s>(&self, segments: &'s [String]) -> Result<&'s [String], Unfit> {
        let begins =
            segments.len() >= self.base.len() && segments.iter().zip(&self.base).all(|(a, b)| a == b);
        match segments.get(self.base.len()..).filter(|_| begins) {
            Some(below) => Ok(below),
            None => unfit("egress.no_rule", "no rule takes a request to this path"),
        }
    }

    /// The rule for method, path and constant query. What is named wins over what is open, and of rules for the
    /// same path the one whose constants the request states; where that leaves two, nothing is guessed.
    fn find(
        &self,
        method: &Method,
        below: &[String],
        query: &[(String, String)],
    ) -> Result<(&Action, Args), Unfit> {
        let mut known = false;
        let mut tied = false;
        let mut best: Option<(&Action, Args, usize)> = None;
        for action in &self.actions {
            if best.as_ref().is_some_and(|(found, ..)| !same_shape(&found.path, &action.path)) {
                break;
            }
            let Some(args) = action.fits(below) else { continue };
            known = true;
            if action.method != *method || !action.constants_hold(query) {
                continue;
            }
            let stated =
                action.constants.iter().filter(|(name, _)| query.iter().any(|(key, _)| key == name)).count();
            // More of its constants stated, then fewer constants of its own.
            let rank = |action: &Action, stated: usize| (stated, usize::MAX - action.constants.len());
            let ours = rank(action, stated);
            match best.as_ref().map(|(found, _, stated)| rank(found, *stated)) {
                Some(theirs) if theirs > ours => {}
                Some(theirs) if theirs == ours => tied = true,
                _ => {
                    tied = false;
                    best = Some((action, args, stated));
                }
            }
        }
        match best {
            Some(_) if tied => {
                unfit("egress.no_rule", "several rules take this request: state the query they differ in")
            }
            Some((action, args, _)) => Ok((action, args)),
            None if known => unfit("egress.no_rule", "no rule takes this method or query on this path"),
            None => unfit("egress.no_rule", "no rule takes a request to this path"),
        }
    }

    /// The request for these arguments, read again: what the API will read is what was judged.
    pub(crate) fn plan(&self, action: &Action, args: &Value) -> Result<Plan, Unfit> {
        let plan = self.write(action, args)?;
        self.read_again(action, &plan, args)?;
        Ok(plan)
    }

    /// What would be sent, read by the same reader, must be what was meant.
    fn read_again(&self, action: &Action, plan: &Plan, args: &Value) -> Result<(), Unfit> {
        let target = Target::read(&plan.target)?;
        let (found, mut again) = self.find(&plan.method, self.below(&target.segments)?, &target.query)?;
        found.read_query(&target.query, &mut again)?;
        found.read_headers(&plan.headers, &mut again)?;
        found.read_body(&plan.headers, plan.body.as_deref().unwrap_or_default(), &mut again)?;
        if found.tool == action.tool && Value::Map(again) == *args {
            return Ok(());
        }
        unfit("egress.unclear", "the request cannot be written again the way it was read")
    }

    /// Writes the request for these arguments. Nothing but them, and what the operator stated, goes in.
    fn write(&self, action: &Action, args: &Value) -> Result<Plan, Unfit> {
        let empty = BTreeMap::new();
        let args = args.as_map().unwrap_or(&empty);
        if let Some(name) = args.keys().find(|name| !action.args.contains_key(*name)) {
            return unfit("egress.argument", format!("`{name}` is not an argument of this request"));
        }
        action.check(args)?;
        let mut target = String::new();
        for word in &self.base {
            target.push('/');
            target.push_str(word);
        }
        action.write_path(args, &mut target)?;
        action.write_query(args, &mut target);
        let mut headers = HeaderMap::new();
        action.write_headers(args, &mut headers)?;
        let body = action.write_body(args);
        if let (Some(_), Some(media)) = (&body, action.body.media()) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        }
        Ok(Plan { method: action.method.clone(), target, headers, body })
    }
}

impl Action {
    /// The arguments in the path, if it fits.
    fn fits(&self, below: &[String]) -> Option<Args> {
        let mut args = BTreeMap::new();
        let mut rest = below.iter();
        for piece in &self.path {
            match piece {
                Piece::Word(word) => {
                    if rest.next()? != word {
                        return None;
                    }
                }
                Piece::Hole(name) => {
                    let text = rest.next().filter(|text| !text.is_empty())?;
                    args.insert(name.clone(), self.args.get(name)?.kind.read(text)?);
                }
                Piece::Rest(name) => {
                    let text = rest.by_ref().map(String::as_str).collect::<Vec<_>>().join("/");
                    if text.is_empty() || text.ends_with('/') {
                        return None;
                    }
                    args.insert(name.clone(), self.args.get(name)?.kind.read(&text)?);
                }
            }
        }
        rest.next().is_none().then_some(args)
    }

    /// Whether the query says nothing against the rule's own.
    fn constants_hold(&self, query: &[(String, String)]) -> bool {
        query.iter().all(|(key, value)| {
            let stated = self.constants.iter().find(|(name, _)| name == key);
            stated.is_none_or(|(_, stated)| stated == value)
        })
    }

    fn read_query(&self, query: &[(String, String)], args: &mut Args) -> Result<(), Unfit> {
        let rest: Vec<_> =
            query.iter().filter(|(key, _)| !self.constants.iter().any(|(n, _)| n == key)).collect();
        self.read_pairs(&rest, |key| Place::Query(key.to_owned()), args)
    }

    /// Pairs of a query or form. What is not declared becomes an argument that nobody declared, so that the
    /// refusal is a decision like any other.
    fn read_pairs(
        &self,
        pairs: &[&(String, String)],
        place: impl Fn(&str) -> Place,
        args: &mut Args,
    ) -> Result<(), Unfit> {
        for (key, text) in pairs {
            let place = place(key);
            let Some((name, arg)) = self.args.iter().find(|(_, arg)| arg.place == place) else {
                args.insert(format!("?{key}"), Value::from(text.as_str()));
                continue;
            };
            let Some(value) = arg.kind.read(text) else { return mistyped(name, arg.kind) };
            match (args.get_mut(name), arg.list) {
                (None, false) => _ = args.insert(name.clone(), value),
                (None, true) => _ = args.insert(name.clone(), Value::List(vec![value])),
                (Some(Value::List(items)), true) => items.push(value),
                (Some(_), _) => return unfit("egress.argument", format!("`{name}` is given more than once")),
            }
        }
        Ok(())
    }

    fn read_headers(&self, headers: &HeaderMap, args: &mut Args) -> Result<(), Unfit> {
        for (name, arg) in &self.args {
            let Place::Header(header) = &arg.place else { continue };
            let text = crate::headers::single(headers, header)
                .map_err(|why| Unfit { code: "egress.header", why })?;
            let Some(text) = text else { continue };
            let Some(value) = arg.kind.read(text) else { return mistyped(name, arg.kind) };
            args.insert(name.clone(), value);
        }
        Ok(())
    }

    fn read_body(&self, headers: &HeaderMap, body: &[u8], args: &mut Args) -> Result<(), Unfit> {
        let media =
            headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("").to_ascii_lowercase();
        let mut parts = media.split(';').map(str::trim);
        let essence = parts.next().unwrap_or("");
        if !body.is_empty() && parts.any(|p| p.starts_with("charset") && p != "charset=utf-8") {
            return unfit("egress.body", "write the body in UTF-8");
        }
        match self.body {
            BodyForm::None if body.is_empty() || body == b"{}" => Ok(()),
            BodyForm::None => unfit("egress.body", "this request takes no body"),
            BodyForm::Json if body.is_empty() => Ok(()),
            BodyForm::Json => {
                if essence != "application/json" && !essence.ends_with("+json") {
                    return unfit("egress.body", "send the body as application/json");
                }
                let value =
                    Value::parse(body).map_err(|e| Unfit { code: "egress.body", why: e.to_string() })?;
                self.read_json(value, args)
            }
            BodyForm::Form if body.is_empty() => Ok(()),
            BodyForm::Form => {
                if essence != "application/x-www-form-urlencoded" {
                    return unfit("egress.body", "send the body as application/x-www-form-urlencoded");
                }
                let Ok(text) = std::str::from_utf8(body) else {
                    return unfit("egress.body", "the form is no text");
                };
                let pairs = pairs(text)?;
                self.read_pairs(&pairs.iter().collect::<Vec<_>>(), |key| Place::Body(key.to_owned()), args)
            }
            BodyForm::Text => {
                if body.is_empty() {
                    return Ok(());
                }
                if !essence.starts_with("text/") {
                    return unfit("egress.body", "send the body as text/plain");
                }
                let Ok(text) = std::str::from_utf8(body) else {
                    return unfit("egress.body", "the body is no text");
                };
                let whole = Place::Body(String::new());
                let name = self.args.iter().find(|(_, arg)| arg.place == whole).map(|(name, _)| name.clone());
                args.insert(name.unwrap_or_else(|| "/".to_owned()), Value::from(text));
                Ok(())
            }
        }
    }

    fn read_json(&self, mut body: Value, args: &mut Args) -> Result<(), Unfit> {
        for (name, arg) in &self.args {
            let Place::Body(at) = &arg.place else { continue };
            if at.is_empty() {
                args.insert(name.clone(), body);
                return Ok(());
            }
            let steps: Vec<&str> = at.split('/').skip(1).collect();
            if let Some(value) = take(&mut body, &steps) {
                args.insert(name.clone(), value);
            }
        }
        if body.as_map().is_none() {
            return unfit("egress.body", "send a JSON object");
        }
        if body != Value::empty() {
            leftovers(&body, String::new(), args);
        }
        Ok(())
    }

    /// Every argument is of its kind and satisfies what is stated about it.
    fn check(&self, args: &Args) -> Result<(), Unfit> {
        for (name, arg) in &self.args {
            let Some(value) = args.get(name) else { continue };
            let fits = match (arg.list, value) {
                (true, Value::List(items)) => items.iter().all(|item| arg.kind.fits(item)),
                (true, _) => false,
                (false, value) => arg.kind.fits(value),
            };
            if !fits {
                return mistyped(name, arg.kind);
            }
            if !arg.must.admits(value) {
                return unfit(
                    "egress.argument",
                    format!("argument `{name}` is outside what its rule admits"),
                );
            }
        }
        Ok(())
    }

    fn write_path(&self, args: &Args, out: &mut String) -> Result<(), Unfit> {
        const KEEP: &[u8] = b"!$'()*+,=:@&";
        for piece in &self.path {
            let word = match piece {
                Piece::Word(word) => {
                    out.push('/');
                    encoded(word, KEEP, out);
                    continue;
                }
                Piece::Hole(name) | Piece::Rest(name) => match args.get(name).and_then(Value::spelled) {
                    Some(_) => args.get(name).map(plain).unwrap_or_default(),
                    None => return unfit("egress.argument", format!("argument `{name}` is missing")),
                },
            };
            for segment in word.split('/') {
                out.push('/');
                encoded(segment, KEEP, out);
            }
        }
        if self.path.is_empty() && out.is_empty() {
            out.push('/');
        }
        Ok(())
    }

    fn write_query(&self, args: &Args, out: &mut String) {
        let mut pairs: Vec<(String, String)> = self.constants.clone();
        for (name, arg) in &self.args {
            if let (Place::Query(key), Some(value)) = (&arg.place, args.get(name)) {
                pairs.extend(spread(value).map(|text| (key.clone(), text)));
            }
        }
        if !pairs.is_empty() {
            out.push('?');
            out.push_str(&form(&pairs));
        }
    }

    fn write_headers(&self, args: &Args, out: &mut HeaderMap) -> Result<(), Unfit> {
        for (name, arg) in &self.args {
            let (Place::Header(header), Some(value)) = (&arg.place, args.get(name)) else { continue };
            let header = HeaderName::try_from(header.to_ascii_lowercase()).ok();
            match (header, HeaderValue::from_str(&plain(value)).ok()) {
                (Some(header), Some(value)) => _ = out.insert(header, value),
                _ => return unfit("egress.header", format!("argument `{name}` cannot stand in a header")),
            }
        }
        Ok(())
    }

    fn write_body(&self, args: &Args) -> Option<Vec<u8>> {
        let ats = self.args.iter().filter_map(|(name, arg)| match &arg.place {
            Place::Body(at) => Some((at.as_str(), args.get(name)?)),
            _ => None,
        });
        let mut ats: Vec<(&str, &Value)> = ats.collect();
        match self.body {
            BodyForm::None => None,
            BodyForm::Text => ats.pop().map(|(_, value)| plain(value).into_bytes()),
            BodyForm::Form => {
                let pairs =
                    ats.iter().flat_map(|(at, value)| spread(value).map(|text| ((*at).to_owned(), text)));
                Some(form(&pairs.collect::<Vec<_>>()).into_bytes())
            }
            BodyForm::Json => {
                let mut body = Value::empty();
                for (at, value) in ats {
                    put(&mut body, &at.split('/').skip(1).collect::<Vec<_>>(), value.clone());
                }
                Some(body.canonical().into_bytes())
            }
        }
    }
}

/// Whether two templates take the same paths but for the types of their arguments.
fn same_shape(a: &[Piece], b: &[Piece]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|pair| match pair {
            (Piece::Word(a), Piece::Word(b)) => a == b,
            (Piece::Hole(_), Piece::Hole(_)) | (Piece::Rest(_), Piece::Rest(_)) => true,
            _ => false,
        })
}

fn mistyped<T>(name: &str, kind: Kind) -> Result<T, Unfit> {
    unfit("egress.argument", format!("argument `{name}` must be of type `{}`", kind.as_str()))
}

/// A scalar as it stands in a path, a query or a header: text as it is, the rest in its one spelling.
fn plain(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => other.spelled().unwrap_or_default(),
    }
}

/// The values under one key.
fn spread(value: &Value) -> Box<dyn Iterator<Item = String> + '_> {
    match value {
        Value::List(items) => Box::new(items.iter().map(plain)),
        one => Box::new(std::iter::once(plain(one))),
    }
}

/// One pair of a query.
pub(crate) fn pair(key: &str, value: &str) -> String {
    form(&[(key.to_owned(), value.to_owned())])
}

fn form(pairs: &[(String, String)]) -> String {
    let mut out = String::new();
    for (key, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        encoded(key, b"", &mut out);
        out.push('=');
        encoded(value, b"", &mut out);
    }
    out
}

/// Takes a member out of nested objects, and the objects that are empty without it.
fn take(body: &mut Value, steps: &[&str]) -> Option<Value> {
    let (first, rest) = steps.split_first()?;
    let Value::Map(members) = body else { return None };
    if rest.is_empty() {
        return members.remove(*first);
    }
    let inner = members.get_mut(*first)?;
    let taken = take(inner, rest)?;
    if *inner == Value::empty() {
        members.remove(*first);
    }
    Some(taken)
}

/// Puts a member into nested objects. No two places lie inside one another, so nothing is ever replaced.
fn put(body: &mut Value, steps: &[&str], value: Value) {
    match (steps.split_first(), body) {
        (None, body) => *body = value,
        (Some((first, rest)), Value::Map(members)) => {
            put(members.entry((*first).to_owned()).or_insert_with(Value::empty), rest, value);
        }
        (Some(_), _) => {}
    }
}

/// Members that no argument declares, by their pointer.
fn leftovers(body: &Value, at: String, args: &mut Args) {
    match body {
        Value::Map(members) if !members.is_empty() => {
            for (name, value) in members {
                leftovers(value, format!("{at}/{name}"), args);
            }
        }
        other => _ = args.insert(if at.is_empty() { "/".to_owned() } else { at }, other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::address::Guard;
    use super::super::spec::{ActionSpec, AnswerSpec, ApiSpec, ArgSpec};
    use super::*;
    use bailiwick_core::{SystemId, ToolId};
    use proptest::prelude::*;

    /// Made once: a TLS client takes its time to be made.
    fn api() -> &'static Api {
        static API: std::sync::LazyLock<Api> = std::sync::LazyLock::new(example);
        &API
    }

    fn example() -> Api {
        let arg = |place, kind, list| ArgSpec { kind, list, ..ArgSpec::new(place) };
        let path = |kind| arg(Place::Path, kind, false);
        let query = |key: &str, kind, list| arg(Place::Query(key.into()), kind, list);
        let body = |at: &str, kind, list| arg(Place::Body(at.into()), kind, list);
        let mut spec = ApiSpec::new(SystemId::parse("x").unwrap(), "https://x.example/base/v1");
        spec.actions = vec![
            rule("me", "GET /users/me", BodyForm::None, vec![]),
            rule("user", "GET /users/{id}", BodyForm::None, vec![("id", path(Kind::Text))]),
            rule("files", "GET /files/{path...}", BodyForm::None, vec![("path", path(Kind::Text))]),
            rule(
                "find",
                "GET /find?v=1",
                BodyForm::None,
                vec![("q", query("q", Kind::Text, false)), ("n", query("n[]", Kind::Integer, true))],
            ),
            rule(
                "write",
                "PUT /docs/{id}",
                BodyForm::Json,
                vec![
                    ("id", path(Kind::Integer)),
                    ("title", body("/doc/title", Kind::Text, false)),
                    ("meta", body("/doc/meta", Kind::Json, false)),
                    ("tags", body("/tags", Kind::Text, true)),
                ],
            ),
            rule("form", "POST /form", BodyForm::Form, vec![("ab", body("a b", Kind::Text, false))]),
            rule("raw", "POST /raw", BodyForm::Text, vec![("text", body("", Kind::Text, false))]),
            rule("any", "POST /any", BodyForm::Json, vec![("all", body("", Kind::Json, false))]),
        ];
        Api::compile(spec, Guard::system()).unwrap()
    }

    fn rule(name: &str, request: &str, body: BodyForm, args: Vec<(&str, ArgSpec)>) -> ActionSpec {
        ActionSpec {
            tool: ToolId::parse(&format!("x.{name}")).unwrap(),
            request: request.to_owned(),
            body,
            args: args.into_iter().map(|(name, arg)| (name.to_owned(), arg)).collect(),
            answer: AnswerSpec::default(),
        }
    }

    fn get(target: &str) -> Inbound {
        Inbound {
            method: Method::GET,
            target: target.to_owned(),
            headers: HeaderMap::new(),
            body: Vec::new(),
        }
    }

    fn sent(method: &Method, target: &str, media: &'static str, body: Vec<u8>) -> Inbound {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        Inbound { method: method.clone(), target: target.to_owned(), headers, body }
    }

    /// The plan for what was read, and the arguments.
    fn planned(api: &Api, request: &Inbound) -> Result<(Plan, Value), Unfit> {
        let (action, args) = api.read(request)?;
        Ok((api.plan(action, &args)?, args))
    }

    #[test]
    fn what_is_named_wins_over_what_is_open_however_it_is_spelled() {
        let api = api();
        for (target, tool) in
            [("/base/v1/users/me", "x.me"), ("/base/v1/users/%6de", "x.me"), ("/base/v1/users/mo", "x.user")]
        {
            let found = api.read(&get(target)).map(|(action, _)| action.tool.to_string());
            assert_eq!(found, Ok(tool.to_owned()), "{target}");
        }
        assert_eq!(planned(api, &get("/base/v1/users/%6d%6f")).unwrap().0.target, "/base/v1/users/mo");
        for bad in ["/users/me", "/base/users/me", "/base/v1x/users/me", "/base%2fv1/users/me", "/base/v1"] {
            assert!(api.read(&get(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn of_rules_that_differ_in_their_query_the_stated_one_is_taken() {
        let rule = |name: &str, request: &str| rule(name, request, BodyForm::None, vec![]);
        let mut spec = ApiSpec::new(SystemId::parse("x").unwrap(), "https://x.example");
        spec.actions = vec![rule("a", "GET /r?t=a"), rule("b", "GET /r?t=b")];
        let two = Api::compile(spec.clone(), Guard::system()).unwrap();
        let tool = |api: &Api, target: &str| api.read(&get(target)).ok().map(|(a, _)| a.tool.to_string());
        assert_eq!(tool(&two, "/r?t=b").as_deref(), Some("x.b"));
        assert_eq!(tool(&two, "/r"), None, "neither is guessed");
        assert_eq!(tool(&two, "/r?t=c"), None);
        spec.actions.push(rule("plain", "GET /r"));
        let three = Api::compile(spec, Guard::system()).unwrap();
        assert_eq!(tool(&three, "/r").as_deref(), Some("x.plain"));
        assert_eq!(tool(&three, "/r?t=a").as_deref(), Some("x.a"));
    }

    // Hole names do not sort shapes apart, so rules of one shape stand beside each other.
    #[test]
    fn names_of_arguments_do_not_decide_between_rules() {
        let path = |name: &'static str| vec![(name, ArgSpec::new(Place::Path))];
        let mut spec = ApiSpec::new(SystemId::parse("x").unwrap(), "https://x.example");
        spec.actions = vec![
            rule("a", "GET /r/{id}?t=a", BodyForm::None, path("id")),
            rule("b", "GET /r/{name}?t=b", BodyForm::None, path("name")),
        ];
        let api = Api::compile(spec, Guard::system()).unwrap();
        assert!(api.read(&get("/r/7")).is_err(), "neither is guessed");
        assert_eq!(api.read(&get("/r/7?t=b")).unwrap().0.tool.as_str(), "x.b");
    }

    /// Text made of what attacks on paths are made of.
    fn nasty() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/",
            "..",
            ".",
            "%2e",
            "%2E",
            "%2f",
            "%5c",
            "\\",
            "%25",
            "%252e",
            "%00",
            "%c0%ae",
            "%ef%bc%8e",
            ";",
            "%3b",
            "?",
            "&",
            "=",
            "#",
            "%0d%0a",
            "+",
            "%20",
            "a",
            "me",
            "users",
            "files",
            "find",
            "q",
            "%zz",
            "%",
            "base",
            "v1",
            "é",
            "@",
            ":",
            "//",
            "%2e%2e%2f",
            "n[]",
            "1",
        ]);
        prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            "[a-z/~\\\\.é\"]{0,6}".prop_map(Value::Text),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::btree_map("(doc|title|meta|tags|x|__proto__|)", inner, 0..4)
                    .prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        // proves: INV9, X3
        #[test]
        fn whatever_path_comes_in_what_goes_out_has_one_reading(
            start in prop::sample::select(vec!["/base/v1/users/", "/base/v1/files/", "/base/v1/find?", "/base/v1/", "/", ""]),
            tail in nasty(),
        ) {
            let api = api();
            if let Ok((plan, args)) = planned(api, &get(&format!("{start}{tail}"))) {
                let path = plan.target.split('?').next().unwrap_or("").to_ascii_lowercase();
                prop_assert!(path.starts_with("/base/v1/") && !path.contains("//"), "{}", plan.target);
                prop_assert!(path.split('/').all(|s| s != "." && s != ".."), "{}", plan.target);
                for hidden in ["%2e", "%2f", "%5c", "%25", "%3b", "%3f", "%23", "%0", ";", "\\"] {
                    prop_assert!(!path.contains(hidden), "{}", plan.target);
                }
                // Any URL parser leaves it as it is, and reading it again changes nothing.
                let whole = format!("https://x.example{}", plan.target);
                let url = reqwest::Url::parse(&whole).unwrap();
                prop_assert_eq!(url.as_str(), whole.as_str());
                let again = planned(api, &get(&plan.target)).unwrap();
                prop_assert_eq!((again.0.target, again.1), (plan.target, args));
            }
        }

        // proves: INV9
        #[test]
        fn whatever_text_is_meant_arrives(
            q in ".{0,20}",
            n in prop::collection::vec(any::<i64>(), 1..4),
            id in "[a-zA-Z0-9 :@,$é&=+!'()*~_-]{1,12}",
        ) {
            let api = api();
            let find = api.action(&ToolId::parse("x.find").unwrap()).unwrap();
            let list = Value::List(n.into_iter().map(Value::Int).collect());
            let args = Value::from([("q", Value::from(q.as_str())), ("n", list)]);
            match api.plan(find, &args) {
                Ok(plan) => prop_assert_eq!(planned(api, &get(&plan.target)).unwrap().1, args),
                Err(_) => prop_assert!(q.contains('\0') || q.len() > 2_000),
            }
            let user = api.action(&ToolId::parse("x.user").unwrap()).unwrap();
            let args = Value::from([("id", Value::from(id.as_str()))]);
            match api.plan(user, &args) {
                Ok(plan) => prop_assert_eq!(planned(api, &get(&plan.target)).unwrap().1, args),
                // The name of another rule cannot be meant, and blanks alone are nothing.
                Err(_) => prop_assert!(id == "me" || id.trim().is_empty(), "{}", id),
            }
        }

        // proves: INV9, INV6
        #[test]
        fn whatever_body_comes_in_what_goes_out_is_the_same_document_or_nothing(body in any_value()) {
            let api = api();
            let bytes = body.canonical().into_bytes();
            let request = sent(&Method::PUT, "/base/v1/docs/7", "application/json", bytes.clone());
            if let Ok((plan, _)) = planned(api, &request) {
                prop_assert_eq!(Value::parse(&plan.body.unwrap()).unwrap(), body.clone());
            }
            let whole = sent(&Method::POST, "/base/v1/any", "application/json", bytes);
            let (plan, args) = planned(api, &whole).unwrap();
            prop_assert_eq!(args.get("all"), Some(&body));
            prop_assert_eq!(Value::parse(&plan.body.unwrap()).unwrap(), body);
        }

        // proves: A22
        #[test]
        fn no_bytes_make_it_panic(
            target in "[ -~]{0,60}",
            body in prop::collection::vec(any::<u8>(), 0..80),
            media in prop::sample::select(vec!["application/json", "application/x-www-form-urlencoded", "text/plain", "x/y", ""]),
        ) {
            let api = api();
            let ats = [(Method::PUT, "/base/v1/docs/7"), (Method::POST, "/base/v1/form"), (Method::POST, "/base/v1/raw"), (Method::POST, "/base/v1/any")];
            for (method, at) in ats {
                let _ = planned(api, &sent(&method, at, media, body.clone()));
                let _ = planned(api, &sent(&method, &target, media, body.clone()));
            }
        }
    }
}
