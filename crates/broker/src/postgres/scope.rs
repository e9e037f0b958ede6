//! Typed scopes: what a login may do, stated without SQL, and compared with what it really can.
//!
//! A scope is a capability role that a database administrator prepares once (`bailiwick target setup` writes the
//! statements), and each login becomes a member of it. Granting tables to each login instead does not hold up:
//! concurrent grants on one table fail, and past some 2 400 grantees its catalogue row is full.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_core::label::Label;
use bailiwick_core::tool::Effect;
use serde::Deserialize;
use tokio_postgres::Client;

use super::pool::trouble;
use super::quote::{identifier, literal, qualified};
use crate::error::BrokerError;

/// The table that says which rows each login may see, in every database with scopes that narrow rows.
pub(super) const SCOPE_TABLE: &str = "bailiwick.scope";

/// What logins of one scope may do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// The capability role: NOLOGIN, prepared beforehand.
    pub role: String,
    /// The database.
    pub database: String,
    /// What its logins do at most: `read`, `create`, `update`, `delete`.
    pub effect: Effect,
    /// Tables and views as `schema.table`, with what may be done to each.
    #[serde(default)]
    pub tables: BTreeMap<String, Verbs>,
    /// Arguments that narrow rows: name of the argument to the column it must equal.
    #[serde(default)]
    pub rows: BTreeMap<String, RowRule>,
    /// SECURITY DEFINER functions it may call, as `schema.name`; any other one that it could call is too much.
    #[serde(default)]
    pub functions: BTreeSet<String>,
    /// What the data is.
    #[serde(default)]
    pub labels: Label,
    /// Longest life of a login, in seconds.
    #[serde(default = "an_hour")]
    pub ttl_s: u64,
}

fn an_hour() -> u64 {
    3600
}

/// What may be done to one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verbs {
    /// Read.
    #[serde(default)]
    pub select: Columns,
    /// Add rows.
    #[serde(default)]
    pub insert: Columns,
    /// Change rows.
    #[serde(default)]
    pub update: Columns,
    /// Remove rows.
    #[serde(default)]
    pub delete: bool,
}

/// Which columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Columns {
    /// None.
    #[default]
    None,
    /// All, if true.
    All(bool),
    /// These.
    Some(BTreeSet<String>),
}

/// Which rows an argument leaves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowRule {
    /// The table, `schema.table`.
    pub table: String,
    /// The column that must equal the argument.
    pub column: String,
}

impl Columns {
    /// Whether there is no column at all.
    pub fn is_none(&self) -> bool {
        match self {
            Columns::None | Columns::All(false) => true,
            Columns::All(true) => false,
            Columns::Some(columns) => columns.is_empty(),
        }
    }
    fn admits(&self, column: &str) -> bool {
        match self {
            Columns::None => false,
            Columns::All(all) => *all,
            Columns::Some(columns) => columns.contains(column),
        }
    }
}

impl Verbs {
    fn of(&self, verb: &str) -> Option<&Columns> {
        match verb {
            "SELECT" => Some(&self.select),
            "INSERT" => Some(&self.insert),
            "UPDATE" => Some(&self.update),
            _ => None,
        }
    }
}

