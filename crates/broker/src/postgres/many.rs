//! Many logins at once, as when a task is killed: the same steps in the same order, each of them one statement for all.
//!
//! * Those that nobody uses and that own nothing have only their rows and their drop left of the order. One
//!   transaction drops them, and whoever slipped in meanwhile is ended by OID.
//! * The others are blocked, and that is committed; then their rows and memberships go; then their sessions, on every
//!   node at once; then what they own, where `pg_shdepend` says that they own something; then they are dropped.
//!
//! Only what stands in the target under the OID that is on record is touched here. Everything else goes one by one.

use std::collections::{BTreeMap, HashMap, HashSet};

use tokio_postgres::types::{ToSql, Type};

use super::pool::trouble;
use super::quote::{identifier, literal};
use super::{LOOK, Postgres, oid, sight};
use crate::error::BrokerError;
use crate::{Did, Handle, Sight};

/// How many logins end in one transaction. Each takes a lock or two of the server's, which has 6 400 by default.
const BULK: usize = 1000;

/// An argument of a statement, with its type.
type Arg<'a> = (&'a (dyn ToSql + Sync), Type);

/// A login that stands in the target under the OID that is on record.
#[derive(Clone, Copy)]
struct Login<'a> {
    handle: &'a Handle,
    oid: u32,
    /// Whether it owns something or has prepared a transaction.
    owns: bool,
}

impl Postgres {
    pub(super) async fn revoked_many(
        &self,
        handles: &[Handle],
    ) -> Result<Vec<Result<Did, BrokerError>>, BrokerError> {
        let mut out = Vec::with_capacity(handles.len());
        for part in handles.chunks(BULK) {
            let all: Vec<&Handle> = part.iter().collect();
            let (mut quiet, mut busy) = self.standing(&all).await?;
            let mut ended = HashMap::new();
            match self.drop_quiet(&quiet).await {
                Ok(did) => ended.extend(did),
                // One of them has become busy: all of them in the full order.
                Err(error) if error.code() == "target.refused" => busy.append(&mut quiet),
                Err(error) => return Err(error),
            }
            match self.end_in_order(&busy).await {
                Ok(did) => ended.extend(did),
                Err(error) if error.code() == "target.unreachable" => return Err(error),
                Err(error) => tracing::debug!(code = error.code(), %error, "these go one by one"),
            }
            let one = || Err(BrokerError::new("target.one_by_one", "it is not as it stands on record"));
            out.extend(part.iter().map(|h| ended.remove(h.name.as_str()).map_or_else(one, Ok)));
        }
        Ok(out)
    }

