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

mod many;
mod pool;
mod quote;
mod scope;
mod scram;
mod sessions;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bailiwick_core::lease::{Mandate, Revocability, Step};
use bailiwick_core::tool::{Effect, Manifest, ResourceSpec, Role};
use bailiwick_core::value::Value;
use bailiwick_core::{SystemId, Time, ToolId};
use bailiwick_tls::PostgresTls;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

pub use scope::{Columns, RowRule, Scope, Verbs};
pub use scram::ROUNDS;

use crate::error::BrokerError;
use crate::mark::Maker;
use crate::private::Tls;
use crate::secret::Secret;
use crate::{
    Broker, Capabilities, Created, Credential, Did, Doing, Effective, Found, FoundKind, Handle, Plan, Sight,
    Spec,
};
use pool::{Lent, Pool, trouble};
use quote::{identifier, literal};
use sessions::{end_creators, end_on};

/// A login's end in the target lies this far behind that of its lease: the dead man's switch, not the control.
const SWITCH_MS: u64 = 60_000;
/// How many sessions one login may hold.
const SESSIONS: u32 = 8;
/// How long privileges that were read back are believed.
const BELIEVED: Duration = Duration::from_secs(10);
/// So many rounds of key stretching take no longer than handing them to another thread.
const ROUNDS_HERE: u32 = 64;
/// So many rounds are asked of servers and clients at most.
const ROUNDS_MOST: u32 = 100_000;
/// What to do about a server elsewhere.
const NOT_HERE: &str = "the server must be on this machine or at the end of a tunnel, or state `tls`";
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
    /// Rounds of key stretching in the verifiers of logins. The server does them too when it makes a login, a few
    /// milliseconds for 4 096. Our passwords have 192 random bits, which no stretching makes safer; but some drivers
    /// (JDBC's) refuse fewer.
    pub scram_rounds: NonZeroU32,
    /// How its servers prove who they are; without it, they must be on this machine.
    pub tls: Option<Tls>,
    /// What can be asked for.
    pub scopes: BTreeMap<String, Scope>,
}

impl Config {
    /// How the server proves who it is: as stated, or verified because its address asks for TLS; `None`: not at all.
    ///
    /// # Errors
    /// `connector.config` if the connection string is not one.
    pub fn private(&self) -> Result<Option<Tls>, BrokerError> {
        let parsed: tokio_postgres::Config = self.admin.expose().parse().map_err(|_| {
            BrokerError::new("connector.config", format!("{}: not a connection string", self.system))
        })?;
        Ok(self.privately(&parsed))
    }

    fn privately(&self, parsed: &tokio_postgres::Config) -> Option<Tls> {
        let asked = parsed.get_ssl_mode() == SslMode::Require;
        self.tls.clone().or_else(|| asked.then(Tls::default))
    }
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
    rounds: NonZeroU32,
    /// What agents are told to make of the server's certificate, where they reach it as we do.
    agents_mode: Option<&'static str>,
    believed: Mutex<HashMap<String, (Instant, Vec<String>)>>,
}