impl Scope {
    /// The verbs of statements that there is a table for.
    pub(super) fn effects(&self) -> Vec<&'static str> {
        let any = |has: fn(&Verbs) -> bool| self.tables.values().any(has);
        let verbs = [
            ("select", any(|v| !v.select.is_none())),
            ("insert", any(|v| !v.insert.is_none())),
            ("update", any(|v| !v.update.is_none())),
            ("delete", any(|v| v.delete)),
        ];
        verbs.into_iter().filter(|(_, has)| *has).map(|(verb, _)| verb).collect()
    }

    /// One line for people: what a login of this scope can do.
    pub(super) fn told(&self) -> String {
        let mut parts = Vec::new();
        for (table, verbs) in &self.tables {
            for (verb, columns) in
                [("read", &verbs.select), ("add to", &verbs.insert), ("change", &verbs.update)]
            {
                match columns {
                    c if c.is_none() => {}
                    Columns::Some(columns) => {
                        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
                        parts.push(format!("{verb} {table} ({})", columns.join(", ")));
                    }
                    _ => parts.push(format!("{verb} {table}")),
                }
            }
            if verbs.delete {
                parts.push(format!("delete from {table}"));
            }
        }
        let rows =
            self.rows.iter().map(|(arg, r)| format!("only rows of {} where {} = {arg}", r.table, r.column));
        parts.extend(rows);
        format!("database {}: {}", self.database, parts.join("; "))
    }

    /// The statements that prepare the target for this scope, for its administrator to read and run.
    pub(super) fn setup(&self) -> Result<String, BrokerError> {
        let role = identifier(&self.role)?;
        let mut out = format!("-- in database {}\n", identifier(&self.database)?);
        let exists = literal(&self.role)?;
        out += &format!(
            "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {exists}) THEN\n  CREATE ROLE {role} NOLOGIN NOINHERIT;\nEND IF; END $$;\n"
        );
        out += &format!("GRANT CONNECT ON DATABASE {} TO {role};\n", identifier(&self.database)?);
        let schemas: BTreeSet<&str> = self.tables.keys().map(|t| schema_of(t)).collect();
        for schema in schemas {
            out += &format!("GRANT USAGE ON SCHEMA {} TO {role};\n", identifier(schema)?);
        }
        for (table, verbs) in &self.tables {
            out += &grants(table, verbs, &role)?;
        }
        if !self.rows.is_empty() {
            out += &self.row_setup(&role)?;
        }
        Ok(out)
    }

    fn row_setup(&self, role: &str) -> Result<String, BrokerError> {
        let mut out = format!(
            "CREATE SCHEMA IF NOT EXISTS bailiwick;\n\
             CREATE TABLE IF NOT EXISTS {SCOPE_TABLE} (login name NOT NULL, arg text NOT NULL, value text NOT NULL, PRIMARY KEY (login, arg, value));\n\
             ALTER TABLE {SCOPE_TABLE} ENABLE ROW LEVEL SECURITY;\n\
             DROP POLICY IF EXISTS own ON {SCOPE_TABLE};\n\
             CREATE POLICY own ON {SCOPE_TABLE} FOR SELECT USING (login = session_user);\n\
             GRANT USAGE ON SCHEMA bailiwick TO {role};\nGRANT SELECT ON {SCOPE_TABLE} TO {role};\n"
        );
        for (arg, rule) in &self.rows {
            let (table, column) = (qualified(&rule.table)?, identifier(&rule.column)?);
            let policy = identifier(&policy_name(&self.role, arg))?;
            out += &format!(
                "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;\n\
                 DROP POLICY IF EXISTS bailiwick_others ON {table};\n\
                 CREATE POLICY bailiwick_others ON {table} USING (true) WITH CHECK (true);\n\
                 DROP POLICY IF EXISTS {policy} ON {table};\n\
                 CREATE POLICY {policy} ON {table} AS RESTRICTIVE TO {role} USING (EXISTS (SELECT FROM {SCOPE_TABLE} s\n  \
                 WHERE s.login = session_user AND s.arg = {} AND s.value = {column}::text));\n",
                literal(arg)?
            );
        }
        Ok(out)
    }

    /// Reads back what the role can do in its database, and whether that is more than this scope says.
    ///
    /// Checked are tables, columns, sequences, schemas, SECURITY DEFINER functions, and the role itself. What every
    /// login can do by default, such as making temporary tables, is listed and not counted as wider.
    pub(super) async fn compare(&self, client: &Client) -> Result<Vec<String>, BrokerError> {
        let found = effective(client, &self.role).await?;
        let mut wider = Vec::new();
        let mut lines = BTreeSet::new();
        for privilege in &found {
            lines.insert(privilege.told());
            if !self.covers(privilege) {
                wider.push(privilege.told());
            }
        }
        if let Some(first) = wider.first() {
            let rest = if wider.len() > 1 { format!(" and {} more", wider.len() - 1) } else { String::new() };
            let what = format!("role {} can do more than its scope says: {first}{rest}", self.role);
            return Err(BrokerError::new("scope.wider", what));
        }
        self.check_rows(client).await?;
        Ok(lines.into_iter().collect())
    }

    fn covers(&self, p: &Privilege) -> bool {
        let table = |name: &str| self.tables.iter().find(|(t, _)| full(t) == name).map(|(_, verbs)| verbs);
        match (p.kind.as_str(), p.verb.as_str()) {
            ("table", "SELECT") if p.name == SCOPE_TABLE => !self.rows.is_empty(),
            ("table", "DELETE") => table(&p.name).is_some_and(|v| v.delete),
            ("table", verb) => table(&p.name).and_then(|v| v.of(verb)).is_some_and(|c| c.admits(&p.column)),
            ("function", _) => self.functions.contains(&p.name),
            // Drawing a number from a sequence is what adding rows takes.
            ("sequence", "USAGE") => self.tables.values().any(|v| !v.insert.is_none()),
            ("default", _) => true,
            _ => false,
        }
    }

    /// Rows are narrowed only if the table filters, by a rule for this very role, and no view goes around it.
    async fn check_rows(&self, client: &Client) -> Result<(), BrokerError> {
        for (arg, rule) in &self.rows {
            let name = qualified(&rule.table)?;
            let filtered = client
                .query_opt(
                    "SELECT c.relrowsecurity AND EXISTS (SELECT FROM pg_policy p JOIN pg_roles r ON r.oid = ANY (p.polroles) \
                     WHERE p.polrelid = c.oid AND NOT p.polpermissive AND p.polcmd = '*' AND p.polname = $2 AND r.rolname = $3) \
                     FROM pg_class c WHERE c.oid = to_regclass($1)",
                    &[&name, &policy_name(&self.role, arg), &self.role],
                )
                .await
                .map_err(trouble)?;
            if !filtered.is_some_and(|row| row.get(0)) {
                let what =
                    format!("{} does not filter rows by `{arg}`; run `bailiwick target setup`", rule.table);
                return Err(BrokerError::new("scope.rows_unfiltered", what));
            }
        }
        if self.rows.is_empty() {
            return Ok(());
        }
        for table in self.tables.keys() {
            let around = client
                .query_opt(
                    "SELECT FROM pg_class c WHERE c.oid = to_regclass($1) AND c.relkind IN ('v', 'm') \
                     AND NOT coalesce(c.reloptions @> '{security_invoker=true}' OR c.reloptions @> '{security_invoker=on}', false)",
                    &[&qualified(table)?],
                )
                .await
                .map_err(trouble)?;
            if around.is_some() {
                let what = format!(
                    "the view {table} reads with its owner's rights and goes around the row rules; make it `security_invoker`"
                );
                return Err(BrokerError::new("scope.view_bypasses_rows", what));
            }
        }
        Ok(())
    }
}

