//! Reads one statement by PostgreSQL's own grammar.
//!
//! [`read`] gives the statement's meaning and its text written anew from that meaning, every table and function with
//! its schema; the server gets that text and no other (INV9). To be sure that the text means what was judged, it is
//! read again and must come out the same. What the walk does not know is refused: a new kind of node in the grammar is
//! a refusal here, never a gap.

use pg_query::NodeEnum;
use pg_query::protobuf::{self, ParseResult, TransactionStmtKind, VariableSetKind};

use super::super::known;
use super::super::spec::Scope;
use super::{Kind, Statement, Unfit, walk};

/// Longest statement, in bytes.
const SQL_MAX: usize = 256 << 10;

/// Reads a text that must be one statement, or none.
///
/// # Errors
/// [`Unfit`], `sql.*`: it is not one statement of a kind that can be decided, or outside what the scope names.
pub(crate) fn read(sql: &str, scope: &Scope) -> Result<Statement, Unfit> {
    let first = once(sql, scope)?;
    if first.kind == Kind::Empty {
        return Ok(first);
    }
    let second = once(&first.sql, scope)?;
    if first != second {
        return Err(Unfit::new("sql.ambiguous", "it does not mean the same when it is written anew"));
    }
    Ok(first)
}

fn once(sql: &str, scope: &Scope) -> Result<Statement, Unfit> {
    if sql.len() > SQL_MAX {
        return Err(Unfit::new("sql.too_long", format!("a statement is at most {SQL_MAX} bytes")));
    }
    let parsed = pg_query::parse(sql, 0).map_err(|e| match e {
        pg_query::Error::Decode(_) => Unfit::new("sql.too_deep", "it is nested too deeply"),
        other => Unfit::new("sql.syntax", other.to_string()),
    })?;
    let mut tree = parsed.protobuf;
    if tree.stmts.len() > 1 {
        return Err(Unfit::new("sql.several", "one statement at a time; this text holds several"));
    }
    let node = tree.stmts.first_mut().and_then(|raw| raw.stmt.as_mut()).and_then(|stmt| stmt.node.as_mut());
    let Some(node) = node else { return Ok(Statement { kind: Kind::Empty, sql: String::new() }) };
    let kind = kind(node, scope)?;
    Ok(Statement { kind, sql: written(&tree)? })
}

fn written(tree: &ParseResult) -> Result<String, Unfit> {
    pg_query::deparse(tree, pg_query::DeparseOptions::default())
        .map_err(|e| Unfit::new("sql.ambiguous", format!("it cannot be written anew: {e}")))
}

fn kind(node: &mut NodeEnum, scope: &Scope) -> Result<Kind, Unfit> {
    match node {
        NodeEnum::SelectStmt(_)
        | NodeEnum::InsertStmt(_)
        | NodeEnum::UpdateStmt(_)
        | NodeEnum::DeleteStmt(_) => walk::data(node, scope).map(|(verb, uses)| Kind::Data(verb, uses)),
        NodeEnum::TransactionStmt(stmt) => transaction(stmt),
        NodeEnum::VariableSetStmt(stmt) => setting(stmt),
        NodeEnum::VariableShowStmt(stmt) if known::shown(&stmt.name) => Ok(Kind::Control),
        NodeEnum::VariableShowStmt(stmt) => {
            Err(Unfit::new("sql.setting", format!("the setting {} is not shown here", stmt.name)))
        }
        NodeEnum::DeclareCursorStmt(stmt) => declare(stmt, scope),
        NodeEnum::FetchStmt(stmt) if !stmt.ismove => Ok(Kind::Fetch(stmt.portalname.clone())),
        NodeEnum::ClosePortalStmt(stmt) if !stmt.portalname.is_empty() => {
            Ok(Kind::Close(stmt.portalname.clone()))
        }
        other => Err(Unfit::new("sql.kind", format!("{} is not done here", words(other)))),
    }
}

/// Beginning and ending, but nothing that outlives the session (PREPARE TRANSACTION).
fn transaction(stmt: &protobuf::TransactionStmt) -> Result<Kind, Unfit> {
    use TransactionStmtKind as T;
    match T::try_from(stmt.kind) {
        Ok(
            T::TransStmtBegin
            | T::TransStmtStart
            | T::TransStmtCommit
            | T::TransStmtRollback
            | T::TransStmtSavepoint
            | T::TransStmtRelease
            | T::TransStmtRollbackTo,
        ) => Ok(Kind::Control),
        _ => Err(Unfit::new("sql.kind", "a transaction in two phases is not done here")),
    }
}

