//! Headers that mirror the body (MCP 2026-07-28, streamable HTTP, "Request Metadata").
//!
//! Nothing is ever decided on a header alone: as a server we check that header and body say the same, as a
//! client we print the header from the body. One file holds both directions, so they cannot drift apart.

use bailiwick_core::Value;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

/// Header with the protocol revision.
pub const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// Header with the method.
pub const METHOD: &str = "mcp-method";
/// Header with the tool's, prompt's or resource's name.
pub const NAME: &str = "mcp-name";
/// Header with the session of the older generation.
pub const SESSION: &str = "mcp-session-id";

const SAFE_INT: i64 = (1 << 53) - 1;

/// The value a request's `Mcp-Name` header must have, if the method has one.
pub fn name_of<'a>(method: &str, params: &'a Value) -> Option<&'a str> {
    let key = match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        _ => return None,
    };
    params.get(key)?.as_text()
}

/// Writes a value as a header: as it is, or in the Base64 sentinel form where that would be unsafe.
pub fn encode(text: &str) -> String {
    let plain = text.bytes().all(|b| (0x20..=0x7e).contains(&b) || b == b'\t')
        && text.trim() == text
        && !(text.starts_with("=?base64?") && text.ends_with("?="));
    if plain { text.to_owned() } else { format!("=?base64?{}?=", STANDARD.encode(text)) }
}

/// Reads a header back. `None` if it is no text or breaks the sentinel form.
pub fn decode(header: &str) -> Option<String> {
    match header.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(coded) => String::from_utf8(STANDARD.decode(coded).ok()?).ok(),
        None => Some(header.to_owned()),
    }
}

/// One header of a request as text; an error if it is there more than once or is no text.
pub fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, String> {
    let mut all = headers.get_all(name).iter();
    let Some(first) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(format!("header `{name}` is given more than once"));
    }
    first.to_str().map(Some).map_err(|_| format!("header `{name}` is not plain text"))
}

/// Checks that the standard headers of a 2026-07-28 request agree with its body. The error says which does
/// not, without repeating what it said.
pub fn check(headers: &HeaderMap, version: &str, method: &str, params: &Value) -> Result<(), String> {
    same(headers, PROTOCOL_VERSION, version)?;
    same(headers, METHOD, method)?;
    if let Some(name) = name_of(method, params) {
        same(headers, NAME, name)?;
    }
    Ok(())
}

fn same(headers: &HeaderMap, header: &str, body: &str) -> Result<(), String> {
    let given = single(headers, header)?.ok_or_else(|| format!("header `{header}` is missing"))?;
    let read = if header == NAME { decode(given) } else { Some(given.to_owned()) };
    if read.as_deref() == Some(body) {
        Ok(())
    } else {
        Err(format!("header `{header}` does not match the body"))
    }
}

/// An argument that a tool wants mirrored into a header (`x-mcp-header`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamHeader {
    /// The whole header name, lower case: `mcp-param-…`.
    pub header: String,
    path: Vec<String>,
}

impl ParamHeader {
    /// Finds the annotations of a tool's input schema. An annotation in the wrong place or of the wrong form
    /// makes the definition unfit.
    pub fn of_definition(definition: &Value) -> Result<Vec<Self>, &'static str> {
        let Some(schema) = definition.get("inputSchema") else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        walk(schema, &mut Vec::new(), &mut found)?;
        if found.len() != count(schema) {
            return Err("an `x-mcp-header` annotation stands where it cannot be read");
        }
        let mut names: Vec<&str> = found.iter().map(|p| p.header.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() == found.len() { Ok(found) } else { Err("two arguments share one `x-mcp-header`") }
    }

    /// The header's value for these arguments; `None` when the argument is absent or null.
    pub fn value(&self, args: &Value) -> Option<String> {
        match self.path.iter().try_fold(args, |at, key| at.get(key))? {
            Value::Text(text) => Some(encode(text)),
            Value::Int(n) if n.abs() <= SAFE_INT => Some(n.to_string()),
            Value::Bool(b) => Some(b.to_string()),
            _ => None,
        }
    }

    /// Checks a request's header against its arguments.
    pub fn check(&self, headers: &HeaderMap, args: &Value) -> Result<(), String> {
        let given = single(headers, &self.header)?;
        let wanted = self.value(args);
        let agree = match (given, wanted.as_deref()) {
            (None, None) => true,
            (Some(given), Some(wanted)) => {
                given == wanted
                    || (decode(given).is_some() && decode(given) == decode(wanted))
                    || matches!((given.parse::<f64>(), wanted.parse::<i64>()), (Ok(a), Ok(b)) if a == b as f64)
            }
            _ => false,
        };
        if agree { Ok(()) } else { Err(format!("header `{}` does not match the argument", self.header)) }
    }
}

