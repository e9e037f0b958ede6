//! What agents may reach through the gateway: databases' scopes, stated in types.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_core::{SystemId, ToolId};
use bailiwick_tls::Trust;

/// A PostgreSQL target whose sessions this gateway carries.
#[derive(Debug, Clone)]
pub struct PostgresSpec {
    /// The target's name; clients write it as the database.
    pub system: SystemId,
    /// How its server proves who it is; without it, the server must be on this machine.
    pub tls: Option<ServerTls>,
    /// Its scopes; clients write one as the user.
    pub scopes: BTreeMap<String, Scope>,
}

/// By what a database's server is believed.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// Whom its certificate must lead to.
    pub trust: Trust,
    /// The name in its certificate, if it is not the host that is connected to.
    pub name: Option<String>,
}

/// What sessions of one scope may do. The database's own role says the same and is what holds in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Tables as `schema.table`.
    pub tables: BTreeMap<String, Verbs>,
    /// Functions beyond the built-in ones, as `schema.name`.
    pub functions: BTreeSet<String>,
    /// Arguments that narrow rows; a session states each when it begins.
    pub rows: BTreeSet<String>,
    /// Longest life of a session, in seconds.
    pub ttl_s: u64,
}

/// What may be done to one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verbs {
    /// Read.
    pub select: Columns,
    /// Add rows.
    pub insert: Columns,
    /// Change rows.
    pub update: Columns,
    /// Remove rows.
    pub delete: bool,
}

/// Which columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Columns {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// These.
    Some(BTreeSet<String>),
}

impl Columns {
    /// Whether there are any.
    pub fn any(&self) -> bool {
        match self {
            Columns::None => false,
            Columns::All => true,
            Columns::Some(columns) => !columns.is_empty(),
        }
    }
    /// Whether this one is among them; `*` is only among all.
    pub fn admits(&self, column: &str) -> bool {
        match self {
            Columns::None => false,
            Columns::All => true,
            Columns::Some(columns) => columns.contains(column),
        }
    }
}

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Reads.
    Select,
    /// Adds rows.
    Insert,
    /// Changes rows.
    Update,
    /// Removes rows.
    Delete,
}

impl Verb {
    /// The word at the end of the action's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Select => "select",
            Verb::Insert => "insert",
            Verb::Update => "update",
            Verb::Delete => "delete",
        }
    }
    /// The columns that this may touch.
    #[cfg(feature = "postgres-gateway")]
    pub(crate) fn of(self, verbs: &Verbs) -> Columns {
        match self {
            Verb::Select => verbs.select.clone(),
            Verb::Insert => verbs.insert.clone(),
            Verb::Update => verbs.update.clone(),
            Verb::Delete if verbs.delete => Columns::All,
            Verb::Delete => Columns::None,
        }
    }
}

/// The action that a statement is decided as: `shop.read_orders.select`.
pub(crate) fn action(system: &SystemId, scope: &str, verb: Verb) -> Option<ToolId> {
    ToolId::of(system, &format!("{scope}.{}", verb.as_str())).ok()
}