fn setting(stmt: &protobuf::VariableSetStmt) -> Result<Kind, Unfit> {
    let refused = || Unfit::new("sql.setting", format!("the setting {} is not changed here", stmt.name));
    match VariableSetKind::try_from(stmt.kind) {
        Ok(VariableSetKind::VarSetValue) => {}
        _ => return Err(refused()),
    }
    let mut words = Vec::new();
    for arg in &stmt.args {
        words.push(plain(arg).ok_or_else(refused)?);
    }
    if known::set(&stmt.name.to_ascii_lowercase(), &words.join(", ")) {
        Ok(Kind::Control)
    } else {
        Err(refused())
    }
}

/// A constant as text.
fn plain(node: &protobuf::Node) -> Option<String> {
    use protobuf::a_const::Val;
    let Some(NodeEnum::AConst(constant)) = &node.node else { return None };
    match constant.val.as_ref()? {
        Val::Ival(n) => Some(n.ival.to_string()),
        Val::Fval(n) => Some(n.fval.clone()),
        Val::Sval(text) => Some(text.sval.clone()),
        Val::Boolval(_) | Val::Bsval(_) => None,
    }
}

/// Cursors that end with their transaction and give text (`parsenodes.h`: BINARY is 1, HOLD is 32).
fn declare(stmt: &mut protobuf::DeclareCursorStmt, scope: &Scope) -> Result<Kind, Unfit> {
    const BINARY_OR_HOLD: i32 = 1 | 32;
    if stmt.options & BINARY_OR_HOLD != 0 || stmt.portalname.is_empty() {
        return Err(Unfit::new("sql.kind", "a cursor that outlives its transaction is not opened here"));
    }
    let query = stmt.query.as_mut().and_then(|query| query.node.as_mut());
    match query {
        Some(query @ NodeEnum::SelectStmt(_)) => {
            walk::data(query, scope).map(|(_, uses)| Kind::Declare(stmt.portalname.clone(), uses))
        }
        _ => Err(Unfit::new("sql.kind", "a cursor is opened over a SELECT")),
    }
}

