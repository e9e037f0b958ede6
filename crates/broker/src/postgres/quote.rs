//! Identifiers and literals for statements that take no parameters, such as `CREATE ROLE`.
//!
//! No statement here is written by a user. What goes in is our own names, names from the configuration, and values
//! that narrow a scope; everything is quoted, whatever it looks like.

use crate::error::BrokerError;

/// Longest identifier, in bytes: PostgreSQL cuts longer ones silently, and then they mean something else.
const IDENTIFIER_MAX: usize = 63;

/// An identifier in double quotes.
pub(super) fn identifier(name: &str) -> Result<String, BrokerError> {
    if name.is_empty() || name.len() > IDENTIFIER_MAX || name.contains('\0') {
        let what = "an identifier must have 1 to 63 bytes and no zero byte";
        return Err(BrokerError::new("scope.identifier", what));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// `schema.table`, each in double quotes.
pub(super) fn qualified(name: &str) -> Result<String, BrokerError> {
    let (schema, table) = name.split_once('.').unwrap_or(("public", name));
    Ok(format!("{}.{}", identifier(schema)?, identifier(table)?))
}

/// A text literal, the same under either setting of `standard_conforming_strings`.
pub(super) fn literal(text: &str) -> Result<String, BrokerError> {
    if text.contains('\0') {
        return Err(BrokerError::new("scope.value", "a value must not hold a zero byte"));
    }
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        return Ok(format!(" E'{}'", doubled.replace('\\', "\\\\")));
    }
    Ok(format!("'{doubled}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_quotes() {
        assert_eq!(identifier("a\"; DROP TABLE x; --").unwrap(), "\"a\"\"; DROP TABLE x; --\"");
        assert_eq!(qualified("public.or\"ders").unwrap(), "\"public\".\"or\"\"ders\"");
        assert_eq!(literal("it's").unwrap(), "'it''s'");
        assert_eq!(literal("\\'; x").unwrap(), " E'\\\\''; x'");
        for bad in ["", "a\0b", &"x".repeat(64)] {
            assert_eq!(identifier(bad).unwrap_err().code(), "scope.identifier");
        }
        assert_eq!(literal("\0").unwrap_err().code(), "scope.value");
    }
}