fn policy_name(role: &str, arg: &str) -> String {
    let name = format!("bailiwick_{role}_{arg}");
    name.chars().take(63).collect()
}

fn grants(table: &str, verbs: &Verbs, role: &str) -> Result<String, BrokerError> {
    let mut out = String::new();
    let name = qualified(table)?;
    for (verb, columns) in [("SELECT", &verbs.select), ("INSERT", &verbs.insert), ("UPDATE", &verbs.update)] {
        match columns {
            c if c.is_none() => {}
            Columns::Some(columns) => {
                let quoted: Vec<String> = columns.iter().map(|c| identifier(c)).collect::<Result<_, _>>()?;
                out += &format!("GRANT {verb} ({}) ON {name} TO {role};\n", quoted.join(", "));
            }
            _ => out += &format!("GRANT {verb} ON {name} TO {role};\n"),
        }
    }
    if verbs.delete {
        out += &format!("GRANT DELETE ON {name} TO {role};\n");
    }
    Ok(out)
}

fn schema_of(table: &str) -> &str {
    table.split_once('.').map_or("public", |(schema, _)| schema)
}

fn full(table: &str) -> String {
    if table.contains('.') { table.to_owned() } else { format!("public.{table}") }
}

/// One thing a role can do.
struct Privilege {
    kind: String,
    name: String,
    verb: String,
    column: String,
}

impl Privilege {
    fn told(&self) -> String {
        let verb = self.verb.to_lowercase();
        match self.column.as_str() {
            "" => format!("{} {} {verb}", self.kind, self.name),
            column => format!("{} {} {verb} ({column})", self.kind, self.name),
        }
    }
}

