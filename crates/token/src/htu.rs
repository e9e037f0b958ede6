//! One spelling for a URL, so that two readers of a DPoP proof compare the same thing.
//!
//! RFC 9449 section 4.3 asks for syntax- and scheme-based normalisation (RFC 3986 sections 6.2.2 and 6.2.3)
//! without query and fragment. Done here: scheme and host in lower case, default port dropped, empty path made
//! `/`, escapes in upper case and undone where they hide an unreserved character. Where two readers could
//! still differ (user info, dot segments, backslashes, odd characters, escaped hosts, ports with leading
//! zeros) the URL is refused rather than repaired.

use std::net::Ipv6Addr;

use crate::TokenRefusal;

const URL_BYTES_MAX: usize = 2048;

/// The canonical form of an `http` or `https` URL, without query and fragment.
///
/// # Errors
/// `dpop.url` for a URL that has no single reading.
///
/// ```
/// let url = bailiwick_token::canonical_url("HTTPS://API.example:443/a%2db?x=1#y").unwrap();
/// assert_eq!(url, "https://api.example/a-b");
/// ```
pub fn canonical_url(url: &str) -> Result<String, TokenRefusal> {
    canonical(url).ok_or(TokenRefusal::ProofUrl)
}

fn canonical(url: &str) -> Option<String> {
    if url.len() > URL_BYTES_MAX || !url.bytes().all(may_stand_in_a_url) {
        return None;
    }
    let (scheme, rest) = url.split_once("://")?;
    let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
        "https" => ("https", 443),
        "http" => ("http", 80),
        _ => return None,
    };
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let (host, port) = split_port(authority)?;
    let host = canonical_host(host)?;
    let port = match port {
        Some(port) if port != default_port => format!(":{port}"),
        _ => String::new(),
    };
    Some(format!("{scheme}://{host}{port}{}", canonical_path(path)?))
}

/// The characters of RFC 3986 section 2; all others (spaces, controls, backslash, quotes, non-ASCII) are out.
fn may_stand_in_a_url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

/// Host and port; the port is `None` if absent or empty. User info is refused.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    if authority.contains('@') {
        return None;
    }
    let host_end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, after) = authority.split_at_checked(host_end)?;
    let port = match after.strip_prefix(':') {
        None if after.is_empty() => None,
        None => return None,
        Some("") => None,
        Some(digits) => Some(canonical_port(digits)?),
    };
    Some((host, port))
}

fn canonical_port(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    if plain { digits.parse().ok() } else { None }
}

fn canonical_host(host: &str) -> Option<String> {
    if let Some(inner) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().ok().map(|address| format!("[{address}]"));
    }
    let label_fits = |label: &str| {
        let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        !label.is_empty() && label.len() <= 63 && plain
    };
    (host.len() <= 253 && host.split('.').all(label_fits)).then(|| host.to_ascii_lowercase())
}

fn canonical_path(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => push_escape(&mut out, bytes.next()?, bytes.next()?)?,
            b'[' | b']' => return None,
            other => out.push(char::from(other)),
        }
    }
    let has_dots = out.split('/').any(|segment| segment == "." || segment == "..");
    if has_dots { None } else { Some(out) }
}

fn push_escape(out: &mut String, high: u8, low: u8) -> Option<()> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let value = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
    let unreserved = value.is_ascii_alphanumeric() || b"-._~".contains(&value);
    if unreserved {
        out.push(char::from(value));
    } else {
        out.push_str(&format!("%{value:02X}"));
    }
    Some(())
}
