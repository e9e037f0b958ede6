//! Messages of PostgreSQL's protocol, version 3: framed with a cap, read strictly, written one way.
//!
//! A message is a tag, a length that counts itself, and a body (PostgreSQL 18 documentation, section 54.7). What does
//! not fit its own length is refused, so no two readers of a message can disagree about it.

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest message of a client, in bytes.
pub(crate) const CLIENT_MAX: usize = 1 << 20;
/// Longest message of a client that has not proved itself yet, in bytes.
pub(crate) const UNPROVEN_MAX: usize = 16 << 10;
/// Longest message of a server, in bytes.
pub(crate) const SERVER_MAX: usize = 16 << 20;

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadWire {
    /// The stream ended or broke.
    #[error("the connection broke off")]
    Gone,
    /// Longer than it may be.
    #[error("a message is longer than {0} bytes")]
    TooLong(usize),
    /// Not a message of the protocol.
    #[error("a message is malformed: {0}")]
    Malformed(&'static str),
}

impl From<std::io::Error> for BadWire {
    fn from(_: std::io::Error) -> Self {
        BadWire::Gone
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// What it is.
    pub(crate) tag: u8,
    /// What follows the length.
    pub(crate) body: Vec<u8>,
}

/// Reads one message of at most `most` bytes.
pub(crate) async fn read_frame<R: AsyncRead + Unpin>(from: &mut R, most: usize) -> Result<Frame, BadWire> {
    let tag = from.read_u8().await?;
    let body = read_body(from, most).await?;
    Ok(Frame { tag, body })
}

/// Reads a length and as many bytes: a message without a tag, as the first of a connection is.
pub(crate) async fn read_body<R: AsyncRead + Unpin>(from: &mut R, most: usize) -> Result<Vec<u8>, BadWire> {
    let length = usize::try_from(from.read_i32().await?).map_err(|_| BadWire::Malformed("its length"))?;
    let length = length.checked_sub(4).ok_or(BadWire::Malformed("its length"))?;
    if length > most {
        return Err(BadWire::TooLong(most));
    }
    let mut body = Vec::new();
    // The room is taken as the bytes come, not as the length says.
    let read = from.take(length as u64).read_to_end(&mut body).await?;
    if read == length { Ok(body) } else { Err(BadWire::Gone) }
}

/// Reads a body's fields in order.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn of(body: &'a [u8]) -> Self {
        Fields(body)
    }
    fn take(&mut self, count: usize) -> Result<&'a [u8], BadWire> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(BadWire::Malformed("it is too short"))?;
        self.0 = rest;
        Ok(taken)
    }
    pub(crate) fn byte(&mut self) -> Result<u8, BadWire> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }
    pub(crate) fn short(&mut self) -> Result<i16, BadWire> {
        let bytes = self.take(2)?.try_into().map_err(|_| BadWire::Malformed("a number"))?;
        Ok(i16::from_be_bytes(bytes))
    }
    pub(crate) fn long(&mut self) -> Result<i32, BadWire> {
        let bytes = self.take(4)?.try_into().map_err(|_| BadWire::Malformed("a number"))?;
        Ok(i32::from_be_bytes(bytes))
    }
    /// How many of something follow.
    pub(crate) fn count(&mut self) -> Result<usize, BadWire> {
        usize::try_from(self.short()?).map_err(|_| BadWire::Malformed("a count"))
    }
    /// A text that ends with a zero byte.
    pub(crate) fn text(&mut self) -> Result<&'a str, BadWire> {
        let end = self.0.iter().position(|b| *b == 0).ok_or(BadWire::Malformed("a text does not end"))?;
        let text = self.take(end)?;
        self.take(1)?;
        std::str::from_utf8(text).map_err(|_| BadWire::Malformed("a text is not UTF-8"))
    }
    /// A value with its length in front; `None` for NULL.
    pub(crate) fn value(&mut self) -> Result<Option<&'a [u8]>, BadWire> {
        match self.long()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| BadWire::Malformed("a length"))?;
                self.take(length).map(Some)
            }
        }
    }
    /// Nothing may follow.
    pub(crate) fn end(self) -> Result<(), BadWire> {
        if self.0.is_empty() { Ok(()) } else { Err(BadWire::Malformed("something follows its end")) }
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a client may say after it has proved itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Query(String),
    Parse { name: String, sql: String, types: Vec<u32> },
    Bind(Bind),
    Describe(Named),
    Execute { portal: String, rows_max: u32 },
    Close(Named),
    Flush,
    Sync,
    Terminate,
}