impl Postgres {
    /// A connector. Nothing is connected yet.
    ///
    /// # Errors
    /// `connector.config` if a connection string is not one, `scope.*` if a scope cannot be.
    pub fn new(config: Config, maker: Maker) -> Result<Postgres, BrokerError> {
        if config.scram_rounds.get() > ROUNDS_MOST {
            let what = format!("{}: `scram_rounds` is at most {ROUNDS_MOST}", config.system);
            return Err(BrokerError::new("connector.config", what));
        }
        let pool = |url: &Secret| -> Result<Pool, BrokerError> {
            let odd = |what: &str| BrokerError::new("connector.config", format!("{}: {what}", config.system));
            let mut parsed: tokio_postgres::Config =
                url.expose().parse().map_err(|_| odd("not a connection string"))?;
            let Some(private) = config.privately(&parsed) else {
                if !is_here(&parsed) {
                    return Err(odd(NOT_HERE));
                }
                parsed.ssl_mode(SslMode::Disable);
                return Ok(Pool::new(parsed, PostgresTls::none()));
            };
            parsed.ssl_mode(SslMode::Require);
            let tls = PostgresTls::verifying(&private.trust()?, private.name);
            Ok(Pool::new(parsed, tls))
        };
        let (primary, looking) = (pool(&config.admin)?, pool(&config.admin)?);
        for (name, scope) in &config.scopes {
            tool(&config.system, name)?;
            scope.setup()?;
        }
        let private = primary.config().get_ssl_mode() == SslMode::Require && config.agents_reach.is_none();
        let named = config.tls.as_ref().is_some_and(|tls| tls.name.is_some());
        let agents_mode = private.then_some(if named { "verify-ca" } else { "verify-full" });
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
            rounds: config.scram_rounds,
            agents_mode,
            believed: Mutex::default(),
            maker,
            primary,
            looking,
            databases,
        })
    }

    /// The same for sessions that our own gateway carries: it alone gets the logins, and each statement is an action
    /// of its own, `system.scope.select` and its like. Our gateway takes a verifier of one round.
    ///
    /// # Errors
    /// `connector.config` if our gateway would reach the server beyond this machine without TLS.
    pub fn proxied(mut self) -> Result<Self, BrokerError> {
        let private = self.primary.config().get_ssl_mode() == SslMode::Require;
        let reached = self.agents_reach.as_ref().is_none_or(|(host, _)| crate::is_here(host));
        if !private && !reached {
            let what = format!("{}: the gateway reaches the database elsewhere; {NOT_HERE}", self.system);
            return Err(BrokerError::new("connector.config", what));
        }
        self.proxied = true;
        self.rounds = NonZeroU32::MIN;
        Ok(self)
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
        let (verifier, client) = tokio::try_join!(
            self.verifier(password.clone()),
            // Its name is on the connection, and the server has said so, before a create can be under way on it.
            self.bearing(&plan.name, scope),
        )?;
        let statements = self.statements(plan, scope, &verifier)?;
        let answers = client.simple_query(&statements).await.map_err(trouble)?;
        client.done();
        // The last row is the answer to the last statement.
        let oid = answers.iter().rev().find_map(|m| match m {
            SimpleQueryMessage::Row(row) => row.get(1).map(str::to_owned),
            _ => None,
        });
        let external =
            oid.ok_or_else(|| BrokerError::new("target.refused", "the server did not tell the role's OID"))?;
        Ok(Created { external, credential: self.credential(plan, scope, password) })
    }

    async fn verifier(&self, password: Secret) -> Result<String, BrokerError> {
        let rounds = self.rounds;
        if rounds.get() <= ROUNDS_HERE {
            return scram::verifier(&password, rounds);
        }
        // Off the reactor: 4 096 rounds take a millisecond.
        tokio::task::spawn_blocking(move || scram::verifier(&password, rounds))
            .await
            .map_err(|_| BrokerError::new("connector.closed", "the connector is closing"))?
    }

    async fn bearing(&self, name: &str, scope: &Scope) -> Result<Lent<'_>, BrokerError> {
        let client = self.database(&scope.database)?.lend().await?;
        let bear = format!("SET application_name = {}", literal(name)?);
        client.batch_execute(&bear).await.map_err(trouble)?;
        Ok(client)
    }

    /// One transaction: the login, its membership, its mark and the rows it may see.
    ///
    /// Its commit waits for no flush. A server that crashes in the next moment has forgotten a login that nobody could
    /// miss: it opens nothing, and ending it finds nothing. What ends logins is flushed, and with it all that came before.
    fn statements(&self, plan: &Plan, scope: &Scope, verifier: &str) -> Result<String, BrokerError> {
        let name = identifier(&plan.name)?;
        let switch = plan.spec.until.plus_ms(SWITCH_MS);
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
             SELECT set_config('bailiwick.on_behalf', {who}, true), set_config('synchronous_commit', 'off', true), \
             CASE WHEN clock_timestamp() > {until}::timestamptz THEN ('this login is over already: ' || clock_timestamp())::int END;\n\
             CREATE ROLE {name} LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS \
             CONNECTION LIMIT {SESSIONS} PASSWORD {verifier} VALID UNTIL {until} IN ROLE {role};\n\
             COMMENT ON ROLE {name} IS {mark};\n\
             {rows}\
             COMMIT;\n\
             SELECT set_config('application_name', 'bailiwick', false), {regrole}::regrole::oid;",
            who = literal(&who)?,
            until = literal(&moment(switch)?)?,
            verifier = literal(verifier)?,
            role = identifier(&scope.role)?,
            mark = literal(&mark)?,
            regrole = literal(&name)?,
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
        let mut plain = vec![
            ("host", host),
            ("port", port.to_string()),
            ("database", scope.database.clone()),
            ("user", plan.name.clone()),
        ];
        if let Some(mode) = self.agents_mode {
            plain.push(("sslmode", mode.to_owned()));
        }
        let mut env = vec![
            ("PGHOST", "host"),
            ("PGPORT", "port"),
            ("PGDATABASE", "database"),
            ("PGUSER", "user"),
            ("PGPASSWORD", "password"),
        ];
        env.extend(self.agents_mode.map(|_| ("PGSSLMODE", "sslmode")));
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
            .query_typed_opt(
                "SELECT r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls, \
                 ARRAY (SELECT b.rolname::text FROM pg_auth_members m JOIN pg_roles b ON b.oid = m.roleid WHERE m.member = r.oid ORDER BY 1) \
                 FROM pg_roles r WHERE r.rolname = $1",
                &[(&handle.name, Type::TEXT)],
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
        self.forget_rows(&[&handle.name]).await?;
        let client = self.primary.lend().await?;
        if self.ours(&client, handle).await?.is_some() {
            let name = identifier(&handle.name)?;
            let members = "SELECT b.rolname::text FROM pg_auth_members m JOIN pg_roles b ON b.oid = m.roleid \
                           JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = $1";
            for row in client.query_typed(members, &[(&handle.name, Type::TEXT)]).await.map_err(trouble)? {
                let role = identifier(row.get(0))?;
                client.batch_execute(&format!("REVOKE {role} FROM {name}")).await.map_err(trouble)?;
            }
        }
        client.done();
        Ok(Did::default())
    }

    /// Deletes the rows that say what these logins may see: at once also for their live sessions.
    async fn forget_rows(&self, names: &[&str]) -> Result<(), BrokerError> {
        let mut databases: Vec<&str> =
            self.scopes.values().filter(|s| !s.rows.is_empty()).map(|s| s.database.as_str()).collect();
        databases.sort_unstable();
        databases.dedup();
        for database in databases {
            let client = self.database(database)?.lend().await?;
            let forget = format!("DELETE FROM {} WHERE login::text = ANY ($1)", scope::SCOPE_TABLE);
            client.query_typed(&forget, &[(&names, Type::TEXT_ARRAY)]).await.map_err(trouble)?;
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
        let ended = self.end_sessions_of(&[&handle.name], &[oid]).await?;
        Ok(Did { sessions_ended: ended.values().sum(), notes: vec![] })
    }

    /// On every node at the same time; how many of each.
    async fn end_sessions_of(&self, names: &[&str], oids: &[u32]) -> Result<HashMap<u32, u64>, BrokerError> {
        let node = |node| async move {
            let client = Pool::lend(node).await?;
            let ended = end_on(&client, names, oids).await?;
            client.done();
            Ok::<_, BrokerError>(ended)
        };
        let mut all = HashMap::new();
        for ended in futures_util::future::join_all(self.nodes().map(node)).await {
            for (oid, n) in ended? {
                *all.entry(oid).or_default() += n;
            }
        }
        Ok(all)
    }

    fn nodes(&self) -> impl Iterator<Item = &Pool> {
        std::iter::once(&self.primary).chain(&self.replicas)
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
        let databases = client.query_typed(databases, &[(&oid, Type::OID)]).await.map_err(trouble)?;
        let prepared = "SELECT gid, database::text FROM pg_prepared_xacts WHERE owner = $1";
        let prepared = client.query_typed(prepared, &[(&handle.name, Type::TEXT)]).await.map_err(trouble)?;
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
            .query_typed_opt(
                "SELECT oid, shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1",
                &[(&handle.name, Type::TEXT)],
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

    async fn looked(&self, handle: &Handle) -> Result<Sight, BrokerError> {
        let oid = oid(handle);
        let mut counts = Vec::new();
        for node in std::iter::once(&self.looking).chain(&self.replicas) {
            let client = node.lend().await?;
            let row = client
                .query_typed_one(LOOK, &[(&handle.name, Type::TEXT), (&oid, Type::OID)])
                .await
                .map_err(trouble)?;
            client.done();
            counts.push([row.get(0), row.get(1), row.get(2), row.get(3)]);
        }
        let query = LOOK.replace("$1", &literal(&handle.name)?).replace("$2", &oid.to_string());
        Ok(sight(query, &counts))
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

/// The OID on record; 0, which no role has, if there is none.
fn oid(handle: &Handle) -> u32 {
    handle.external.as_deref().and_then(|oid| oid.parse().ok()).unwrap_or(0)
}

/// What the counts of all nodes mean: roles, sessions, prepared transactions, objects owned.
fn sight(query: String, counts: &[[i64; 4]]) -> Sight {
    let (mut gone, mut sessions, mut answers) = (true, 0, Vec::new());
    for (place, [roles, live, prepared, owned]) in counts.iter().enumerate() {
        // A replica replays the drop a moment later; its live sessions are what matters there.
        let here = if place == 0 { roles + live + prepared + owned } else { *live };
        gone &= here == 0;
        sessions += u64::try_from(*live).unwrap_or(0);
        let node = if place == 0 { "primary".to_owned() } else { format!("replica {place}") };
        answers.push(format!("{node}: roles {roles}, sessions {live}, prepared {prepared}, owned {owned}"));
    }
    Sight { gone, sessions, query, answer: answers.join("; ") }
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

/// Whether all addresses in a connection string are this machine.
fn is_here(config: &tokio_postgres::Config) -> bool {
    let here = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => crate::is_here(name),
    };
    config.get_hosts().iter().all(here) && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
}

/// A moment as PostgreSQL reads it under any setting (RFC 3339).
fn moment(at: Time) -> Result<String, BrokerError> {
    let known = i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let odd =
        || BrokerError::new("scope.argument", format!("{} ms is no moment that a login could end at", at.0));
    known.map(|at| at.to_string()).ok_or_else(odd)
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

    fn look_many<'a>(&'a self, handles: &'a [Handle]) -> Doing<'a, Vec<Result<Sight, BrokerError>>> {
        Box::pin(self.looked_at_many(handles))
    }

    fn sweep(&self) -> Doing<'_, Vec<Found>> {
        Box::pin(self.swept())
    }
}
