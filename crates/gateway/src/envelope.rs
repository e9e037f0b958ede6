//! JSON-RPC 2.0 envelopes, read strictly and once.
//!
//! What a client sends becomes a [`Message`] whose parameters are core [`Value`]s: no duplicate keys, no
//! lossy numbers, no batches, one message. What goes on is printed from that value (INV9), never copied
//! from the client's bytes. What a tool server sends is read more gently by [`Reply`], because an answer
//! that fails the strict reading may still be shown to the agent; it then carries no structured result.

use bailiwick_core::Value;
use bailiwick_core::value::{BYTES_MAX, DEPTH_MAX};
use std::collections::BTreeMap;
use std::fmt;

/// Longest request id that is echoed back, in bytes.
pub const ID_BYTES_MAX: usize = 256;
/// Longest method name, in bytes.
pub const METHOD_BYTES_MAX: usize = 128;

/// A request id: text or a whole number (MCP 2026-07-28, basic, "Requests").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RpcId {
    /// A number.
    Number(i64),
    /// Text.
    Text(String),
}

impl From<RpcId> for Value {
    fn from(id: RpcId) -> Value {
        match id {
            RpcId::Number(n) => Value::Int(n),
            RpcId::Text(text) => Value::Text(text),
        }
    }
}

impl fmt::Display for RpcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Value::from(self.clone()).canonical())
    }
}

/// One message from a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Wants an answer.
    Request(Request),
    /// Wants none.
    Notification {
        /// The method.
        method: String,
        /// The parameters; an empty object when absent.
        params: Value,
    },
    /// An answer to something the server asked. The gateway asks nothing, so these go nowhere.
    Response,
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The id, echoed in the answer.
    pub id: RpcId,
    /// The method.
    pub method: String,
    /// The parameters, always an object; empty when absent.
    pub params: Value,
}

impl Request {
    /// The `_meta` member of the parameters.
    pub fn meta(&self, key: &str) -> Option<&Value> {
        self.params.get("_meta")?.get(key)
    }
}

/// Why bytes are not a message we take. The id is given when it could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadMessage {
    /// JSON-RPC error code: −32700 or −32600.
    pub rpc: i64,
    /// Stable code, such as `rpc.batch`.
    pub code: &'static str,
    /// Why, for the client.
    pub message: String,
    /// The request's id, if it had a readable one.
    pub id: Option<RpcId>,
}

impl BadMessage {
    /// Stable code for API and audit.
    pub fn code(&self) -> &'static str {
        self.code
    }

    fn invalid(code: &'static str, message: &str, id: Option<RpcId>) -> Self {
        BadMessage { rpc: codes::INVALID_REQUEST, code, message: message.to_owned(), id }
    }
}

/// JSON-RPC error codes in use.
pub mod codes {
    /// Not JSON, or JSON with a trap in it.
    pub const PARSE: i64 = -32700;
    /// JSON, but no JSON-RPC message we take.
    pub const INVALID_REQUEST: i64 = -32600;
    /// No such method here.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// Parameters of the wrong shape.
    pub const INVALID_PARAMS: i64 = -32602;
    /// The control plane or a tool server could not be asked.
    pub const INTERNAL: i64 = -32603;
    /// Refused (AuthZEN COAZ-MCP binding).
    pub const DENIED: i64 = -32001;
    /// Header and body disagree (MCP 2026-07-28).
    pub const HEADER_MISMATCH: i64 = -32020;
    /// The protocol revision is not served (MCP 2026-07-28).
    pub const UNSUPPORTED_VERSION: i64 = -32022;
}

impl Message {
    /// Reads one message from a client's bytes: at most 1 MiB, at most 64 deep, no batch.
    pub fn parse(bytes: &[u8]) -> Result<Message, BadMessage> {
        let value = Value::parse(bytes).map_err(|e| BadMessage {
            rpc: codes::PARSE,
            code: e.code(),
            message: e.to_string(),
            id: None,
        })?;
        Message::from_value(value)
    }