/// The name of a kind of statement, for people: `CopyStmt` as `COPY`.
pub(super) fn words(node: &NodeEnum) -> String {
    let debug = format!("{node:?}");
    let name = debug.split(['(', ' ']).next().unwrap_or_default();
    let name = name.strip_suffix("Stmt").unwrap_or(name);
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push(' ');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{Datum, Uses};
    use super::*;
    use crate::postgres::spec::{Columns, Verb, Verbs};
    use bailiwick_core::Value;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn scope() -> Scope {
        let some = |columns: &[&str]| Columns::Some(columns.iter().map(|c| (*c).to_owned()).collect());
        let orders = Verbs {
            select: some(&["id", "customer_id", "total"]),
            insert: some(&["id", "total"]),
            update: some(&["total"]),
            delete: true,
        };
        let people = Verbs { select: Columns::All, ..Verbs::default() };
        Scope {
            tables: [("public.orders".to_owned(), orders), ("hr.people".to_owned(), people)].into(),
            functions: ["public.score".to_owned()].into(),
            ..Scope::default()
        }
    }

    fn data(sql: &str) -> (Verb, Uses, String) {
        match read(sql, &scope()) {
            Ok(Statement { kind: Kind::Data(verb, uses), sql }) => (verb, uses, sql),
            other => panic!("{sql}: {other:?}"),
        }
    }

    fn code(sql: &str) -> &'static str {
        read(sql, &scope()).map_or_else(|unfit| unfit.code, |read| panic!("{sql}: {read:?}"))
    }

    fn names(set: &BTreeSet<String>) -> Vec<&str> {
        set.iter().map(String::as_str).collect()
    }

    // proves: D4, INV9
    #[test]
    fn a_statement_is_told_by_what_it_touches_and_written_anew() {
        let (verb, uses, sql) =
            data("select id, /* x */ sum(total) from orders where customer_id = 7 group by 1 -- y");
        assert_eq!(verb, Verb::Select);
        assert_eq!(names(&uses.tables), ["public.orders"]);
        assert_eq!(
            names(&uses.columns),
            ["public.orders.customer_id", "public.orders.id", "public.orders.total"]
        );
        assert_eq!(names(&uses.functions), ["pg_catalog.sum"]);
        assert!(uses.selectors.contains(&Datum::Written(Value::Int(7))));
        assert!(sql.contains("FROM public.orders") && sql.contains("pg_catalog.sum(total)"), "{sql}");
        assert!(!sql.contains("--") && !sql.contains("/*"), "{sql}");

        let (verb, uses, _) = data("UPDATE orders SET total = $1 WHERE id = $2");
        assert_eq!(
            (verb, uses.values, uses.selectors),
            (Verb::Update, vec![Datum::Given(1)], vec![Datum::Given(2)])
        );
        let (verb, uses, _) = data("INSERT INTO orders (id, total) VALUES (5, 'x') RETURNING id");
        assert_eq!(verb, Verb::Insert);
        assert_eq!(uses.values, [Datum::Written(Value::Int(5)), Datum::Written(Value::from("x"))]);
        let (verb, ..) = data("INSERT INTO orders (id) VALUES (5) ON CONFLICT (id) DO UPDATE SET total = 1");
        assert_eq!(verb, Verb::Update, "an insert that may change is a change");
        assert_eq!(data("DELETE FROM orders WHERE id = 1").0, Verb::Delete);
    }

    #[test]
    fn ordinary_reading_is_understood() {
        for sql in [
            "SELECT 1",
            "SELECT now(), current_date, count(*) FROM orders",
            "SELECT count(*) AS n FROM orders GROUP BY customer_id HAVING count(*) > 3 ORDER BY n DESC LIMIT 10",
            "SELECT o.id, p.name FROM orders o LEFT JOIN hr.people p ON p.id = o.customer_id WHERE o.total BETWEEN 1 AND 5",
            "WITH big AS (SELECT id FROM orders WHERE total > 5) SELECT * FROM big",
            "WITH orders AS (SELECT id FROM orders) SELECT * FROM orders",
            "WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 9) SELECT n FROM t",
            "SELECT id, row_number() OVER (PARTITION BY customer_id ORDER BY total) FROM orders",
            "SELECT CASE WHEN total > 1 THEN 'a' ELSE 'b' END, coalesce(total, 0), total::text FROM orders",
            "SELECT id FROM orders WHERE id = ANY (ARRAY[1, 2]) AND total IS NOT NULL AND id IN (SELECT id FROM hr.people)",
            "SELECT extract(year FROM now()), substring('abc' FROM 2), 'x' LIKE 'y' ESCAPE '!', interval '1 day'",
            "SELECT DISTINCT ON (id) id FROM orders UNION SELECT id FROM hr.people EXCEPT SELECT 5",
            "SELECT score(1) FROM orders",
            "VALUES (1, 'x'), (2, 'y')",
            "TABLE hr.people",
            "SELECT * FROM (SELECT id FROM orders) s, LATERAL (SELECT 1) t",
            "SELECT U&'d\\0061t\\+000061', E'a\\nb', $$x$$, B'101'",
        ] {
            assert_eq!(data(sql).0, Verb::Select, "{sql}");
        }
        for sql in [
            "BEGIN",
            "START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY",
            "COMMIT",
            "ROLLBACK",
            "SAVEPOINT a",
            "ROLLBACK TO a",
            "RELEASE a",
            "SET extra_float_digits = 3",
            "SET client_encoding TO 'UTF8'",
            "SET application_name = 'psql'",
            "SHOW server_version",
            "SHOW transaction_isolation",
            "SET TIME ZONE 'UTC'",
            "SET DateStyle TO 'ISO, MDY'",
        ] {
            assert_eq!(read(sql, &scope()).unwrap().kind, Kind::Control, "{sql}");
        }
        for sql in ["", " ; ", "-- nothing", "/* nothing */"] {
            assert_eq!(read(sql, &scope()).unwrap().kind, Kind::Empty, "{sql}");
        }
        assert!(matches!(
            read("DECLARE c CURSOR FOR SELECT id FROM orders", &scope()).unwrap().kind,
            Kind::Declare(..)
        ));
        assert_eq!(read("FETCH 5 FROM c", &scope()).unwrap().kind, Kind::Fetch("c".into()));
    }

    // proves: INV6, A56
    #[test]
    fn what_is_not_on_the_list_is_refused() {
        for (sql, why) in [
            ("SELECT 1; SELECT 2", "sql.several"),
            ("SELEC 1", "sql.syntax"),
            ("SELECT id FROM orders\0; DELETE", "sql.syntax"),
            ("SELECT note FROM orders", "sql.column"),
            ("SELECT o.note FROM orders o", "sql.column"),
            ("SELECT ctid FROM orders", "sql.column"),
            ("SELECT id FROM orders WHERE note = 'x'", "sql.column"),
            ("UPDATE orders SET note = 'x'", "sql.column"),
            ("SELECT id FROM customers", "sql.table"),
            ("SELECT id FROM other.orders", "sql.table"),
            ("SELECT rolname FROM pg_catalog.pg_roles", "sql.table"),
            ("SELECT rolname FROM pg_roles", "sql.table"),
            ("SELECT * FROM information_schema.tables", "sql.table"),
            ("SELECT id FROM db.public.orders", "sql.table"),
            ("INSERT INTO hr.people (id) VALUES (1)", "sql.table"),
            ("DELETE FROM hr.people", "sql.table"),
            ("SELECT id FROM orders WHERE id IN (SELECT id FROM customers)", "sql.table"),
            ("WITH gone AS (DELETE FROM orders RETURNING id) SELECT id FROM gone", "sql.with_writes"),
            ("SELECT id FROM orders FOR UPDATE", "sql.kind"),
            ("SELECT id INTO mine FROM orders", "sql.kind"),
            ("CREATE TABLE mine AS SELECT id FROM orders", "sql.kind"),
            ("EXPLAIN SELECT id FROM orders", "sql.kind"),
            ("EXPLAIN ANALYZE DELETE FROM orders", "sql.kind"),
            ("PREPARE p AS SELECT 1", "sql.kind"),
            ("EXECUTE p", "sql.kind"),
            ("DO $$ BEGIN END $$", "sql.kind"),
            ("CALL f()", "sql.kind"),
            ("COPY orders TO STDOUT", "sql.kind"),
            ("COPY orders FROM PROGRAM 'x'", "sql.kind"),
            ("LISTEN x", "sql.kind"),
            ("NOTIFY x", "sql.kind"),
            ("LOCK TABLE orders", "sql.kind"),
            ("TRUNCATE orders", "sql.kind"),
            ("DISCARD ALL", "sql.kind"),
            ("PREPARE TRANSACTION 'x'", "sql.kind"),
            ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "sql.kind"),
            ("DECLARE c BINARY CURSOR FOR SELECT 1", "sql.kind"),
            ("MERGE INTO orders USING hr.people p ON true WHEN MATCHED THEN DELETE", "sql.kind"),
            ("SET ROLE postgres", "sql.setting"),
            ("SET SESSION AUTHORIZATION postgres", "sql.setting"),
            ("RESET ROLE", "sql.setting"),
            ("RESET ALL", "sql.setting"),
            ("SET search_path = public", "sql.setting"),
            ("SET standard_conforming_strings = off", "sql.setting"),
            ("SET client_encoding = 'SJIS'", "sql.setting"),
            ("SET TRANSACTION READ WRITE", "sql.setting"),
            ("SHOW hba_file", "sql.setting"),
            ("SHOW ALL", "sql.setting"),
            ("SELECT set_config('role', 'x', false)", "sql.function"),
            ("SELECT pg_catalog.set_config('role', 'x', false)", "sql.function"),
            ("SELECT pg_sleep(9)", "sql.function"),
            ("SELECT lo_import('/etc/passwd')", "sql.function"),
            ("SELECT query_to_xml('DELETE FROM orders', true, true, '')", "sql.function"),
            ("SELECT nextval('orders_id_seq')", "sql.function"),
            ("SELECT * FROM dblink('x', 'y') AS t(a int)", "sql.function"),
            ("SELECT public.lower('x')", "sql.function"),
            ("SELECT current_user", "sql.function"),
            ("SELECT id OPERATOR(public.+) 1 FROM orders", "sql.function"),
            ("SELECT 'orders'::regclass", "sql.type"),
            ("SELECT 'x'::public.mood", "sql.type"),
            ("SELECT (o).note FROM orders o", "sql.kind"),
            ("INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET note = 'x'", "sql.column"),
        ] {
            assert_eq!(code(sql), why, "{sql}");
        }
    }

    #[test]
    fn depth_and_length_have_an_end() {
        let deep = |n: usize| format!("SELECT {}1{}", "(SELECT ".repeat(n), ")".repeat(n));
        assert!(read(&deep(5), &scope()).is_ok());
        for n in [100, 1_000, 20_000] {
            assert!(matches!(code(&deep(n)), "sql.too_deep" | "sql.syntax"), "{n}");
        }
        assert!(matches!(
            code(&format!("SELECT {} true", "NOT ".repeat(30_000))),
            "sql.too_deep" | "sql.syntax"
        ));
        assert_eq!(code(&format!("SELECT '{}'", "x".repeat(300_000))), "sql.too_long");
    }

    proptest! {
        // proves: INV9
        #[test]
        fn what_is_written_anew_means_the_same(text in "\\PC{0,12}", n: i64, column in "id|total|customer_id") {
            let quoted = text.replace('\'', "''");
            let sql = format!("SELECT \"{column}\" FROM orders WHERE '{quoted}' <> total::text AND id = {n}");
            let first = read(&sql, &scope()).unwrap();
            prop_assert_eq!(&read(&first.sql, &scope()).unwrap(), &first);
            let Kind::Data(_, uses) = first.kind else { panic!() };
            prop_assert!(uses.selectors.contains(&Datum::Written(Value::Text(text))));
        }

        #[test]
        fn no_text_breaks_the_reader(sql in "\\PC{0,80}") {
            let _ = read(&sql, &scope());
        }
    }
}
