//! The one configuration file, `bailiwick.yaml`: what an operator states about people, agents, tools, policies.
//!
//! An unknown key is an error with a line and a suggestion; a literal secret is an error with a line and without
//! the secret. What `bailiwick up` reads here becomes events in the log, so the log alone is the state. The
//! variables `BAILIWICK_LISTEN`, `_EXTERNAL_URL`, `_DATA`, `_TRUST_DOMAIN`, `_STORE` and `_LEDGER_HEAD` come before the
//! file.

mod api;
pub(crate) mod secret;
mod targets;
pub(crate) mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bailiwick_core::agent::{Agent, Person};
use bailiwick_core::ids::{GroupId, PrincipalId, SystemId};
use bailiwick_core::registry::Directory;
use bailiwick_core::tool::Manifest;
use bailiwick_gateway::egress::spec::ApiSpec;
use bailiwick_gateway::{Secret, Transport, UpstreamSpec};
use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_saphyr::Spanned;

pub(crate) use targets::{Target, carried};
pub(crate) use yaml::ConfigError;

/// The published schema of the configuration, for editors and checks.
pub(crate) const SCHEMA: &str = include_str!("../../../../schema/config.schema.json");
/// The name that is looked for when none is given.
pub(crate) const FILE_NAME: &str = "bailiwick.yaml";
/// Where the server listens unless told otherwise.
pub(crate) const LISTEN_DEFAULT: &str = "127.0.0.1:7777";
/// Where sessions with databases are taken unless told otherwise.
const POSTGRES_LISTEN_DEFAULT: &str = "127.0.0.1:7778";
/// Lifetime of task tokens unless told otherwise, in seconds.
const TOKEN_TTL_SECS_DEFAULT: u64 = 120;

/// The configuration with every path resolved and every reference checked.
#[derive(Debug)]
pub(crate) struct Config {
    /// SPIFFE trust domain of the agents.
    pub(crate) trust_domain: String,
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// The URL by which clients reach it; absent: that of the listener.
    pub(crate) external_url: Option<String>,
    /// The folder of keys and the embedded store.
    pub(crate) data: PathBuf,
    /// The store.
    pub(crate) store: Store,
    /// The file outside the data folder in which the ledger's newest signed head is kept.
    pub(crate) head: Option<PathBuf>,
    /// People and workflows.
    pub(crate) people: Vec<Person>,
    /// Facts that explain values.
    pub(crate) directory: Option<Directory>,
    /// Agents. Registering one grants nothing.
    pub(crate) agents: Vec<Agent>,
    /// Tool servers.
    pub(crate) systems: Vec<UpstreamSpec>,
    /// HTTP APIs.
    pub(crate) apis: Vec<ApiSpec>,
    /// Systems that credentials are given out in.
    pub(crate) targets: Vec<Target>,
    /// Where sessions with databases are taken.
    pub(crate) postgres: PostgresListener,
    /// The most credentials that may stand.
    pub(crate) leases: bailiwick_core::lease::Quota,
    /// What is stated about tools, those of HTTP APIs and the scopes of targets included.
    pub(crate) tools: Vec<Manifest>,
    /// Policy texts with their names; `None`: the built-in defaults.
    pub(crate) policies: Option<Vec<(String, String)>>,
    /// Where they and their tests are.
    pub(crate) policy_paths: Vec<PathBuf>,
    /// Lifetime of task tokens in seconds.
    pub(crate) token_ttl_secs: u64,
}

/// Where the gateway takes sessions with databases.
#[derive(Debug)]
pub(crate) struct PostgresListener {
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// The host that clients are told, if not the listener's own.
    pub(crate) host: Option<String>,
    /// The files of certificate chain and key, as PEM.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
}

/// Whether secrets are fetched. Only what starts a server needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrets {
    /// Fetch them; a missing one is an error.
    Fetch,
    /// Check the references and leave the secrets where they are.
    Leave,
}