    /// Reads one message from a value that was parsed already.
    pub fn from_value(value: Value) -> Result<Message, BadMessage> {
        let mut members = match value {
            Value::Map(members) => members,
            Value::List(_) => {
                let why = "a batch is not served: send one message per request";
                return Err(BadMessage::invalid("rpc.batch", why, None));
            }
            _ => return Err(BadMessage::invalid("rpc.malformed", "a message is a JSON object", None)),
        };
        let id = read_id(members.remove("id"))?;
        let bad = |why: &str| Err(BadMessage::invalid("rpc.malformed", why, id.clone()));
        if members.remove("jsonrpc").as_ref().and_then(Value::as_text) != Some("2.0") {
            return bad("`jsonrpc` must be \"2.0\"");
        }
        let answers = members.contains_key("result") || members.contains_key("error");
        let method = match members.remove("method") {
            Some(Value::Text(_)) if answers => return bad("a message is a request or an answer, not both"),
            Some(Value::Text(method)) if is_method(&method) => method,
            None if answers => return Ok(Message::Response),
            _ => return bad("`method` must be the printable name of a method"),
        };
        let params = match members.remove("params") {
            None => Value::empty(),
            Some(params @ Value::Map(_)) => params,
            Some(_) => return bad("`params` must be an object"),
        };
        if let Some(extra) = members.keys().next() {
            let extra: String = extra.chars().take(32).flat_map(char::escape_default).collect();
            return bad(&format!("unknown member `{extra}` in the envelope"));
        }
        Ok(match id {
            Some(id) => Message::Request(Request { id, method, params }),
            None => Message::Notification { method, params },
        })
    }
}

fn read_id(id: Option<Value>) -> Result<Option<RpcId>, BadMessage> {
    match id {
        None => Ok(None),
        Some(Value::Int(n)) => Ok(Some(RpcId::Number(n))),
        Some(Value::Text(text)) if text.len() <= ID_BYTES_MAX => Ok(Some(RpcId::Text(text))),
        Some(_) => {
            let why = "`id` must be a whole number or text of at most 256 bytes";
            Err(BadMessage::invalid("rpc.bad_id", why, None))
        }
    }
}

