//! PostgreSQL: one login per lease, member of one prepared capability role. Class B: we end its sessions. With our own
//! gateway in between, which holds the login and cuts, class P.
//!
//! What measurements say and this follows (versions 15 and later):
//!
//! * A session outlives `VALID UNTIL`, the revocation of its membership and the drop of its role. It is ended by
//!   `pg_terminate_backend`, found by the role's OID: once the role is dropped its name leads nowhere.
//! * A login blocked in the transaction that drops it is not blocked yet: `NOLOGIN` is committed first.
//! * What a login owns hinders its drop, in any database: `pg_shdepend` says where, and `DROP OWNED` runs there.
//! * A create of ours that a crash left on its way could arrive after the look that found nothing. Each runs on a
//!   connection that bears the lease's name beforehand, and revoking ends that connection first.

mod pool;
mod quote;
mod scope;
mod scram;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bailiwick_core::lease::{Mandate, Revocability, Step};
use bailiwick_core::tool::{Effect, Manifest, ResourceSpec, Role};
use bailiwick_core::value::Value;
use bailiwick_core::{SystemId, ToolId};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, SimpleQueryMessage};

pub use scope::{Columns, RowRule, Scope, Verbs};

use crate::error::BrokerError;
use crate::mark::Maker;
use crate::secret::Secret;
use crate::{
    Broker, Capabilities, Created, Credential, Did, Doing, Effective, Found, FoundKind, Handle, Plan, Sight,
    Spec,
};
use pool::{Pool, trouble};
use quote::{identifier, literal};

/// A login's end in the target lies this far behind that of its lease: the dead man's switch, not the control.
const SWITCH_MS: u64 = 60_000;
/// How many sessions one login may hold.
const SESSIONS: u32 = 8;
/// How long privileges that were read back are believed.
const BELIEVED: Duration = Duration::from_secs(10);
/// How long to wait for sessions to end after they were told to, in one attempt.
const ENDING: Duration = Duration::from_secs(4);
/// How many logins end in one transaction.
const BULK: usize = 500;
/// Longest value that narrows rows, in bytes.
const VALUE_MAX: usize = 256;

/// A PostgreSQL server as a target.
#[derive(Debug, Clone)]
pub struct Config {
    /// The target's name.
    pub system: SystemId,
    /// How we reach it: a connection string with the rights to make roles, end sessions and grant the capability
    /// roles.
    pub admin: Secret,
    /// Its replicas, where live sessions must be ended too.
    pub replicas: Vec<Secret>,
    /// Where agents reach it, `host` and `port`, if that is elsewhere (a pooler, a name).
    pub agents_reach: Option<(String, u16)>,
    /// What can be asked for.
    pub scopes: BTreeMap<String, Scope>,
}

/// A connector to one PostgreSQL server.
pub struct Postgres {
    system: SystemId,
    maker: Maker,
    scopes: BTreeMap<String, Scope>,
    primary: Pool,
    looking: Pool,
    replicas: Vec<Pool>,
    databases: HashMap<String, Pool>,
    agents_reach: Option<(String, u16)>,
    proxied: bool,
    believed: Mutex<HashMap<String, (Instant, Vec<String>)>>,
}

impl Postgres {
    /// A connector. Nothing is connected yet.
    ///
    /// # Errors
    /// `connector.config` if a connection string is not one, `scope.*` if a scope cannot be.
    pub fn new(config: Config, maker: Maker) -> Result<Postgres, BrokerError> {
        let pool = |url: &Secret| -> Result<Pool, BrokerError> {
            let odd = |what: &str| BrokerError::new("connector.config", format!("{}: {what}", config.system));
            let parsed: tokio_postgres::Config =
                url.expose().parse().map_err(|_| odd("not a connection string"))?;
            if parsed.get_ssl_mode() == SslMode::Require || !parsed.get_hosts().iter().all(is_here) {
                return Err(odd(
                    "connections are not encrypted yet, so the server must be on this machine or at the end of a tunnel",
                ));
            }
            Ok(Pool::new(parsed))
        };
        let (primary, looking) = (pool(&config.admin)?, pool(&config.admin)?);
        for (name, scope) in &config.scopes {
            tool(&config.system, name)?;
            scope.setup()?;
        }
        let databases = config
            .scopes
            .values()
            .map(|scope| (scope.database.clone(), primary.to(&scope.database)))
            .collect();
        Ok(Postgres {
            replicas: config.replicas.iter().map(pool).collect::<Result<_, _>>()?,
            system: config.system,
            scopes: config.scopes,
            agents_reach: config.agents_reach,
            proxied: false,
            believed: Mutex::default(),
            maker,
            primary,
            looking,
            databases,
        })
    }