/// Values for a prepared statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) portal: String,
    pub(crate) statement: String,
    pub(crate) formats: Vec<i16>,
    pub(crate) values: Vec<Option<Vec<u8>>>,
    pub(crate) results: Vec<i16>,
}

/// A prepared statement or a portal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    Statement(String),
    Portal(String),
}

/// Reads a client's message. Function calls by number and copying are not spoken.
pub(crate) fn said(frame: &Frame) -> Result<Said, BadWire> {
    let mut fields = Fields::of(&frame.body);
    let said = match frame.tag {
        b'Q' => Said::Query(fields.text()?.to_owned()),
        b'P' => {
            let (name, sql) = (fields.text()?.to_owned(), fields.text()?.to_owned());
            let count = fields.count()?;
            let types =
                (0..count).map(|_| fields.long().map(i32::cast_unsigned)).collect::<Result<_, _>>()?;
            Said::Parse { name, sql, types }
        }
        b'B' => Said::Bind(bind(&mut fields)?),
        b'D' => Said::Describe(named(&mut fields)?),
        b'C' => Said::Close(named(&mut fields)?),
        b'E' => {
            let portal = fields.text()?.to_owned();
            let rows_max = u32::try_from(fields.long()?).unwrap_or(0);
            Said::Execute { portal, rows_max }
        }
        b'H' => Said::Flush,
        b'S' => Said::Sync,
        b'X' => Said::Terminate,
        b'F' => return Err(BadWire::Malformed("function calls are not spoken here")),
        b'd' | b'c' | b'f' => return Err(BadWire::Malformed("copying is not spoken here")),
        _ => return Err(BadWire::Malformed("no such message")),
    };
    fields.end()?;
    Ok(said)
}

fn bind(fields: &mut Fields<'_>) -> Result<Bind, BadWire> {
    let (portal, statement) = (fields.text()?.to_owned(), fields.text()?.to_owned());
    let count = fields.count()?;
    let formats = (0..count).map(|_| fields.short()).collect::<Result<_, _>>()?;
    let count = fields.count()?;
    let values =
        (0..count).map(|_| Ok(fields.value()?.map(<[u8]>::to_vec))).collect::<Result<_, BadWire>>()?;
    let count = fields.count()?;
    let results = (0..count).map(|_| fields.short()).collect::<Result<_, _>>()?;
    Ok(Bind { portal, statement, formats, values, results })
}

fn named(fields: &mut Fields<'_>) -> Result<Named, BadWire> {
    match fields.byte()? {
        b'S' => Ok(Named::Statement(fields.text()?.to_owned())),
        b'P' => Ok(Named::Portal(fields.text()?.to_owned())),
        _ => Err(BadWire::Malformed("neither statement nor portal")),
    }
}

/// Messages on their way out.
#[derive(Debug, Default)]
pub(crate) struct Out(Vec<u8>);