fn is_method(text: &str) -> bool {
    (1..=METHOD_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Prints a result for a client.
pub fn result(id: &RpcId, result: &Value) -> String {
    format!("{{\"id\":{id},\"jsonrpc\":\"2.0\",\"result\":{}}}", result.canonical())
}

/// Prints a request. `params` must be an object.
pub fn request(id: i64, method: &str, params: &Value) -> String {
    let method = Value::from(method).canonical();
    format!("{{\"id\":{id},\"jsonrpc\":\"2.0\",\"method\":{method},\"params\":{}}}", params.canonical())
}

/// Prints a notification. `params` must be an object.
pub fn notification(method: &str, params: &Value) -> String {
    let method = Value::from(method).canonical();
    format!("{{\"jsonrpc\":\"2.0\",\"method\":{method},\"params\":{}}}", params.canonical())
}

/// Prints an error. Without an id the member is left out, as the MCP schemas of both generations want.
pub fn error(id: Option<&RpcId>, code: i64, message: &str, data: Option<&Value>) -> String {
    let mut error =
        BTreeMap::from([("code".to_owned(), Value::Int(code)), ("message".to_owned(), Value::from(message))]);
    if let Some(data) = data {
        error.insert("data".to_owned(), data.clone());
    }
    let error = Value::Map(error).canonical();
    match id {
        Some(id) => format!("{{\"error\":{error},\"id\":{id},\"jsonrpc\":\"2.0\"}}"),
        None => format!("{{\"error\":{error},\"jsonrpc\":\"2.0\"}}"),
    }
}

/// How deep a value is nested; scalars count zero.
pub fn depth(value: &Value) -> usize {
    match value {
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// One message from a tool server.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// A result to one of our requests.
    Result {
        /// Our id.
        id: i64,
        /// The result object.
        body: Body,
    },
    /// An error to one of our requests.
    Error {
        /// Our id.
        id: i64,
        /// The JSON-RPC code.
        code: i64,
        /// The server's words, capped; untrusted.
        message: String,
        /// The `data` member, if it was clean JSON.
        data: Option<Value>,
    },
    /// A request of the server to us.
    Request {
        /// The server's id, printed back as it came.
        id: RpcId,
        /// The method.
        method: String,
    },
    /// A notification.
    Notification {
        /// The method.
        method: String,
    },
}

/// A result object as a tool server sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct Body {
    /// The result: always an object, printed one way.
    pub value: Value,
    /// False if the bytes had a trap (a duplicate key, a lossy number): the value is then a reading fit to
    /// be shown, not to be judged.
    pub strict: bool,
    /// Bytes of the message it came in.
    pub bytes: usize,
}

impl Body {
    /// The structured result for the record: `structuredContent`, or the one text item that is JSON; only
    /// of a strict reading and within the caps of a value (1 MiB, 64 deep).
    pub fn structured(&self) -> Option<Value> {
        if !self.strict || self.bytes > BYTES_MAX {
            return None;
        }
        let found = match self.value.get("structuredContent") {
            Some(structured) => structured.clone(),
            None => match self.value.get("content")?.as_list()? {
                [only] => Value::parse(only.get("text")?.as_text()?.as_bytes()).ok()?,
                _ => return None,
            },
        };
        (depth(&found) <= DEPTH_MAX).then_some(found)
    }

    /// Every text in it that `structured` does not hold: an agent reads them all.
    pub fn words(&self, structured: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        let members = self.value.as_map().into_iter().flatten();
        // What is given as structure is there as `structured`, or it was not clean enough to be.
        let beside = members.filter(|(name, _)| structured.is_none() || name.as_str() != "structuredContent");
        beside.for_each(|(_, value)| texts(value, &mut out));
        out
    }
}

fn texts(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Text(text) => out.push(text.clone()),
        Value::List(items) => items.iter().for_each(|item| texts(item, out)),
        Value::Map(map) => map.values().for_each(|item| texts(item, out)),
        _ => {}
    }
}

/// Longest error text of a tool server that is passed on, in bytes.
pub const ERROR_TEXT_MAX: usize = 4096;

impl Reply {
    /// Reads one message from a tool server. `None` for what is no JSON-RPC message: the caller counts
    /// those and goes on.
    pub fn parse(bytes: &[u8]) -> Option<Reply> {
        let (value, strict) = match serde_json::from_slice::<Value>(bytes) {
            Ok(value) => (value, true),
            Err(_) => (loose(serde_json::from_slice(bytes).ok()?), false),
        };
        let Value::Map(mut members) = value else { return None };
        if members.get("jsonrpc").and_then(Value::as_text) != Some("2.0") {
            return None;
        }
        if let Some(Value::Text(method)) = members.remove("method") {
            return match read_id(members.remove("id")).ok()? {
                Some(id) => Some(Reply::Request { id, method }),
                None => Some(Reply::Notification { method }),
            };
        }
        let Some(Value::Int(id)) = members.remove("id") else { return None };
        if let Some(error) = members.remove("error") {
            return read_error(id, error, strict);
        }
        let value = members.remove("result").filter(|result| result.as_map().is_some())?;
        Some(Reply::Result { id, body: Body { value, strict, bytes: bytes.len() } })
    }
}

fn read_error(id: i64, error: Value, strict: bool) -> Option<Reply> {
    let Some(Value::Int(code)) = error.get("code") else { return None };
    let message = cut(error.get("message").and_then(Value::as_text).unwrap_or(""), ERROR_TEXT_MAX).to_owned();
    let data = error.get("data").filter(|_| strict).cloned();
    Some(Reply::Error { id, code: *code, message, data })
}

/// The longest beginning of `text` of at most `max` bytes that ends between two characters.
pub fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
}

