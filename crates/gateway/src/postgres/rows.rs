//! What a statement gives: counted, measured, and read into values as far as their types are plain.

use bailiwick_api::{Outcome, OutcomeStatus};
use bailiwick_core::Value;
use std::collections::BTreeMap;

use super::server::{state_of, words_of};
use super::wire::{BadWire, Bind, Fields, Frame, Out};

/// OIDs of built-in types (`pg_type.dat`) that are read as what they are.
const BOOL: u32 = 16;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
/// `text`, `varchar`, `bpchar`, `name`, `json`, and a literal of no type yet.
const TEXTS: [u32; 6] = [25, 1043, 1042, 19, 114, 705];
/// Longest value of another type that is told, in bytes.
const BINARY_MAX: usize = 64;

/// The columns of a result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shape(Vec<(String, u32, i16)>);

impl Shape {
    /// From a row description, or from the message that there are no rows.
    pub(crate) fn of(frame: &Frame) -> Result<Self, BadWire> {
        if frame.tag != b'T' {
            return Ok(Shape::default());
        }
        let mut fields = Fields::of(&frame.body);
        let count = fields.count()?;
        let mut columns = Vec::new();
        for _ in 0..count {
            let name = fields.text()?.to_owned();
            fields.long()?;
            fields.short()?;
            let of = fields.long()?.cast_unsigned();
            fields.short()?;
            fields.long()?;
            columns.push((name, of, fields.short()?));
        }
        fields.end()?;
        Ok(Shape(columns))
    }

    /// With the formats that a client asked for: none is text, one is for all.
    pub(crate) fn with_formats(&self, formats: &[i16]) -> Self {
        let format = |n: usize| match formats {
            [] => 0,
            [all] => *all,
            each => each.get(n).copied().unwrap_or(0),
        };
        Shape(self.0.iter().enumerate().map(|(n, (name, of, _))| (name.clone(), *of, format(n))).collect())
    }

    fn row(&self, frame: &Frame) -> Result<Value, BadWire> {
        let mut fields = Fields::of(&frame.body);
        let count = fields.count()?;
        let mut row = BTreeMap::new();
        for n in 0..count {
            let bytes = fields.value()?;
            let (name, of, format) = self.0.get(n).cloned().unwrap_or_else(|| (n.to_string(), 0, 0));
            let value = bytes.map_or(Value::Null, |bytes| value(of, format, bytes));
            // Two columns may have one name; neither is lost.
            let name = if row.contains_key(&name) { format!("{name}#{n}") } else { name };
            row.insert(name, value);
        }
        fields.end()?;
        Ok(Value::Map(row))
    }
}

/// The types of a prepared statement's parameters.
pub(crate) fn params(frame: &Frame) -> Result<Vec<u32>, BadWire> {
    let mut fields = Fields::of(&frame.body);
    let count = fields.count()?;
    let types = (0..count).map(|_| fields.long().map(i32::cast_unsigned)).collect::<Result<_, _>>()?;
    fields.end()?;
    Ok(types)
}

/// A parameter's value, by its number from 1.
pub(crate) fn given(number: usize, params: &[u32], bind: &Bind) -> Value {
    let n = number.saturating_sub(1);
    let format = match bind.formats.as_slice() {
        [] => 0,
        [all] => *all,
        each => each.get(n).copied().unwrap_or(0),
    };
    let of = params.get(n).copied().unwrap_or(0);
    match bind.values.get(n) {
        Some(Some(bytes)) => value(of, format, bytes),
        _ => Value::Null,
    }
}