    /// The same for sessions that our own gateway carries: it alone gets the logins, and each statement is an action
    /// of its own, `system.scope.select` and its like.
    #[must_use]
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// The statements that prepare the target for all scopes, for its administrator to read and run.
    ///
    /// # Errors
    /// `scope.*` if a scope cannot be.
    pub fn setup(&self) -> Result<String, BrokerError> {
        self.scopes.values().map(Scope::setup).collect()
    }

    /// Runs [`Postgres::setup`] with our own connection. Safe to run again.
    ///
    /// # Errors
    /// What the target says.
    pub async fn set_up(&self) -> Result<(), BrokerError> {
        for scope in self.scopes.values() {
            let client = self.database(&scope.database)?.lend().await?;
            client.batch_execute(&scope.setup()?).await.map_err(trouble)?;
            client.done();
        }
        Ok(())
    }

    fn scope(&self, tool: &ToolId) -> Result<&Scope, BrokerError> {
        self.scopes.get(tool.action()).filter(|_| tool.system() == self.system.as_str()).ok_or_else(|| {
            BrokerError::new("scope.unknown", format!("{} has no scope {}", self.system, tool.action()))
        })
    }

    fn database(&self, name: &str) -> Result<&Pool, BrokerError> {
        let unknown = || BrokerError::new("scope.unknown", format!("no scope is in database {name}"));
        self.databases.get(name).ok_or_else(unknown)
    }