fn walk(schema: &Value, path: &mut Vec<String>, found: &mut Vec<ParamHeader>) -> Result<(), &'static str> {
    let Some(properties) = schema.get("properties").and_then(Value::as_map) else { return Ok(()) };
    for (key, property) in properties {
        path.push(key.clone());
        if let Some(name) = property.get("x-mcp-header") {
            let name = name.as_text().filter(|n| is_token(n)).ok_or("an `x-mcp-header` is no header name")?;
            let kind = property.get("type").and_then(Value::as_text);
            if !matches!(kind, Some("string" | "integer" | "boolean")) {
                return Err("an `x-mcp-header` stands at an argument that is no text, integer or boolean");
            }
            let header = format!("mcp-param-{}", name.to_ascii_lowercase());
            found.push(ParamHeader { header, path: path.clone() });
        }
        walk(property, path, found)?;
        path.pop();
    }
    Ok(())
}

/// How often the annotation occurs anywhere in the schema, reachable or not.
fn count(schema: &Value) -> usize {
    match schema {
        Value::List(items) => items.iter().map(count).sum(),
        Value::Map(members) => {
            let here = usize::from(members.get("x-mcp-header").is_some_and(|v| v.as_text().is_some()));
            here + members.values().map(count).sum::<usize>()
        }
        _ => 0,
    }
}

fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn value(json: &str) -> Value {
        Value::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn header_and_body_must_say_the_same() {
        let params = value(r#"{"name":"files__read"}"#);
        let good = [(PROTOCOL_VERSION, "2026-07-28"), (METHOD, "tools/call"), (NAME, "files__read")];
        assert_eq!(check(&headers(&good), "2026-07-28", "tools/call", &params), Ok(()));
        for (at, wrong) in [(0, "2025-11-25"), (1, "tools/list"), (2, "files__write"), (2, "FILES__READ")] {
            let mut pairs = good;
            pairs[at].1 = wrong;
            assert!(check(&headers(&pairs), "2026-07-28", "tools/call", &params).is_err(), "{wrong}");
            let fewer: Vec<_> = good.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, p)| *p).collect();
            assert!(check(&headers(&fewer), "2026-07-28", "tools/call", &params).is_err(), "missing {at}");
        }
        let twice = [&good[..], &[(NAME, "files__read")]].concat();
        let map = twice.iter().fold(HeaderMap::new(), |mut map, (n, v)| {
            map.append(HeaderName::try_from(*n).unwrap(), HeaderValue::from_str(v).unwrap());
            map
        });
        assert!(check(&map, "2026-07-28", "tools/call", &params).is_err());
    }

    #[test]
    fn unsafe_values_travel_in_base64_and_come_back() {
        for text in ["us-west1", "Hello, 世界", " padded ", "line1\nline2", "=?base64?literal?=", ""] {
            let coded = encode(text);
            assert!(HeaderValue::from_str(&coded).is_ok(), "{text:?}");
            assert_eq!(decode(&coded).as_deref(), Some(text));
        }
        assert_eq!(encode("Hello, 世界"), "=?base64?SGVsbG8sIOS4lueVjA==?=");
        assert_eq!(decode("=?base64?***?="), None);
    }

    #[test]
    fn a_mirrored_argument_is_found_checked_and_refused_in_odd_places() {
        let tool = value(
            r#"{"inputSchema":{"properties":{"region":{"type":"string","x-mcp-header":"Region"},
                "deep":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}}}}}"#,
        );
        let found = ParamHeader::of_definition(&tool).unwrap();
        let args = value(r#"{"region":"us-west1","deep":{"n":42}}"#);
        let all = |pairs: &[(&str, &str)]| found.iter().all(|p| p.check(&headers(pairs), &args).is_ok());
        assert!(all(&[("mcp-param-region", "us-west1"), ("mcp-param-n", "42.0")]));
        assert!(!all(&[("mcp-param-region", "eu-west1"), ("mcp-param-n", "42")]));
        assert!(!all(&[("mcp-param-region", "us-west1")]));
        for odd in [
            r#"{"inputSchema":{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}}"#,
            r#"{"inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A B"}}}}"#,
            r#"{"inputSchema":{"properties":{"a":{"items":{"type":"string","x-mcp-header":"A"}}}}}"#,
            r#"{"inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}}"#,
        ] {
            assert!(ParamHeader::of_definition(&value(odd)).is_err(), "{odd}");
        }
    }
}
