//! A request's head, looked at byte by byte before anything parses it (threat A42: two readers, two messages).
//!
//! What a lenient parser would repair, join or skip is refused here: bare line ends, folded lines, blanks before a
//! colon, a length given twice or beside chunks, two hosts. One message is taken per connection, so nothing that
//! follows it can ever be read as another one.

use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// Largest head, in bytes.
pub(crate) const HEAD_MAX: usize = 64 << 10;
/// Most header lines.
const LINES_MAX: usize = 100;
/// How long a head may take to arrive.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// Why a head is refused; `None` when the peer just went away.
pub(crate) type Bad = Option<&'static str>;

/// Reads until the head is complete; gives all bytes read so far, which may hold some of the body.
pub(crate) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, Bad> {
    let reading = async {
        let mut bytes = Vec::with_capacity(2048);
        loop {
            if let Some(end) = end(&bytes) {
                check(bytes.get(..end).unwrap_or_default())?;
                return Ok(bytes);
            }
            if bytes.len() > HEAD_MAX {
                return Err(Some("the head is too large"));
            }
            match stream.read_buf(&mut bytes).await {
                Ok(0) if bytes.is_empty() => return Err(None),
                Ok(0) => return Err(Some("the head broke off")),
                Ok(_) => {}
                Err(_) => return Err(None),
            }
        }
    };
    timeout(HEAD_WITHIN, reading).await.unwrap_or(Err(Some("the head did not arrive in time")))
}

/// Where the head ends: after its empty line. A head that ends in another way never ends, and is refused for that.
fn end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Refuses a head that could be read in two ways (RFC 9112 sections 2.2, 3, 5 and 6).
fn check(head: &[u8]) -> Result<(), Bad> {
    let bad = |why| Err(Some(why));
    let Some(lines) = head.strip_suffix(b"\r\n\r\n") else { return bad("the head does not end") };
    let Ok(lines) = std::str::from_utf8(lines) else { return bad("the head is not plain text") };
    if !lines.bytes().all(|b| matches!(b, b'\t' | b'\r' | b'\n') || (0x20..0x7f).contains(&b)) {
        return bad("the head holds a character that has no place there");
    }
    let mut lines = lines.split("\r\n");
    let version = request_line(lines.next().unwrap_or(""))?;
    let (mut hosts, mut lengths, mut codings, mut count) = (0, 0, 0, 0);
    for line in lines {
        count += 1;
        if line.contains(['\r', '\n']) {
            return bad("a line ends without its two characters");
        }
        let Some((name, value)) = line.split_once(':') else { return bad("a header line has no colon") };
        if name.is_empty() || !name.bytes().all(is_token) {
            return bad("a header's name is not a name, or the line is folded");
        }
        let value = value.trim_matches([' ', '\t']);
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "content-length" => {
                lengths += 1;
                if value.is_empty() || value.len() > 18 || !value.bytes().all(|b| b.is_ascii_digit()) {
                    return bad("the length is not a number");
                }
            }
            "transfer-encoding" => {
                codings += 1;
                if value != "chunked" || version != "HTTP/1.1" {
                    return bad("the transfer coding is not `chunked`");
                }
            }
            _ => {}
        }
    }
    if count > LINES_MAX {
        return bad("there are too many header lines");
    }
    if hosts > 1 || (hosts == 0 && version == "HTTP/1.1") {
        return bad("there must be one Host header");
    }
    if lengths + codings > 1 {
        return bad("the length of the body is given more than once");
    }
    Ok(())
}

fn request_line(line: &str) -> Result<&str, Bad> {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        [method, target, version @ ("HTTP/1.1" | "HTTP/1.0")]
            if !method.is_empty()
                && method.bytes().all(is_token)
                && !target.is_empty()
                && target.bytes().all(|b| b.is_ascii_graphic() && b != b'#') =>
        {
            Ok(version)
        }
        _ => Err(Some("the request line cannot be read")),
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn checked(head: &str) -> Result<(), Bad> {
        check(head.as_bytes())
    }

    // proves: INV9
    #[test]
    fn a_head_that_two_readers_could_read_differently_is_refused() {
        let good = [
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET /x HTTP/1.0\r\n\r\n",
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        ];
        for head in good {
            assert_eq!(checked(head), Ok(()), "{head:?}");
        }
        let bad = [
            "GET /x HTTP/1.1\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n",
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n",
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\n",
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: a\r\n\tX: folded\r\n\r\n",
            "GET /x HTTP/1.1\nHost: a\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
            "GET  /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /x y HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /x HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET /x HTTP/0.9\r\nHost: a\r\n\r\n",
            "GET /x\r\n\r\n",
            "GET /x#y HTTP/1.1\r\nHost: a\r\n\r\n",
            "G\u{e9}T /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        ];
        for head in bad {
            assert!(checked(head).is_err(), "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_what_passes_has_one_length(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check(&bytes);
        }
    }

    #[tokio::test]
    async fn a_head_is_read_with_what_came_behind_it() {
        let mut whole: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        assert!(read(&mut whole).await.unwrap().ends_with(b"\r\n\r\nhi"));
        let mut broken: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\n";
        assert_eq!(read(&mut broken).await, Err(Some("the head broke off")));
        let mut gone: &[u8] = b"";
        assert_eq!(read(&mut gone).await, Err(None));
    }
}