/// Where relative paths start, and what to do about secrets.
#[derive(Clone, Copy)]
struct Base<'a> {
    root: &'a Path,
    secrets: Secrets,
}

impl Base<'_> {
    fn secret(self, reference: &secret::SecretRef) -> Result<Secret, ConfigError> {
        match self.secrets {
            Secrets::Fetch => reference.resolve(self.root),
            Secrets::Leave => Ok(Secret::new(String::new())),
        }
    }
}

/// Where the log is kept.
#[derive(Debug)]
pub(crate) enum Store {
    /// SQLite in the data folder.
    Embedded,
    /// PostgreSQL at this connection string.
    Postgres(Secret),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: Spanned<u64>,
    #[serde(default = "trust_domain_default")]
    trust_domain: Spanned<String>,
    #[serde(default)]
    listen: Option<Spanned<String>>,
    #[serde(default)]
    external_url: Option<Spanned<String>>,
    #[serde(default)]
    data: Option<PathBuf>,
    #[serde(default)]
    store: StoreChoice,
    #[serde(default)]
    ledger: LedgerEntry,
    #[serde(default, rename = "mode")]
    _mode: Mode,
    #[serde(default)]
    people: Vec<PersonEntry>,
    #[serde(default)]
    directory: Option<Directory>,
    #[serde(default)]
    agents: Vec<Agent>,
    #[serde(default)]
    systems: BTreeMap<String, Spanned<SystemEntry>>,
    #[serde(default)]
    targets: BTreeMap<String, Spanned<targets::TargetEntry>>,
    #[serde(default)]
    postgres_gateway: PostgresGatewayEntry,
    #[serde(default)]
    tools: Tools,
    #[serde(default)]
    policies: Option<Paths>,
    #[serde(default)]
    limits: Limits,
}