/// A reading of JSON that the strict parser refused: the last of two equal keys, numbers that cannot be
/// kept exactly as text.
fn loose(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::Bool(b),
        serde_json::Value::Number(n) => {
            Value::parse(n.to_string().as_bytes()).unwrap_or_else(|_| Value::Text(n.to_string()))
        }
        serde_json::Value::String(text) => Value::Text(text),
        serde_json::Value::Array(items) => Value::List(items.into_iter().map(loose).collect()),
        serde_json::Value::Object(members) => {
            Value::Map(members.into_iter().map(|(k, v)| (k, loose(v))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(json: &str) -> &'static str {
        Message::parse(json.as_bytes()).map_or_else(|e| e.code, |_| "ok")
    }

    #[test]
    fn a_client_sends_one_clean_message_at_a_time() {
        let good = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{}}}"#;
        assert_eq!(code(good), "ok");
        assert_eq!(code(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#), "ok");
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":"x","result":{}}"#), "ok");
    }

    // proves: A22
    #[test]
    fn the_traps_of_json_are_refused_with_a_code_each() {
        for (json, want) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#, "json.malformed"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":1,"x":2}}"#, "json.malformed"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":1e400}}"#, "json.malformed"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":-0.0}}"#, "json.malformed"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"a"} {}"#, "json.malformed"),
            ("\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}", "json.malformed"),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"a"}]"#, "rpc.batch"),
            (r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#, "rpc.bad_id"),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"a"}"#, "rpc.bad_id"),
            (r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#, "rpc.malformed"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"a\nb"}"#, "rpc.malformed"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"a","params":[1]}"#, "rpc.malformed"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"a","sudo":true}"#, "rpc.malformed"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"a","result":{}}"#, "rpc.malformed"),
            ("7", "rpc.malformed"),
        ] {
            assert_eq!(code(json), want, "{json}");
        }
        let deep = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"x":{}{}}}}}"#,
            "[".repeat(80),
            "]".repeat(80)
        );
        assert_eq!(code(&deep), "json.too_deep");
        assert_eq!(code(&format!("\"{}\"", "a".repeat(BYTES_MAX))), "json.too_large");
    }

    #[test]
    fn an_answer_with_a_trap_is_shown_but_never_judged() {
        let reply = |json: &str| Reply::parse(json.as_bytes());
        let clean = reply(r#"{"jsonrpc":"2.0","id":7,"result":{"structuredContent":{"a":1}}}"#);
        let Some(Reply::Result { id: 7, body }) = clean else { panic!("{clean:?}") };
        assert_eq!(body.structured(), Some(Value::from([("a", Value::Int(1))])));
        let twice = reply(r#"{"jsonrpc":"2.0","id":7,"result":{"structuredContent":{"a":1,"a":2}}}"#);
        let Some(Reply::Result { body, .. }) = twice else { panic!("{twice:?}") };
        assert!(!body.strict);
        assert_eq!(body.structured(), None);
        assert_eq!(body.value.canonical(), r#"{"structuredContent":{"a":2}}"#);
    }

    #[test]
    fn a_text_item_that_is_json_counts_as_structured_and_prose_does_not() {
        let body = |text: &str| Body {
            value: Value::from([("content", Value::List(vec![Value::from([("text", Value::from(text))])]))]),
            strict: true,
            bytes: 10,
        };
        assert_eq!(body(r#"{"to":"a@b.c"}"#).structured(), Some(Value::from([("to", Value::from("a@b.c"))])));
        assert_eq!(body("sent to a@b.c").structured(), None);
    }

    #[test]
    fn garbage_from_a_server_is_nothing() {
        for json in [
            "",
            "hello",
            "[]",
            "{}",
            r#"{"jsonrpc":"2.0","id":"1","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":3}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":"x"}}"#,
        ] {
            assert_eq!(Reply::parse(json.as_bytes()), None, "{json}");
        }
    }

    proptest! {
        // proves: INV9, A22
        #[test]
        fn no_bytes_make_either_reader_panic_and_what_is_taken_prints_back_equal(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..300),
                r#"\{"jsonrpc":"2.0",("id":("?[0-9a-z]{1,4}"?|null),)?"method":"[a-z/]{0,9}"(,"params":[\{\[]("a":[0-9\-e.]{1,6})?[\}\]])?\}"#
                    .prop_map(String::into_bytes),
            ]
        ) {
            let _ = Reply::parse(&bytes);
            if let Ok(Message::Request(taken)) = Message::parse(&bytes) {
                let RpcId::Number(id) = taken.id.clone() else { return Ok(()) };
                let printed = request(id, &taken.method, &taken.params);
                prop_assert_eq!(Message::parse(printed.as_bytes()), Ok(Message::Request(taken)));
            }
        }
    }
}