/// A value in text (format 0) or in binary.
fn value(of: u32, format: i16, bytes: &[u8]) -> Value {
    let whole = |n: Option<i64>| n.map_or_else(|| coded(bytes), Value::Int);
    if format == 0 || TEXTS.contains(&of) {
        let Ok(text) = std::str::from_utf8(bytes) else { return coded(bytes) };
        return match of {
            INT2 | INT4 | INT8 => text.trim().parse().map_or_else(|_| Value::from(text), Value::Int),
            BOOL if text == "t" => Value::Bool(true),
            BOOL if text == "f" => Value::Bool(false),
            _ => Value::from(text),
        };
    }
    match of {
        BOOL => Value::Bool(bytes != [0]),
        INT2 => whole(bytes.try_into().ok().map(|b| i64::from(i16::from_be_bytes(b)))),
        INT4 => whole(bytes.try_into().ok().map(|b| i64::from(i32::from_be_bytes(b)))),
        INT8 => whole(bytes.try_into().ok().map(i64::from_be_bytes)),
        _ => coded(bytes),
    }
}

/// Bytes that are not read any further: their beginning, in hexadecimal.
fn coded(bytes: &[u8]) -> Value {
    let told: String = bytes.iter().take(BINARY_MAX).map(|b| format!("{b:02x}")).collect();
    let rest = if bytes.len() > BINARY_MAX { format!("… ({} bytes)", bytes.len()) } else { String::new() };
    Value::Text(format!("\\x{told}{rest}"))
}

/// What a statement gave, held back until it is accounted for.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    frames: Vec<Frame>,
    rows: Vec<Value>,
    bytes: usize,
    too_large: bool,
    end: Option<Frame>,
}

impl Taken {
    pub(crate) fn row(&mut self, shape: &Shape, frame: Frame) -> Result<(), BadWire> {
        if self.too_large {
            return Ok(());
        }
        self.rows.push(shape.row(&frame)?);
        self.bytes += frame.body.len();
        self.frames.push(frame);
        Ok(())
    }
    pub(crate) fn too_large(&mut self) {
        self.too_large = true;
        self.frames.clear();
        self.rows.clear();
    }
    pub(crate) fn is_too_large(&self) -> bool {
        self.too_large
    }
    pub(crate) fn end(&mut self, frame: Frame) {
        self.end = Some(frame);
    }
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.frames.len()).unwrap_or(u32::MAX)
    }
    pub(crate) fn error(&self) -> Option<&Frame> {
        self.end.as_ref().filter(|frame| frame.tag == b'E')
    }

    /// What is recorded of it. Rows count as the records of the result.
    pub(crate) fn outcome(&self, in_transaction: bool) -> Outcome {
        let bytes = self.bytes as u64;
        if self.too_large {
            let note = Some("sql.result_too_large".to_owned());
            return Outcome { status: OutcomeStatus::Unknown, result: None, bytes, words: Vec::new(), note };
        }
        if let Some(error) = self.error() {
            let note = Some(format!("SQLSTATE {}", state_of(error)));
            return Outcome {
                status: OutcomeStatus::Failed,
                result: None,
                bytes: 0,
                words: words_of(error),
                note,
            };
        }
        let note = in_transaction.then(|| "inside a transaction, which decides whether it stays".to_owned());
        let result = Some(Value::List(self.rows.clone()));
        Outcome { status: OutcomeStatus::Done, result, bytes, words: Vec::new(), note }
    }

    /// Writes it for the client. A result that was fetched in pieces is told as one.
    pub(crate) fn write(self, out: &mut Out) {
        let count = self.frames.len();
        self.frames.iter().for_each(|frame| out.frame(frame));
        match self.end {
            Some(end) if end.tag == b'C' && end.body.starts_with(b"SELECT ") => {
                out.complete(&format!("SELECT {count}"));
            }
            Some(end) => out.frame(&end),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_both_formats() {
        assert_eq!(value(INT4, 0, b"7"), Value::Int(7));
        assert_eq!(value(INT4, 1, &7_i32.to_be_bytes()), Value::Int(7));
        assert_eq!(value(INT8, 1, &[1]), Value::from("\\x01"));
        assert_eq!(value(25, 1, b"x"), Value::from("x"));
        assert_eq!(value(17, 1, &[0xab; 80]).as_text().map(|t| t.contains("(80 bytes)")), Some(true));
        assert_eq!(value(BOOL, 0, b"t"), Value::Bool(true));
    }
}