fn trust_domain_default() -> Spanned<String> {
    Spanned {
        value: "bailiwick.local".to_owned(),
        referenced: serde_saphyr::Location::UNKNOWN,
        defined: serde_saphyr::Location::UNKNOWN,
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoreChoice {
    #[default]
    Embedded,
    Postgres(PostgresEntry),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PostgresEntry {
    url: Spanned<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LedgerEntry {
    #[serde(default)]
    head: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PostgresGatewayEntry {
    #[serde(default)]
    listen: Option<Spanned<String>>,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    certificate: Option<PathBuf>,
    #[serde(default)]
    key: Option<PathBuf>,
}

/// Enforcing is the only mode there is; the key says so where it can be seen.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Enforce,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PersonEntry {
    id: PrincipalId,
    #[serde(default)]
    groups: BTreeSet<GroupId>,
    #[serde(default)]
    workload: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SystemEntry {
    Stdio(StdioEntry),
    Http(HttpEntry),
    Api(api::ApiEntry),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StdioEntry {
    command: Spanned<String>,
    #[serde(default)]
    args: Vec<Spanned<String>>,
    #[serde(default)]
    env: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    cwd: Option<PathBuf>,
    #[serde(default)]
    call_timeout_ms: Option<u64>,
    #[serde(default)]
    start_timeout_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpEntry {
    url: Spanned<String>,
    #[serde(default)]
    headers: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    call_timeout_ms: Option<u64>,
    #[serde(default)]
    start_timeout_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    #[serde(default)]
    token_ttl_s: Option<Spanned<u64>>,
    #[serde(default)]
    leases_per_task: Option<u32>,
    #[serde(default)]
    leases_per_agent: Option<u32>,
    #[serde(default)]
    leases_per_target: Option<u32>,
}

/// The word that stands for the built-in policies.
const DEFAULTS: &str = "defaults";

/// Files and folders of policies; `defaults` among them stands for the built-in ones.
#[derive(Debug)]
struct Paths(Vec<String>);

impl Paths {
    fn files<'a>(&'a self, root: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
        self.0.iter().filter(|path| *path != DEFAULTS).map(|path| root.join(path))
    }

    fn policies(&self, root: &Path) -> Result<Vec<(String, String)>, ConfigError> {
        let mut all = Vec::new();
        if self.0.iter().any(|path| path == DEFAULTS) {
            all.extend(bailiwick_policy::defaults().into_iter().map(|s| (s.name, s.text)));
        }
        for path in self.files(root) {
            all.extend(policies(&path)?);
        }
        Ok(all)
    }
}

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> de::Visitor<'de> for OneOrMany {
            type Value = Paths;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path or a list of paths")
            }
            fn visit_str<E: de::Error>(self, path: &str) -> Result<Paths, E> {
                Ok(Paths(vec![path.to_owned()]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Paths, A::Error> {
                let mut paths = Vec::new();
                while let Some(path) = seq.next_element()? {
                    paths.push(path);
                }
                Ok(Paths(paths))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// Manifests written here, or the files they are in.
#[derive(Debug, Default)]
enum Tools {
    #[default]
    None,
    Here(Vec<Manifest>),
    Files(String),
}

impl<'de> Deserialize<'de> for Tools {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = Tools;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of manifests, or the path of files that hold them")
            }
            fn visit_str<E: de::Error>(self, path: &str) -> Result<Tools, E> {
                Ok(Tools::Files(path.to_owned()))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Tools, A::Error> {
                let mut manifests = Vec::new();
                while let Some(manifest) = seq.next_element()? {
                    manifests.push(manifest);
                }
                Ok(Tools::Here(manifests))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// One manifest or a list of them, as a file of `tools` holds them.
struct Manifests(Vec<Manifest>);

impl<'de> Deserialize<'de> for Manifests {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> de::Visitor<'de> for OneOrMany {
            type Value = Manifests;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a manifest or a list of manifests")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Manifests, A::Error> {
                let one = Manifest::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Manifests(vec![one]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Manifests, A::Error> {
                let mut manifests = Vec::new();
                while let Some(manifest) = seq.next_element()? {
                    manifests.push(manifest);
                }
                Ok(Manifests(manifests))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

impl Config {
    /// Reads the configuration: from `path`, else from `bailiwick.yaml` in this folder, else the defaults.
    ///
    /// # Errors
    /// [`ConfigError`] with the line.
    pub(crate) fn find(path: Option<&Path>, secrets: Secrets) -> Result<Config, ConfigError> {
        let overrides = Overrides::from_env();
        match path {
            None if !Path::new(FILE_NAME).exists() => {
                Config::read(Path::new(FILE_NAME), "version: 1\n", &overrides, secrets)
            }
            path => {
                let path = path.unwrap_or(Path::new(FILE_NAME));
                Config::read(path, &yaml::slurp(path)?, &overrides, secrets)
            }
        }
    }

    /// Reads the configuration from the text of a file.
    pub(crate) fn read(
        path: &Path,
        text: &str,
        overrides: &Overrides,
        secrets: Secrets,
    ) -> Result<Config, ConfigError> {
        let file: File = yaml::parse(path, text)?;
        let root = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        settle(file, Base { root, secrets }, overrides).map_err(|e| e.in_file(path))
    }
}

/// What the environment says instead of the file.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    listen: Option<String>,
    external_url: Option<String>,
    data: Option<PathBuf>,
    trust_domain: Option<String>,
    store: Option<String>,
    ledger_head: Option<PathBuf>,
}

impl Overrides {
    fn from_env() -> Self {
        let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        Overrides {
            listen: var("BAILIWICK_LISTEN"),
            external_url: var("BAILIWICK_EXTERNAL_URL"),
            data: var("BAILIWICK_DATA").map(PathBuf::from),
            trust_domain: var("BAILIWICK_TRUST_DOMAIN"),
            store: var("BAILIWICK_STORE"),
            ledger_head: var("BAILIWICK_LEDGER_HEAD").map(PathBuf::from),
        }
    }
}

fn settle(file: File, base: Base<'_>, overrides: &Overrides) -> Result<Config, ConfigError> {
    let root = base.root;
    if file.version.value != 1 {
        let what = format!("version {} is not known", file.version.value);
        return Err(
            ConfigError::new("config.version", what, "Write `version: 1`.").at(file.version.referenced)
        );
    }
    let data = match &overrides.data {
        Some(data) => data.clone(),
        None => root.join(file.data.as_deref().unwrap_or(Path::new("bailiwick-data"))),
    };
    let names: BTreeSet<String> = file.systems.keys().cloned().collect();
    let mut parts = Systems { tools: tools(file.tools, root)?, ..Systems::default() };
    for (name, entry) in file.systems {
        parts.take(&name, entry, base)?;
    }
    let targets = all_targets(file.targets, &names, base)?;
    parts.tools.extend(targets::scopes(&targets)?);
    Ok(Config {
        trust_domain: trust_domain(&file.trust_domain, overrides)?,
        listen: listen(file.listen.as_ref(), overrides)?,
        external_url: external_url(file.external_url, overrides)?,
        data,
        store: store(file.store, overrides, base)?,
        head: overrides.ledger_head.clone().or(file.ledger.head.map(|head| root.join(head))),
        people: people(file.people),
        directory: file.directory,
        agents: checked(file.agents)?,
        systems: parts.servers,
        apis: parts.apis,
        tools: parts.tools,
        postgres: postgres_listener(file.postgres_gateway, root)?,
        leases: leases(&file.limits),
        targets,
        policy_paths: file.policies.iter().flat_map(|p| p.files(root)).collect(),
        policies: file.policies.map(|p| p.policies(root)).transpose()?,
        token_ttl_secs: token_ttl(file.limits.token_ttl_s)?,
    })
}

fn trust_domain(given: &Spanned<String>, overrides: &Overrides) -> Result<String, ConfigError> {
    let text = overrides.trust_domain.as_ref().unwrap_or(&given.value);
    match bailiwick_token::SpiffeId::parse(&format!("spiffe://{text}/agent/x")) {
        Ok(_) => Ok(text.clone()),
        Err(_) => Err(ConfigError::new(
            "config.malformed",
            "`trust_domain` is not a trust domain",
            "Write a lower-case host name such as example.org.",
        )
        .at(given.referenced)),
    }
}

fn listen(given: Option<&Spanned<String>>, overrides: &Overrides) -> Result<SocketAddr, ConfigError> {
    let text = overrides.listen.as_deref().or(given.map(|g| g.value.as_str())).unwrap_or(LISTEN_DEFAULT);
    text.parse().map_err(|_| {
        let next = format!("Write an address and a port, such as {LISTEN_DEFAULT}.");
        let bad = ConfigError::new("config.malformed", "`listen` is not an address with a port", next);
        given.map_or(bad.clone(), |g| bad.at(g.referenced))
    })
}

/// Off this machine only with a certificate: what is said there must not be read on the way.
fn postgres_listener(entry: PostgresGatewayEntry, root: &Path) -> Result<PostgresListener, ConfigError> {
    let place = entry.listen.as_ref().map(|l| l.referenced);
    let bad = |what: &str, next: &str| {
        let bad = ConfigError::new("config.malformed", what, next);
        place.map_or(bad.clone(), |p| bad.at(p))
    };
    let text = entry.listen.as_ref().map_or(POSTGRES_LISTEN_DEFAULT, |l| l.value.as_str());
    let listen: SocketAddr = text.parse().map_err(|_| {
        bad(
            "`postgres_gateway.listen` is not an address with a port",
            &format!("Write an address and a port, such as {POSTGRES_LISTEN_DEFAULT}."),
        )
    })?;
    let tls = match (entry.certificate, entry.key) {
        (Some(certificate), Some(key)) => Some((root.join(certificate), root.join(key))),
        (None, None) => None,
        _ => {
            return Err(bad(
                "`postgres_gateway` needs `certificate` and `key`, or neither",
                "Add the other one.",
            ));
        }
    };
    if tls.is_none() && !listen.ip().is_loopback() {
        let next = "Add `certificate` and `key`, or listen on a loopback address.";
        return Err(bad("sessions with databases from elsewhere must be encrypted", next));
    }
    Ok(PostgresListener { listen, host: entry.host, tls })
}

fn external_url(
    given: Option<Spanned<String>>,
    overrides: &Overrides,
) -> Result<Option<String>, ConfigError> {
    let place = given.as_ref().map(|g| g.referenced);
    let Some(url) = overrides.external_url.clone().or(given.map(|g| g.value)) else { return Ok(None) };
    let good = bailiwick_token::canonical_url(&url).is_ok() && !url.contains(['?', '#', '@']);
    if good {
        return Ok(Some(url.trim_end_matches('/').to_owned()));
    }
    let bad = ConfigError::new(
        "config.malformed",
        "`external_url` is not a URL that clients can use",
        "Write scheme, host and port only, such as https://bailiwick.example.org.",
    );
    Err(place.map_or(bad.clone(), |p| bad.at(p)))
}

fn store(choice: StoreChoice, overrides: &Overrides, base: Base<'_>) -> Result<Store, ConfigError> {
    let (text, place) = match (&overrides.store, &choice) {
        (Some(word), _) if word == "embedded" => return Ok(Store::Embedded),
        (Some(reference), _) => (reference.clone(), None),
        (None, StoreChoice::Embedded) => return Ok(Store::Embedded),
        (None, StoreChoice::Postgres(entry)) => (entry.url.value.clone(), Some(entry.url.referenced)),
    };
    let found = secret::must_refer("the store's URL", &text).and_then(|r| base.secret(&r));
    found.map(Store::Postgres).map_err(|e| place.map_or(e.clone(), |p| e.at(p)))
}

fn people(entries: Vec<PersonEntry>) -> Vec<Person> {
    entries
        .into_iter()
        .map(|p| Person { id: p.id, groups: p.groups, workload: p.workload, keys: BTreeSet::new() })
        .collect()
}

/// Names are unique, and keys are thumbprints: 32 bytes in base64url.
fn checked(agents: Vec<Agent>) -> Result<Vec<Agent>, ConfigError> {
    let mut seen = BTreeSet::new();
    let unfit = |key: &&String| bailiwick_token::Digest::parse(key).is_err();
    if let Some(agent) = agents.iter().find(|a| a.keys.iter().any(|k| unfit(&k))) {
        let what = format!("a key of agent `{}` is not a thumbprint", agent.id);
        let next = "Leave `keys` out; `bailiwick agent add` makes a key and registers it.";
        return Err(ConfigError::new("config.malformed", what, next));
    }
    match agents.iter().find(|a| !seen.insert(a.id.clone())) {
        Some(twice) => Err(ConfigError::new(
            "config.duplicate_key",
            format!("agent `{}` is here twice", twice.id),
            "Remove one of them.",
        )),
        None => Ok(agents),
    }
}

fn leases(limits: &Limits) -> bailiwick_core::lease::Quota {
    let quota = bailiwick_core::lease::Quota::default();
    bailiwick_core::lease::Quota {
        per_task: limits.leases_per_task.unwrap_or(quota.per_task),
        per_agent: limits.leases_per_agent.unwrap_or(quota.per_agent),
        per_target: limits.leases_per_target.unwrap_or(quota.per_target),
    }
}

/// The tools of a tool server and the scopes of a target are named after their system, so it can only be one.
fn all_targets(
    entries: BTreeMap<String, Spanned<targets::TargetEntry>>,
    systems: &BTreeSet<String>,
    base: Base<'_>,
) -> Result<Vec<Target>, ConfigError> {
    let mut out = Vec::new();
    for (name, entry) in entries {
        if systems.contains(&name) {
            let what = format!("`{name}` is a tool server and a target");
            return Err(ConfigError::new("config.malformed", what, "Give one of them another name.")
                .at(entry.referenced));
        }
        out.push(targets::target(&name, entry, base)?);
    }
    Ok(out)
}

/// Systems, sorted by kind.
#[derive(Default)]
struct Systems {
    servers: Vec<UpstreamSpec>,
    apis: Vec<ApiSpec>,
    tools: Vec<Manifest>,
}

impl Systems {
    fn take(&mut self, name: &str, entry: Spanned<SystemEntry>, base: Base<'_>) -> Result<(), ConfigError> {
        let place = entry.referenced;
        let id = SystemId::parse(name)
            .map_err(|e| ConfigError::new("config.malformed", e.to_string(), "").at(place))?;
        match entry.value {
            SystemEntry::Stdio(stdio) => self.servers.push(stdio_system(id, stdio, base)?),
            SystemEntry::Http(http) => self.servers.push(http_system(id, http, base)?),
            SystemEntry::Api(entry) => {
                if let Some(stated) = self.tools.iter().find(|m| m.tool.system() == id.as_str()) {
                    let what = format!("`{}` is stated twice: its API's actions say it all", stated.tool);
                    return Err(
                        ConfigError::new("config.duplicate_key", what, "Remove it from `tools`.").at(place)
                    );
                }
                let (api, manifests) = api::api(id, entry, base)?;
                self.apis.push(api);
                self.tools.extend(manifests);
            }
        }
        Ok(())
    }
}

fn stdio_system(id: SystemId, entry: StdioEntry, base: Base<'_>) -> Result<UpstreamSpec, ConfigError> {
    for arg in &entry.args {
        secret::no_secret("an argument", &arg.value).map_err(|e| e.at(arg.referenced))?;
    }
    let mut env = Vec::new();
    for (name, value) in entry.env {
        let at = |e: ConfigError| e.at(value.referenced);
        let found = match secret::variable(&name, &value.value).map_err(at)? {
            Some(reference) => base.secret(&reference).map_err(at)?,
            None => Secret::new(value.value),
        };
        env.push((name, found));
    }
    let transport = Transport::Stdio {
        command: entry.command.value,
        args: entry.args.into_iter().map(|a| a.value).collect(),
        env,
        cwd: Some(base.root.join(entry.cwd.unwrap_or_default())).filter(|p| !p.as_os_str().is_empty()),
    };
    Ok(timed(UpstreamSpec::new(id, transport), entry.call_timeout_ms, entry.start_timeout_ms))
}

fn http_system(id: SystemId, entry: HttpEntry, base: Base<'_>) -> Result<UpstreamSpec, ConfigError> {
    secret::no_secret("the URL", &entry.url.value).map_err(|e| e.at(entry.url.referenced))?;
    let mut headers = Vec::new();
    for (name, value) in entry.headers {
        let at = |e: ConfigError| e.at(value.referenced);
        let reference = secret::must_refer(&format!("header `{name}`"), &value.value).map_err(at)?;
        headers.push((name, base.secret(&reference).map_err(at)?));
    }
    let transport = Transport::Http { url: entry.url.value, headers };
    Ok(timed(UpstreamSpec::new(id, transport), entry.call_timeout_ms, entry.start_timeout_ms))
}

fn timed(mut spec: UpstreamSpec, call_ms: Option<u64>, start_ms: Option<u64>) -> UpstreamSpec {
    spec.call_timeout_ms = call_ms.unwrap_or(spec.call_timeout_ms);
    spec.start_timeout_ms = start_ms.unwrap_or(spec.start_timeout_ms);
    spec
}

fn token_ttl(given: Option<Spanned<u64>>) -> Result<u64, ConfigError> {
    match given {
        None => Ok(TOKEN_TTL_SECS_DEFAULT),
        Some(ttl) if (60..=bailiwick_token::TTL_SECS_MAX).contains(&ttl.value) => Ok(ttl.value),
        Some(ttl) => Err(ConfigError::new(
            "config.malformed",
            "`token_ttl_s` is out of range",
            format!("Choose 60 to {} seconds.", bailiwick_token::TTL_SECS_MAX),
        )
        .at(ttl.referenced)),
    }
}

fn tools(given: Tools, root: &Path) -> Result<Vec<Manifest>, ConfigError> {
    match given {
        Tools::None => Ok(Vec::new()),
        Tools::Here(manifests) => confirmed(manifests),
        Tools::Files(pattern) => {
            let mut all = Vec::new();
            for file in matching(&root.join(&pattern), &["yaml", "yml", "json"])? {
                all.extend(manifests(&file)?);
            }
            Ok(all)
        }
    }
}

/// The manifests of one file, every guess in them confirmed.
///
/// # Errors
/// [`ConfigError`] with the line.
pub(crate) fn manifests(file: &Path) -> Result<Vec<Manifest>, ConfigError> {
    confirmed(proposed(file)?).map_err(|e| e.in_file(file))
}

/// Refuses what was guessed and nobody has confirmed.
fn confirmed(manifests: Vec<Manifest>) -> Result<Vec<Manifest>, ConfigError> {
    if let Some(what) = manifests.iter().find_map(|m| m.validate().err()) {
        return Err(ConfigError::new(
            "config.manifest",
            what,
            "See the manual on tools and types of values.",
        ));
    }
    let Some(guessed) = manifests.iter().find(|m| !m.guess.is_empty()) else { return Ok(manifests) };
    let names: Vec<&str> = guessed.guess.keys().map(String::as_str).collect();
    let what = format!("{} holds guesses that nobody has confirmed: {}", guessed.tool, names.join(", "));
    let next = "Check each against what the tool really does, correct it, and remove its line under `guess`.";
    Err(ConfigError::new("config.guessed", what, next))
}

/// The manifests of one file as they were proposed, guesses and all.
///
/// # Errors
/// [`ConfigError`] with the line.
pub(crate) fn proposed(file: &Path) -> Result<Vec<Manifest>, ConfigError> {
    Ok(yaml::parse::<Manifests>(file, &yaml::slurp(file)?)?.0)
}

/// The policy texts of a file or of all `.cedar` files below a folder, named by their path in it.
///
/// # Errors
/// [`ConfigError`] if something cannot be read or nothing is there.
pub(crate) fn policies(path: &Path) -> Result<Vec<(String, String)>, ConfigError> {
    let base = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let mut out = Vec::new();
    for file in matching(path, &["cedar"])? {
        let name = file.strip_prefix(base).unwrap_or(&file).to_string_lossy().replace('\\', "/");
        out.push((name, yaml::slurp(&file)?));
    }
    Ok(out)
}

/// Files meant by a path: the file itself, everything below a folder, or a `*` in the last part.
pub(crate) fn matching(path: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, ConfigError> {
    let last = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut found = Vec::new();
    if let Some((before, after)) = last.split_once('*') {
        let fits = |name: &str| {
            name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
        };
        below(path.parent().unwrap_or(Path::new(".")), false, &mut found)?;
        found.retain(|f| f.file_name().is_some_and(|n| fits(&n.to_string_lossy())));
    } else if path.is_dir() {
        below(path, true, &mut found)?;
        found.retain(|f| f.extension().is_some_and(|e| endings.iter().any(|wanted| e == *wanted)));
    } else {
        found.push(path.to_owned());
    }
    found.sort();
    if found.is_empty() {
        let next = "Check the path; it is taken from the folder of the configuration.";
        return Err(ConfigError::new("config.unreadable", "no file is there", next).in_file(path));
    }
    Ok(found)
}

fn below(folder: &Path, deep: bool, found: &mut Vec<PathBuf>) -> Result<(), ConfigError> {
    let unreadable = |e: std::io::Error| {
        ConfigError::new("config.unreadable", format!("cannot be read: {e}"), "Check the path.")
            .in_file(folder)
    };
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() && deep {
            below(&entry.path(), deep, found)?;
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
