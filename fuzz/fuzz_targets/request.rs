//! What a client or a tool server sends: the strict reader of values and the reader of envelopes.
//!
//! Whatever is read prints in one way, and that print reads as the same value (INV9). Everything the judgement
//! looks for in a text ends without a panic.
#![no_main]

// By its path: the reader needs the core alone, and the rest of its crate would bring an HTTP stack.
#[path = "../../crates/gateway/src/envelope.rs"]
#[expect(dead_code, reason = "the gateway uses the rest")]
mod envelope;

use bailiwick_core::Value;
use bailiwick_core::origin::{identify, leaves, mentions, scan, steering};
use envelope::{Message, Reply};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = Value::parse(bytes) {
        reads_as_it_prints(&value);
        look_for_origins(&value);
    }
    if let Ok(Message::Request(request)) = Message::parse(bytes) {
        let again = envelope::request(7, &request.method, &request.params);
        let Ok(Message::Request(read)) = Message::parse(again.as_bytes()) else {
            panic!("does not read what it printed: {again}");
        };
        assert_eq!((&read.method, &read.params), (&request.method, &request.params));
    }
    if let Some(Reply::Result { body, .. }) = Reply::parse(bytes) {
        if let Some(structured) = body.structured() {
            reads_as_it_prints(&structured);
        }
    }
});

fn reads_as_it_prints(value: &Value) {
    let printed = value.canonical();
    match Value::parse(printed.as_bytes()) {
        Ok(read) => assert_eq!(&read, value),
        // Escapes may make the print longer than what was read.
        Err(error) => assert_eq!(error.code(), "json.too_large", "{printed}"),
    }
    assert_eq!(Value::parse(printed.as_bytes()).map_or(printed.clone(), |read| read.canonical()), printed);
}

fn look_for_origins(value: &Value) {
    steering(value, None);
    for leaf in leaves(value) {
        identify(&leaf);
        mentions(&leaf);
        scan(&leaf);
    }
}