    /// Those that nobody uses and that own nothing, and the others. Whoever is not there under the OID on record is
    /// among neither.
    async fn standing<'a>(
        &self,
        handles: &[&'a Handle],
    ) -> Result<(Vec<Login<'a>>, Vec<Login<'a>>), BrokerError> {
        let used = self.used_on_replicas().await?;
        let names: Vec<&str> = handles.iter().map(|h| h.name.as_str()).collect();
        let oids: Vec<u32> = handles.iter().map(|h| oid(h)).collect();
        let args: [Arg<'_>; 2] = [(&names, Type::TEXT_ARRAY), (&oids, Type::OID_ARRAY)];
        let client = self.primary.lend().await?;
        let rows = client.query_typed(NOT_QUIET, &args).await.map_err(trouble)?;
        client.done();
        let told: HashMap<i64, (bool, bool)> =
            rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
        let (mut quiet, mut busy) = (Vec::new(), Vec::new());
        for ((place, handle), oid) in (1..).zip(handles).zip(oids) {
            match told.get(&place) {
                Some((false, _)) => {}
                Some((true, owns)) => busy.push(Login { handle, oid, owns: *owns }),
                None if used.contains(&oid) => busy.push(Login { handle, oid, owns: false }),
                None => quiet.push(Login { handle, oid, owns: false }),
            }
        }
        Ok((quiet, busy))
    }

    /// Whoever has a session on a replica.
    async fn used_on_replicas(&self) -> Result<HashSet<u32>, BrokerError> {
        let mut used = HashSet::new();
        for node in &self.replicas {
            let client = node.lend().await?;
            let sessions =
                "SELECT DISTINCT usesysid FROM pg_stat_get_activity(NULL) WHERE usesysid IS NOT NULL";
            let rows = client.query_typed(sessions, &[]).await.map_err(trouble)?;
            used.extend(rows.iter().map(|row| row.get::<_, u32>(0)));
            client.done();
        }
        Ok(used)
    }

    async fn drop_quiet<'a>(&self, quiet: &[Login<'a>]) -> Result<HashMap<&'a str, Did>, BrokerError> {
        if quiet.is_empty() {
            return Ok(HashMap::new());
        }
        self.forget_rows(&names(quiet)).await?;
        self.run(&format!("DROP ROLE {}", list(quiet)?)).await?;
        Ok(did(quiet, &self.end_sessions_of(&names(quiet), &oids(quiet)).await?))
    }

    async fn end_in_order<'a>(&self, busy: &[Login<'a>]) -> Result<HashMap<&'a str, Did>, BrokerError> {
        if busy.is_empty() {
            return Ok(HashMap::new());
        }
        self.block_all(busy).await?;
        self.forget_rows(&names(busy)).await?;
        self.leave_all(busy).await?;
        let mut done = did(busy, &self.end_sessions_of(&names(busy), &oids(busy)).await?);
        // Asked again: until a moment ago they could still make something.
        let handles: Vec<&Handle> = busy.iter().map(|l| l.handle).collect();
        let (mut all, owning) = self.standing(&handles).await?;
        for login in owning.iter().filter(|login| login.owns) {
            let more = self.remove_owned(login.handle).await?;
            done.entry(login.handle.name.as_str()).or_default().notes.extend(more.notes);
        }
        all.extend(owning);
        if !all.is_empty() {
            self.run(&format!("DROP ROLE IF EXISTS {}", list(&all)?)).await?;
        }
        Ok(done)
    }

    /// One transaction, committed before anything else happens.
    async fn block_all(&self, logins: &[Login<'_>]) -> Result<(), BrokerError> {
        let block = |l: &Login<'_>| Ok(format!("ALTER ROLE {} NOLOGIN;\n", identifier(&l.handle.name)?));
        let all: String = logins.iter().map(block).collect::<Result<_, BrokerError>>()?;
        self.run(&all).await
    }

    /// Ends all their memberships.
    async fn leave_all(&self, logins: &[Login<'_>]) -> Result<(), BrokerError> {
        let client = self.primary.lend().await?;
        let members = "SELECT b.rolname::text, r.rolname::text FROM pg_auth_members m \
                       JOIN pg_roles b ON b.oid = m.roleid JOIN pg_roles r ON r.oid = m.member WHERE m.member = ANY ($1)";
        let rows = client.query_typed(members, &[(&oids(logins), Type::OID_ARRAY)]).await.map_err(trouble)?;
        client.done();
        let mut of: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for row in &rows {
            of.entry(row.get(0)).or_default().push(identifier(row.get(1))?);
        }
        let leave = |(role, who): (&str, Vec<String>)| {
            Ok(format!("REVOKE {} FROM {};\n", identifier(role)?, who.join(", ")))
        };
        let all: String = of.into_iter().map(leave).collect::<Result<_, BrokerError>>()?;
        if all.is_empty() { Ok(()) } else { self.run(&all).await }
    }

    async fn run(&self, statements: &str) -> Result<(), BrokerError> {
        let client = self.primary.lend().await?;
        client.batch_execute(statements).await.map_err(trouble)?;
        client.done();
        Ok(())
    }

    /// The question of a single look, asked for all at once; on record stands the question for the one.
    pub(super) async fn looked_at_many(
        &self,
        handles: &[Handle],
    ) -> Result<Vec<Result<Sight, BrokerError>>, BrokerError> {
        let mut seen: Vec<Vec<[i64; 4]>> = vec![Vec::new(); handles.len()];
        let names: Vec<&str> = handles.iter().map(|h| h.name.as_str()).collect();
        let oids: Vec<u32> = handles.iter().map(oid).collect();
        for node in std::iter::once(&self.looking).chain(&self.replicas) {
            let client = node.lend().await?;
            let args: [Arg<'_>; 2] = [(&names, Type::TEXT_ARRAY), (&oids, Type::OID_ARRAY)];
            let rows = client.query_typed(LOOK_MANY, &args).await.map_err(trouble)?;
            client.done();
            let mut found: HashMap<i64, [i64; 4]> =
                rows.iter().map(|r| (r.get(0), [r.get(1), r.get(2), r.get(3), r.get(4)])).collect();
            for (place, seen) in (1..).zip(&mut seen) {
                // What was not answered for is not taken for absent.
                let counts = found.remove(&place);
                seen.push(
                    counts.ok_or_else(|| BrokerError::new("target.refused", "a look was left unanswered"))?,
                );
            }
        }
        handles
            .iter()
            .zip(oids)
            .zip(seen)
            .map(|((handle, oid), counts)| {
                let query = LOOK.replace("$1", &literal(&handle.name)?).replace("$2", &oid.to_string());
                Ok(Ok(sight(query, &counts)))
            })
            .collect()
    }
}

/// Who is not quiet, by place: whether it is there under this OID, and whether it owns something or has prepared a
/// transaction. Whoever is not among the answers is there, has no session on this server and owns nothing.
const NOT_QUIET: &str = "WITH who AS (SELECT * FROM unnest($1::text[], $2::oid[]) WITH ORDINALITY AS w (name, oid, place)), \
    used AS MATERIALIZED (SELECT usesysid AS oid FROM pg_stat_get_activity(NULL) WHERE usesysid IS NOT NULL), \
    owning AS MATERIALIZED (SELECT refobjid AS oid FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = ANY ($2) \
    UNION SELECT ownerid FROM pg_prepared_xact()) \
    SELECT w.place, r.oid IS NOT NULL, w.oid IN (SELECT oid FROM owning) \
    FROM who w LEFT JOIN pg_roles r ON r.rolname = w.name::name AND r.oid = w.oid \
    WHERE r.oid IS NULL OR w.oid IN (SELECT oid FROM used) OR w.oid IN (SELECT oid FROM owning)";

/// [`LOOK`] for many: the catalogues are read once.
const LOOK_MANY: &str = "WITH who AS (SELECT * FROM unnest($1::text[], $2::oid[]) WITH ORDINALITY AS w (name, oid, place)), \
    roles AS MATERIALIZED (SELECT oid, rolname FROM pg_roles WHERE rolname = ANY ($1::name[]) OR oid = ANY ($2)), \
    live AS MATERIALIZED (SELECT usesysid, usename::text AS usename FROM pg_stat_activity), \
    prepared AS MATERIALIZED (SELECT owner::text AS owner FROM pg_prepared_xacts), \
    owned AS MATERIALIZED (SELECT refobjid FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = ANY ($2)) \
    SELECT w.place, (SELECT count(*) FROM roles r WHERE r.rolname = w.name::name OR r.oid = w.oid), \
    (SELECT count(*) FROM live l WHERE l.usesysid = w.oid OR l.usename = w.name), \
    (SELECT count(*) FROM prepared p WHERE p.owner = w.name), \
    (SELECT count(*) FROM owned o WHERE o.refobjid = w.oid) \
    FROM who w";

fn names<'a>(logins: &[Login<'a>]) -> Vec<&'a str> {
    logins.iter().map(|l| l.handle.name.as_str()).collect()
}

fn oids(logins: &[Login<'_>]) -> Vec<u32> {
    logins.iter().map(|l| l.oid).collect()
}

fn list(logins: &[Login<'_>]) -> Result<String, BrokerError> {
    let names: Vec<String> = logins.iter().map(|l| identifier(&l.handle.name)).collect::<Result<_, _>>()?;
    Ok(names.join(", "))
}

fn did<'a>(logins: &[Login<'a>], ended: &HashMap<u32, u64>) -> HashMap<&'a str, Did> {
    let sessions = |l: &Login<'a>| ended.get(&l.oid).copied().unwrap_or(0);
    let one = |l: &Login<'a>| (l.handle.name.as_str(), Did { sessions_ended: sessions(l), notes: vec![] });
    logins.iter().map(one).collect()
}