impl Out {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
    /// What was written so far; nothing is left.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
    /// A message as it came.
    pub(crate) fn frame(&mut self, frame: &Frame) {
        self.message(frame.tag, |body| body.extend_from_slice(&frame.body));
    }
    /// A message with this tag; the tag 0 stands for none.
    pub(crate) fn message(&mut self, tag: u8, write: impl FnOnce(&mut Vec<u8>)) {
        if tag != 0 {
            self.0.push(tag);
        }
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        write(&mut self.0);
        // A message that we write is far below 2 GiB: it consists of such as were capped when they were read.
        let length = i32::try_from(self.0.len() - start).unwrap_or(i32::MAX);
        if let Some(place) = self.0.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
    pub(crate) fn empty(&mut self, tag: u8) {
        self.message(tag, |_| {});
    }
    pub(crate) fn parse(&mut self, name: &str, sql: &str, types: &[u32]) {
        self.message(b'P', |body| {
            put_text(body, name);
            put_text(body, sql);
            put_count(body, types.len());
            types.iter().for_each(|t| body.extend_from_slice(&t.to_be_bytes()));
        });
    }
    pub(crate) fn bind(&mut self, bind: &Bind) {
        self.message(b'B', |body| {
            put_text(body, &bind.portal);
            put_text(body, &bind.statement);
            put_count(body, bind.formats.len());
            bind.formats.iter().for_each(|f| body.extend_from_slice(&f.to_be_bytes()));
            put_count(body, bind.values.len());
            for value in &bind.values {
                let length = value.as_ref().map_or(-1, |v| i32::try_from(v.len()).unwrap_or(i32::MAX));
                body.extend_from_slice(&length.to_be_bytes());
                body.extend_from_slice(value.as_deref().unwrap_or_default());
            }
            put_count(body, bind.results.len());
            bind.results.iter().for_each(|f| body.extend_from_slice(&f.to_be_bytes()));
        });
    }
    /// Describes or closes, by the tag.
    pub(crate) fn named(&mut self, tag: u8, named: &Named) {
        let (kind, name) = match named {
            Named::Statement(name) => (b'S', name),
            Named::Portal(name) => (b'P', name),
        };
        self.message(tag, |body| {
            body.push(kind);
            put_text(body, name);
        });
    }
    pub(crate) fn execute(&mut self, portal: &str, rows_max: u32) {
        self.message(b'E', |body| {
            put_text(body, portal);
            body.extend_from_slice(&i32::try_from(rows_max).unwrap_or(i32::MAX).to_be_bytes());
        });
    }
    pub(crate) fn ready(&mut self, status: u8) {
        self.message(b'Z', |body| body.push(status));
    }
    pub(crate) fn complete(&mut self, tag: &str) {
        self.message(b'C', |body| put_text(body, tag));
    }
    pub(crate) fn parameter(&mut self, name: &str, value: &str) {
        self.message(b'S', |body| {
            put_text(body, name);
            put_text(body, value);
        });
    }
    /// An error (section 54.8): its SQLSTATE, and words of ours.
    pub(crate) fn error(&mut self, trouble: &Trouble) {
        self.message(b'E', |body| {
            let severity = if trouble.fatal { "FATAL" } else { "ERROR" };
            let fields =
                [(b'S', severity), (b'V', severity), (b'C', trouble.state), (b'M', &trouble.message)];
            for (field, text) in fields.into_iter().chain([(b'D', &*trouble.detail), (b'H', &*trouble.hint)])
            {
                if !text.is_empty() {
                    body.push(field);
                    put_text(body, text);
                }
            }
            body.push(0);
        });
    }
}

/// A refusal or failure as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Whether the session is over.
    pub(crate) fatal: bool,
    /// The SQLSTATE.
    pub(crate) state: &'static str,
    /// What is wrong.
    pub(crate) message: String,
    /// Our stable code, and the decision.
    pub(crate) detail: String,
    /// What would help.
    pub(crate) hint: String,
}

fn put_text(body: &mut Vec<u8>, text: &str) {
    // A zero byte would end the text early, and what follows would be read as something else.
    body.extend(text.bytes().filter(|b| *b != 0));
    body.push(0);
}

fn put_count(body: &mut Vec<u8>, count: usize) {
    body.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn only(out: &mut Out) -> Frame {
        let bytes = out.take();
        Frame { tag: bytes[0], body: bytes[5..].to_vec() }
    }

    #[tokio::test]
    async fn a_message_is_read_as_it_is_written_and_none_beyond_its_cap() {
        let mut out = Out::default();
        out.execute("p", 7);
        let bytes = out.take();
        let frame = read_frame(&mut &bytes[..], 100).await.unwrap();
        assert_eq!(said(&frame).unwrap(), Said::Execute { portal: "p".into(), rows_max: 7 });
        assert!(matches!(read_frame(&mut &bytes[..], 5).await, Err(BadWire::TooLong(5))));
        assert!(matches!(read_frame(&mut &bytes[..bytes.len() - 1], 100).await, Err(BadWire::Gone)));
        for length in [[0, 0, 0, 3], [0xff; 4], [0; 4]] {
            let bytes = [&[b'Q'][..], &length].concat();
            assert!(matches!(read_frame(&mut &bytes[..], 100).await, Err(BadWire::Malformed(_))));
        }
    }

    // proves: INV9
    #[test]
    fn what_follows_a_message_inside_it_is_refused() {
        let mut out = Out::default();
        out.message(b'Q', |body| body.extend_from_slice(b"SELECT 1\0DELETE FROM orders\0"));
        assert!(said(&only(&mut out)).is_err());
        out.message(b'Q', |body| body.extend_from_slice(b"SELECT 1\0"));
        assert_eq!(said(&only(&mut out)).unwrap(), Said::Query("SELECT 1".into()));
        for tag in [b'F', b'd', b'c', b'f', b'p', 0xff] {
            assert!(said(&Frame { tag, body: Vec::new() }).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(tag: u8, body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = said(&Frame { tag, body });
        }

        #[test]
        fn a_bind_is_written_as_it_was_read(
            values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), 0..5),
            portal in "[a-z]{0,5}",
        ) {
            let bind = Bind { portal, statement: "s".into(), formats: vec![1], values, results: vec![0, 1] };
            let mut out = Out::default();
            out.bind(&bind);
            prop_assert_eq!(said(&only(&mut out)).unwrap(), Said::Bind(bind));
        }
    }
}
