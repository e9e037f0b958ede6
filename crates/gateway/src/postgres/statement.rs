//! One statement of PostgreSQL: what it does, to which tables and columns, by which functions.
//!
//! It is read by PostgreSQL's own grammar, which is C and needs libclang to be built: feature `postgres-gateway`.
//! Without it no statement is understood, and so none is let through.

#[cfg(feature = "postgres-gateway")]
mod grammar;
#[cfg(feature = "postgres-gateway")]
mod walk;

use bailiwick_core::Value;
use std::collections::BTreeSet;

#[cfg(not(feature = "postgres-gateway"))]
use super::spec::Scope;
use super::spec::Verb;
#[cfg(feature = "postgres-gateway")]
pub(crate) use grammar::read;

/// Understands nothing.
///
/// # Errors
/// Always `sql.no_grammar`.
#[cfg(not(feature = "postgres-gateway"))]
pub(crate) fn read(_: &str, _: &Scope) -> Result<Statement, Unfit> {
    Err(Unfit::new("sql.no_grammar", "this program was built without PostgreSQL's grammar"))
}

/// Why a statement is refused before it is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// Stable code.
    pub(crate) code: &'static str,
    /// Why.
    pub(crate) why: String,
}

impl Unfit {
    pub(crate) fn new(code: &'static str, why: impl Into<String>) -> Self {
        Unfit { code, why: why.into() }
    }
}

/// A statement that may be asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    /// What it is.
    pub(crate) kind: Kind,
    /// Its text, written anew.
    pub(crate) sql: String,
}

/// What a statement is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It touches data.
    Data(Verb, Uses),
    /// It opens a cursor over data, which reads nothing yet.
    Declare(String, Uses),
    /// It reads from a cursor, or closes it.
    Fetch(String),
    Close(String),
    /// It begins or ends a transaction, or sets or shows a setting that is harmless.
    Control,
    /// It is nothing.
    Empty,
}

/// What a statement touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    /// Tables as `schema.table`.
    pub(crate) tables: BTreeSet<String>,
    /// Columns as `schema.table.column`, or bare where more than one table could have it.
    pub(crate) columns: BTreeSet<String>,
    /// Functions as `schema.name`.
    pub(crate) functions: BTreeSet<String>,
    /// Values that say which rows.
    pub(crate) selectors: Vec<Datum>,
    /// Values that are stored.
    pub(crate) values: Vec<Datum>,
}

/// A value in a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Datum {
    /// Written in it.
    Written(Value),
    /// Given with it: the number of the parameter, from 1.
    Given(usize),
}