/// What a role can really do, memberships and PUBLIC included. System schemas are left out: everybody reads them.
const EFFECTIVE: &str = "
WITH me AS (SELECT oid, rolname FROM pg_roles WHERE rolname = $1),
ns AS (SELECT n.oid, n.nspname FROM pg_namespace n
       WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'),
rel AS (SELECT c.oid, c.relkind, ns.nspname || '.' || c.relname AS name FROM pg_class c JOIN ns ON ns.oid = c.relnamespace)
SELECT 'table' AS kind, rel.name, v.verb, a.attname::text AS col
  FROM me, rel JOIN pg_attribute a ON a.attrelid = rel.oid AND a.attnum > 0 AND NOT a.attisdropped,
       (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('REFERENCES')) v(verb)
  WHERE rel.relkind IN ('r', 'v', 'm', 'f', 'p') AND has_column_privilege(me.oid, rel.oid, a.attnum, v.verb)
UNION ALL
SELECT 'table', rel.name, v.verb, '' FROM me, rel, (VALUES ('DELETE'), ('TRUNCATE'), ('TRIGGER')) v(verb)
  WHERE rel.relkind IN ('r', 'v', 'm', 'f', 'p') AND has_table_privilege(me.oid, rel.oid, v.verb)
UNION ALL
SELECT 'sequence', rel.name, v.verb, '' FROM me, rel, (VALUES ('USAGE'), ('SELECT'), ('UPDATE')) v(verb)
  WHERE rel.relkind = 'S' AND has_sequence_privilege(me.oid, rel.oid, v.verb)
UNION ALL
SELECT 'schema', ns.nspname, 'CREATE', '' FROM me, ns WHERE has_schema_privilege(me.oid, ns.oid, 'CREATE')
UNION ALL
SELECT 'function', ns.nspname || '.' || p.proname, 'EXECUTE', '' FROM me, pg_proc p JOIN ns ON ns.oid = p.pronamespace
  WHERE p.prosecdef AND has_function_privilege(me.oid, p.oid, 'EXECUTE')
UNION ALL
SELECT 'foreign server', s.srvname, 'USAGE', '' FROM me, pg_foreign_server s WHERE has_server_privilege(me.oid, s.oid, 'USAGE')
UNION ALL
SELECT 'database', d.datname, 'CREATE', '' FROM me, pg_database d
  WHERE d.datname = current_database() AND has_database_privilege(me.oid, d.oid, 'CREATE')
UNION ALL
SELECT 'default', d.datname, v.verb, '' FROM me, pg_database d, (VALUES ('CONNECT'), ('TEMP')) v(verb)
  WHERE d.datallowconn AND (v.verb = 'CONNECT' OR d.datname = current_database()) AND has_database_privilege(me.oid, d.oid, v.verb)
UNION ALL
SELECT 'membership', r.rolname, 'MEMBER', '' FROM me, pg_roles r
  WHERE r.oid <> me.oid AND pg_has_role(me.oid, r.oid, 'MEMBER')
UNION ALL
SELECT 'attribute', v.name, 'HAS', '' FROM pg_roles r, LATERAL (VALUES ('superuser', r.rolsuper), ('createrole', r.rolcreaterole),
    ('createdb', r.rolcreatedb), ('replication', r.rolreplication), ('bypassrls', r.rolbypassrls), ('login', r.rolcanlogin)) v(name, has)
  WHERE r.rolname = $1 AND v.has";

async fn effective(client: &Client, role: &str) -> Result<Vec<Privilege>, BrokerError> {
    let known =
        client.query_opt("SELECT FROM pg_roles WHERE rolname = $1", &[&role]).await.map_err(trouble)?;
    if known.is_none() {
        let what = format!("the capability role {role} does not exist; run `bailiwick target setup`");
        return Err(BrokerError::new("scope.unprepared", what));
    }
    let rows = client.query(EFFECTIVE, &[&role]).await.map_err(trouble)?;
    let text = |row: &tokio_postgres::Row, i: usize| row.try_get::<_, String>(i).map_err(trouble);
    rows.iter()
        .map(|row| {
            Ok(Privilege {
                kind: text(row, 0)?,
                name: text(row, 1)?,
                verb: text(row, 2)?,
                column: text(row, 3)?,
            })
        })
        .collect()
}