    /// What the capability role can do, compared with the scope; believed for a moment, as it is shared by all its
    /// logins.
    async fn privileges(&self, scope: &Scope) -> Result<Vec<String>, BrokerError> {
        let key = format!("{}\0{}", scope.database, scope.role);
        let known = self.believed.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some((at, lines)) = known.filter(|(at, _)| at.elapsed() < BELIEVED) {
            tracing::trace!(role = %scope.role, age = ?at.elapsed(), "privileges known");
            return Ok(lines);
        }
        let client = self.database(&scope.database)?.lend().await?;
        let lines = scope.compare(&client).await?;
        client.done();
        self.believed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, (Instant::now(), lines.clone()));
        Ok(lines)
    }

    async fn prepared(&self, spec: Spec) -> Result<Plan, BrokerError> {
        let scope = self.scope(&spec.tool)?;
        if let Some(name) = spec.args.keys().find(|n| *n != "ttl_s" && !scope.rows.contains_key(*n)) {
            return Err(BrokerError::new("scope.argument", format!("the scope takes no argument `{name}`")));
        }
        row_values(scope, &spec.args)?;
        let name = self.maker.name(&spec.lease)?;
        self.privileges(scope).await?;
        let effect = scope.told();
        Ok(Plan::new(name, spec, effect))
    }

    async fn created(&self, plan: &Plan) -> Result<Created, BrokerError> {
        let scope = self.scope(&plan.spec.tool)?;
        let password = Secret::generate()?;
        // Off the reactor: 4 096 rounds take a millisecond.
        let asked = password.clone();
        let verifier = tokio::task::spawn_blocking(move || scram::verifier(&asked))
            .await
            .map_err(|_| BrokerError::new("connector.closed", "the connector is closing"))??;
        let statements = self.statements(plan, scope, &verifier)?;
        // Row values live beside the data; a login without them sees nothing, so they may come later.
        let client = self.database(&scope.database)?.lend().await?;
        let name = literal(&plan.name)?;
        client.batch_execute(&format!("SET application_name = {name}")).await.map_err(trouble)?;
        let answers = client.simple_query(&statements).await.map_err(trouble)?;
        client.done();
        // The last row is the answer to the last statement.
        let oid = answers.iter().rev().find_map(|m| match m {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        let external =
            oid.ok_or_else(|| BrokerError::new("target.refused", "the server did not tell the role's OID"))?;
        Ok(Created { external, credential: self.credential(plan, scope, password) })
    }

    /// One transaction: the login, its membership, its mark and the rows it may see.
    fn statements(&self, plan: &Plan, scope: &Scope, verifier: &str) -> Result<String, BrokerError> {
        let name = identifier(&plan.name)?;
        let switch = plan.spec.until.plus_ms(SWITCH_MS).0;
        let mark = self.maker.mark(&plan.spec.lease, &plan.name, plan.spec.until);
        let by = &plan.spec.on_behalf;
        let who = format!("{} {} {} {}", by.task, by.grant, by.agent, by.initiator);
        let mut rows = String::new();
        for (arg, value) in row_values(scope, &plan.spec.args)? {
            let (login, arg, value) = (literal(&plan.name)?, literal(arg)?, literal(&value)?);
            rows += &format!(
                "INSERT INTO {} (login, arg, value) VALUES ({login}, {arg}, {value});\n",
                scope::SCOPE_TABLE
            );
        }
        Ok(format!(
            "BEGIN;\n\
             SELECT set_config('bailiwick.on_behalf', {who}, true);\n\
             DO $$ BEGIN IF clock_timestamp() > to_timestamp({switch} / 1000.0) THEN RAISE EXCEPTION 'this login is over already'; END IF; END $$;\n\
             DO $$ BEGIN EXECUTE format('CREATE ROLE {name} LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS \
             CONNECTION LIMIT {SESSIONS} PASSWORD %L VALID UNTIL %L', {verifier}, to_timestamp({switch} / 1000.0)); END $$;\n\
             GRANT {role} TO {name};\n\
             COMMENT ON ROLE {name} IS {mark};\n\
             {rows}\
             COMMIT;\n\
             SET application_name = 'bailiwick';\n\
             SELECT oid FROM pg_roles WHERE rolname = {plain};",
            who = literal(&who)?,
            verifier = literal(verifier)?,
            role = identifier(&scope.role)?,
            mark = literal(&mark)?,
            plain = literal(&plan.name)?,
        ))
    }

    fn credential(&self, plan: &Plan, scope: &Scope, password: Secret) -> Credential {
        let config = self.primary.config();
        let (host, port) = self.agents_reach.clone().unwrap_or_else(|| {
            let host = match config.get_hosts().first() {
                Some(Host::Tcp(host)) => host.clone(),
                Some(Host::Unix(path)) => path.display().to_string(),
                None => "localhost".to_owned(),
            };
            (host, config.get_ports().first().copied().unwrap_or(5432))
        });
        let plain = [
            ("host", host),
            ("port", port.to_string()),
            ("database", scope.database.clone()),
            ("user", plan.name.clone()),
        ];
        let env = [
            ("PGHOST", "host"),
            ("PGPORT", "port"),
            ("PGDATABASE", "database"),
            ("PGUSER", "user"),
            ("PGPASSWORD", "password"),
        ];
        Credential {
            plain: plain.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            secret: [("password".to_owned(), password)].into(),
            env: env.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        }
    }

    async fn described(&self, handle: &Handle) -> Result<Effective, BrokerError> {
        let scope = self.scope(&handle.tool)?;
        let client = self.primary.lend().await?;
        let row = client
            .query_opt(
                "SELECT r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls, \
                 ARRAY (SELECT b.rolname::text FROM pg_auth_members m JOIN pg_roles b ON b.oid = m.roleid WHERE m.member = r.oid ORDER BY 1) \
                 FROM pg_roles r WHERE r.rolname = $1",
                &[&handle.name],
            )
            .await
            .map_err(trouble)?;
        client.done();
        let row =
            row.ok_or_else(|| BrokerError::new("target.gone", format!("there is no role {}", handle.name)))?;
        let (powers, members): (bool, Vec<String>) = (row.get(0), row.get(1));
        if powers || members != [scope.role.clone()] {
            let what =
                format!("{} is a member of {members:?} with special attributes: {powers}", handle.name);
            return Err(BrokerError::new("scope.wider", what));
        }
        Ok(Effective { privileges: self.privileges(scope).await? })
    }

    async fn revoked(&self, handle: &Handle, step: Step) -> Result<Did, BrokerError> {
        match step {
            Step::Block => self.block(handle).await,
            Step::CutData => self.cut(handle).await,
            Step::EndSessions => self.end_sessions(handle).await,
            Step::RemoveOwned => self.remove_owned(handle).await,
            Step::Drop => self.drop_role(handle).await,
            Step::Look => Ok(Did::default()),
        }
    }

    /// First what could still create it, then its logins.
    async fn block(&self, handle: &Handle) -> Result<Did, BrokerError> {
        let client = self.primary.lend().await?;
        if handle.external.is_none() {
            end_creators(&client, &handle.name).await?;
        }
        if self.ours(&client, handle).await?.is_some() {
            let name = identifier(&handle.name)?;
            client.batch_execute(&format!("ALTER ROLE {name} NOLOGIN")).await.map_err(trouble)?;
        }
        client.done();
        Ok(Did::default())
    }

    async fn cut(&self, handle: &Handle) -> Result<Did, BrokerError> {
        self.forget_rows(std::slice::from_ref(&handle.name)).await?;
        let client = self.primary.lend().await?;
        if self.ours(&client, handle).await?.is_some() {
            let name = identifier(&handle.name)?;
            let members = "SELECT b.rolname::text FROM pg_auth_members m JOIN pg_roles b ON b.oid = m.roleid \
                           JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = $1";
            for row in client.query(members, &[&handle.name]).await.map_err(trouble)? {
                let role = identifier(row.get(0))?;
                client.batch_execute(&format!("REVOKE {role} FROM {name}")).await.map_err(trouble)?;
            }
        }
        client.done();
        Ok(Did::default())
    }

    /// Deletes the rows that say what these logins may see: at once also for their live sessions.
    async fn forget_rows(&self, names: &[String]) -> Result<(), BrokerError> {
        let mut databases: Vec<&str> =
            self.scopes.values().filter(|s| !s.rows.is_empty()).map(|s| s.database.as_str()).collect();
        databases.sort_unstable();
        databases.dedup();
        for database in databases {
            let client = self.database(database)?.lend().await?;
            let forget = format!("DELETE FROM {} WHERE login::text = ANY ($1)", scope::SCOPE_TABLE);
            client.execute(&forget, &[&names]).await.map_err(trouble)?;
            client.done();
        }
        Ok(())
    }

    /// By OID where it is known, for its name leads nowhere once the role is gone; on every node.
    async fn end_sessions(&self, handle: &Handle) -> Result<Did, BrokerError> {
        let client = self.primary.lend().await?;
        let known = handle.external.as_deref().and_then(|oid| oid.parse::<u32>().ok());
        let oid = match known {
            Some(oid) => Some(oid),
            None => self.ours(&client, handle).await?,
        };
        client.done();
        let Some(oid) = oid else { return Ok(Did::default()) };
        self.end_sessions_of(&[oid]).await
    }

    async fn end_sessions_of(&self, oids: &[u32]) -> Result<Did, BrokerError> {
        let mut did = Did::default();
        for node in std::iter::once(&self.primary).chain(&self.replicas) {
            let client = node.lend().await?;
            did.sessions_ended += end_on(&client, oids).await?;
            client.done();
        }
        Ok(did)
    }

    /// Where the login owns something, or something was granted to it: `pg_shdepend` names the databases.
    async fn remove_owned(&self, handle: &Handle) -> Result<Did, BrokerError> {
        let mut did = Did::default();
        let client = self.primary.lend().await?;
        let Some(oid) = self.ours(&client, handle).await? else {
            client.done();
            return Ok(did);
        };
        let name = identifier(&handle.name)?;
        let databases = "SELECT DISTINCT d.datname::text FROM pg_shdepend s JOIN pg_database d ON d.oid = s.dbid \
                         WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = $1";
        let databases = client.query(databases, &[&oid]).await.map_err(trouble)?;
        let prepared = "SELECT gid, database::text FROM pg_prepared_xacts WHERE owner = $1";
        let prepared = client.query(prepared, &[&handle.name]).await.map_err(trouble)?;
        let member = format!(
            "DO $$ BEGIN IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN GRANT {name} TO CURRENT_USER; END IF; END $$"
        );
        client.batch_execute(&member).await.map_err(trouble)?;
        client.batch_execute(&format!("DROP OWNED BY {name}")).await.or_else(depends)?;
        client.done();
        for row in prepared {
            let there = self.primary.to(row.get(1));
            let gid = literal(row.get(0))?;
            there.lend().await?.batch_execute(&format!("ROLLBACK PREPARED {gid}")).await.map_err(trouble)?;
            did.notes.push("rolled back a prepared transaction".to_owned());
        }
        for row in databases {
            let database: &str = row.get(0);
            let there = self.primary.to(database);
            let client = there.lend().await?;
            if let Err(error) = client.batch_execute(&format!("DROP OWNED BY {name}")).await {
                depends(error)?;
                // Something of somebody else is built on it. The authority goes; the thing stays, with us.
                let give = format!("REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}");
                client.batch_execute(&give).await.map_err(trouble)?;
                did.notes
                    .push(format!("objects in {database} on which others depend now belong to our own role"));
            }
        }
        Ok(did)
    }

    async fn drop_role(&self, handle: &Handle) -> Result<Did, BrokerError> {
        let client = self.primary.lend().await?;
        if self.ours(&client, handle).await?.is_some() {
            let name = identifier(&handle.name)?;
            client.batch_execute(&format!("DROP ROLE IF EXISTS {name}")).await.map_err(trouble)?;
        }
        client.done();
        Ok(Did::default())
    }

    /// The OID of the role of this name, if there is one and it is ours: created under the OID that is on record, or
    /// bearing our mark.
    ///
    /// # Errors
    /// `target.lookalike` if it is somebody else's. It is never touched.
    async fn ours(&self, client: &Client, handle: &Handle) -> Result<Option<u32>, BrokerError> {
        let row = client
            .query_opt(
                "SELECT oid, shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1",
                &[&handle.name],
            )
            .await
            .map_err(trouble)?;
        let Some(row) = row else { return Ok(None) };
        let (oid, mark): (u32, Option<String>) = (row.get(0), row.get(1));
        let recorded = handle.external.as_deref() == Some(oid.to_string().as_str());
        let marked = mark.and_then(|m| self.maker.read(&handle.name, &m)).is_some_and(|l| l == handle.lease);
        if recorded || marked {
            return Ok(Some(oid));
        }
        let what = format!("a role {} is there that is not ours; it is left alone", handle.name);
        Err(BrokerError::new("target.lookalike", what))
    }

    /// The logins that nobody uses and that own nothing, in one transaction; then whoever slipped in meanwhile.
    async fn revoked_many(&self, handles: &[Handle]) -> Result<Vec<Result<Did, BrokerError>>, BrokerError> {
        let mut out = Vec::with_capacity(handles.len());
        for part in handles.chunks(BULK) {
            let quiet = self.quiet(part).await?;
            let names: Vec<String> = quiet.iter().map(|(name, _)| name.clone()).collect();
            let oids: Vec<u32> = quiet.iter().map(|(_, oid)| *oid).collect();
            if !names.is_empty() {
                self.forget_rows(&names).await?;
                let quoted: Vec<String> = names.iter().map(|n| identifier(n)).collect::<Result<_, _>>()?;
                let client = self.primary.lend().await?;
                client.batch_execute(&format!("DROP ROLE {}", quoted.join(", "))).await.map_err(trouble)?;
                client.done();
                self.end_sessions_of(&oids).await?;
            }
            let ended: std::collections::HashSet<&str> = names.iter().map(String::as_str).collect();
            let one = || Err(BrokerError::new("target.one_by_one", "it has sessions or owns something"));
            out.extend(
                part.iter().map(|h| if ended.contains(h.name.as_str()) { Ok(Did::default()) } else { one() }),
            );
        }
        Ok(out)
    }

    /// Those that are ours, have no session anywhere and own nothing; with their OIDs.
    async fn quiet(&self, handles: &[Handle]) -> Result<Vec<(String, u32)>, BrokerError> {
        let names: Vec<&str> = handles.iter().map(|h| h.name.as_str()).collect();
        let client = self.primary.lend().await?;
        let rows = client
            .query(
                "SELECT r.rolname::text, r.oid FROM pg_roles r WHERE r.rolname::text = ANY ($1) \
                 AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.usesysid = r.oid) \
                 AND NOT EXISTS (SELECT FROM pg_shdepend s WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid) \
                 AND NOT EXISTS (SELECT FROM pg_prepared_xacts x WHERE x.owner = r.rolname)",
                &[&names],
            )
            .await
            .map_err(trouble)?;
        client.done();
        let recorded: HashMap<&str, &str> =
            handles.iter().filter_map(|h| Some((h.name.as_str(), h.external.as_deref()?))).collect();
        Ok(rows
            .iter()
            .map(|row| (row.get::<_, String>(0), row.get::<_, u32>(1)))
            .filter(|(name, oid)| recorded.get(name.as_str()).copied() == Some(oid.to_string().as_str()))
            .collect())
    }

    async fn looked(&self, handle: &Handle) -> Result<Sight, BrokerError> {
        let oid = handle.external.as_deref().and_then(|o| o.parse::<u32>().ok()).unwrap_or(0);
        let mut counts = Vec::new();
        let (mut gone, mut sessions) = (true, 0);
        for (place, node) in std::iter::once(&self.looking).chain(&self.replicas).enumerate() {
            let client = node.lend().await?;
            let row = client.query_one(LOOK, &[&handle.name, &oid]).await.map_err(trouble)?;
            client.done();
            let [roles, live, prepared, owned]: [i64; 4] = [row.get(0), row.get(1), row.get(2), row.get(3)];
            // A replica replays the drop a moment later; its live sessions are what matters there.
            let here = if place == 0 { roles + live + prepared + owned } else { live };
            gone &= here == 0;
            sessions += u64::try_from(live).unwrap_or(0);
            let node = if place == 0 { "primary".to_owned() } else { format!("replica {place}") };
            counts
                .push(format!("{node}: roles {roles}, sessions {live}, prepared {prepared}, owned {owned}"));
        }
        let query = LOOK.replace("$1", &literal(&handle.name)?).replace("$2", &oid.to_string());
        Ok(Sight { gone, sessions, query, answer: counts.join("; ") })
    }

    async fn swept(&self) -> Result<Vec<Found>, BrokerError> {
        let client = self.looking.lend().await?;
        let rows = client
            .query(
                "SELECT rolname::text, oid, shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname LIKE 'bw\\_%' ORDER BY 1",
                &[],
            )
            .await
            .map_err(trouble)?;
        client.done();
        let found = rows.iter().map(|row| {
            let (name, oid, mark): (String, u32, Option<String>) = (row.get(0), row.get(1), row.get(2));
            let kind = match mark.and_then(|m| self.maker.read(&name, &m)) {
                Some(lease) => FoundKind::Ours { lease },
                None => FoundKind::Lookalike,
            };
            Found { name, external: Some(oid.to_string()), kind }
        });
        Ok(found.collect())
    }
}

/// What of a login is left on a node.
const LOOK: &str = "SELECT (SELECT count(*) FROM pg_roles WHERE rolname = $1 OR oid = $2), \
    (SELECT count(*) FROM pg_stat_activity WHERE usesysid = $2 OR usename = $1), \
    (SELECT count(*) FROM pg_prepared_xacts WHERE owner = $1), \
    (SELECT count(*) FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = $2)";

/// Ends our own connections on which a create of this name may still be under way, and waits until they are gone.
async fn end_creators(client: &Client, name: &str) -> Result<(), BrokerError> {
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1 \
               AND pid <> pg_backend_pid() AND usename = current_user";
    until_none(client, end, &[&name]).await.map(|_| ())
}

async fn end_on(client: &Client, oids: &[u32]) -> Result<u64, BrokerError> {
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usesysid = ANY ($1) \
               AND pid <> pg_backend_pid()";
    until_none(client, end, &[&oids]).await
}

/// Repeats a statement that ends sessions and counts them until it counts none; gives the most it counted.
async fn until_none(
    client: &Client,
    statement: &str,
    args: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<u64, BrokerError> {
    let begun = Instant::now();
    let mut most = 0;
    let mut pause = Duration::from_millis(1);
    loop {
        let row = client.query_one(statement, args).await.map_err(trouble)?;
        let left = u64::try_from(row.get::<_, i64>(0)).unwrap_or(0);
        most = most.max(left);
        if left == 0 {
            return Ok(most);
        }
        if begun.elapsed() > ENDING {
            let what = format!("{left} sessions were told to end and have not");
            return Err(BrokerError::new("target.sessions_stay", what));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Whether a failure only says that something else depends on what was to be dropped.
fn depends(error: tokio_postgres::Error) -> Result<(), BrokerError> {
    match error.code() {
        Some(code) if *code == tokio_postgres::error::SqlState::DEPENDENT_OBJECTS_STILL_EXIST => Ok(()),
        _ => Err(trouble(error)),
    }
}

/// The values of the arguments that narrow rows; each must be there.
fn row_values<'a>(
    scope: &'a Scope,
    args: &BTreeMap<String, Value>,
) -> Result<Vec<(&'a str, String)>, BrokerError> {
    let mut out = Vec::new();
    for arg in scope.rows.keys() {
        let value = args.get(arg).and_then(crate::plain).filter(|v| !v.is_empty() && v.len() <= VALUE_MAX);
        let value = value.ok_or_else(|| {
            BrokerError::new(
                "scope.argument",
                format!("the scope needs `{arg}`: a text or number of at most {VALUE_MAX} bytes"),
            )
        })?;
        literal(&value)?;
        out.push((arg.as_str(), value));
    }
    Ok(out)
}

/// Whether a host is this machine.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => crate::is_here(name),
    }
}

fn tool(system: &SystemId, scope: &str) -> Result<ToolId, BrokerError> {
    ToolId::of(system, scope).map_err(|e| BrokerError::new("scope.name", e.to_string()))
}

impl Postgres {
    /// What asking for a login is. One that only our gateway holds reads nothing by being there.
    fn login_manifest(&self, name: &str, scope: &Scope) -> Option<Manifest> {
        let effect = if self.proxied { Effect::Read } else { scope.effect };
        let mut manifest = Manifest::new(tool(&self.system, name).ok()?, effect);
        for arg in scope.rows.keys() {
            manifest = manifest.narrowed_by(arg);
        }
        manifest = manifest.arg("ttl_s", Role::Free);
        if self.proxied {
            manifest.trusted_result = true;
        } else {
            manifest.labels = scope.labels.clone();
        }
        manifest.resource = Some(self.resource(scope));
        Some(manifest)
    }

    /// What a statement is: which tables, columns and functions, and the values that say which rows or are stored.
    fn statement_manifest(&self, name: &str, scope: &Scope, verb: &str) -> Option<Manifest> {
        let effect = match verb {
            "select" => Effect::Read,
            "insert" => Effect::Create,
            "update" => Effect::Update,
            _ => Effect::Delete,
        };
        let mut manifest = Manifest::new(tool(&self.system, &format!("{name}.{verb}")).ok()?, effect)
            .arg("tables", Role::Free)
            .arg("columns", Role::Free)
            .arg("functions", Role::Free)
            .arg("selectors", Role::Selector)
            .arg("values", Role::Content)
            .arg("sql", Role::Free);
        manifest.labels = scope.labels.clone();
        manifest.resource = Some(self.resource(scope));
        Some(manifest)
    }

    fn resource(&self, scope: &Scope) -> ResourceSpec {
        ResourceSpec {
            kind: "Target".to_owned(),
            from: None,
            known: [(self.system.to_string(), crate::attributes(&self.capabilities(), &scope.labels))].into(),
        }
    }
}

impl Broker for Postgres {
    fn system(&self) -> &SystemId {
        &self.system
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "postgres",
            class: if self.proxied { Revocability::P } else { Revocability::B },
            native_expiry: true,
            expiry_ends_sessions: false,
            ttl_secs_min: 1,
            ttl_secs_max: self.scopes.values().map(|s| s.ttl_s).max().unwrap_or(0),
            attribution: "the login's name in the server's log; task, grant and agent in its comment",
            remains: "a statement that runs when its session is ended may have committed",
        }
    }

    fn longest_secs(&self, scope: &ToolId) -> u64 {
        self.scope(scope).map_or(0, |scope| scope.ttl_s)
    }

    fn scopes(&self) -> Vec<Manifest> {
        let mut out = Vec::new();
        for (name, scope) in &self.scopes {
            out.extend(self.login_manifest(name, scope));
            if self.proxied {
                out.extend(
                    scope.effects().into_iter().filter_map(|verb| self.statement_manifest(name, scope, verb)),
                );
            }
        }
        out
    }

    fn prepare(&self, spec: Spec) -> Doing<'_, Plan> {
        Box::pin(self.prepared(spec))
    }

    fn create<'a>(&'a self, _mandate: &'a Mandate, plan: &'a Plan) -> Doing<'a, Created> {
        Box::pin(self.created(plan))
    }

    fn describe<'a>(&'a self, handle: &'a Handle) -> Doing<'a, Effective> {
        Box::pin(self.described(handle))
    }

    fn revoke<'a>(&'a self, handle: &'a Handle, step: Step) -> Doing<'a, Did> {
        Box::pin(self.revoked(handle, step))
    }

    fn revoke_many<'a>(&'a self, handles: &'a [Handle]) -> Doing<'a, Vec<Result<Did, BrokerError>>> {
        Box::pin(self.revoked_many(handles))
    }

    fn look<'a>(&'a self, handle: &'a Handle) -> Doing<'a, Sight> {
        Box::pin(self.looked(handle))
    }

    fn sweep(&self) -> Doing<'_, Vec<Found>> {
        Box::pin(self.swept())
    }
}
