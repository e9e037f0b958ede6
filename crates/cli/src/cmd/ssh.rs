//! `ssh`: what runs on a host, which asks at each login whom to let in, and beside `ssh`, which is led through the relay.
//!
//! A host lets in whom this prints, so it prints nothing unless the node has just said a name: a node that is down,
//! slow or somebody else is a no. It holds no key, and the token that it shows only asks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bailiwick_api::wire::{LeaseBody, PrincipalsView};
use bailiwick_broker::ssh::relay::{HELLO, REFUSAL};
use bailiwick_core::SystemId;
use clap::{Args, Subcommand};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ctx::Ctx;
use crate::fail::{Done, Exit, Failure};

/// How long a node may take to answer a host.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Largest answer to a host, in bytes.
const ANSWER_MAX: usize = 4096;
/// Where a host keeps its token.
const TOKEN_FILE: &str = "/etc/bailiwick/host.token";
/// Where programs find how to call `ssh` with a credential.
const CONFIG_VARIABLE: &str = "BAILIWICK_SSH_CONFIG";

/// On a host, and beside `ssh`.
#[derive(Debug, Subcommand)]
pub(crate) enum Ssh {
    /// For a host's sshd, as its AuthorizedPrincipalsCommand: prints whom to let in for one login, if anybody
    Principals(Principals),
    /// For `ssh`, as its ProxyCommand: leads it through the node's relay
    Proxy(Proxy),
}

/// One login, as sshd tells it.
#[derive(Debug, Args)]
pub(crate) struct Principals {
    /// The target that this host is
    target: SystemId,
    /// As whom: %u
    user: String,
    /// The id of the certificate: %i
    key_id: String,
    /// Its serial number: %s
    serial: String,
    /// The file with the host's token
    #[arg(long, value_name = "FILE", default_value = TOKEN_FILE)]
    token_file: PathBuf,
}

/// The way to a host.
#[derive(Debug, Args)]
pub(crate) struct Proxy {
    /// The relay, as HOST:PORT
    relay: String,
    /// The credential's name
    name: String,
    /// The file with its pass
    #[arg(long, value_name = "FILE")]
    pass_file: PathBuf,
}

pub(crate) async fn run(ctx: &Ctx, command: Ssh) -> Done {
    match command {
        Ssh::Principals(login) => {
            let asked = tokio::time::timeout(ANSWER_WITHIN, principals(ctx, &login)).await;
            let late =
                |_| Failure::new(Exit::Unreachable, "server.slow", "the node did not answer in time", "");
            for line in asked.map_err(late)?? {
                ctx.out.print(&line);
            }
            Ok(())
        }
        Ssh::Proxy(proxy) => lead(&proxy).await,
    }
}

async fn principals(ctx: &Ctx, login: &Principals) -> Result<Vec<String>, Failure> {
    let no = |what: String| Failure::new(Exit::Unreachable, "server.unreachable", what, "");
    let token = read(&login.token_file)?;
    let mut url =
        reqwest::Url::parse(&format!("{}/v1/targets/{}/principals", ctx.server()?, login.target))
            .map_err(|e| Failure::usage(format!("the server's address is none: {e}"), "Correct --server."))?;
    let facts = [("user", &login.user), ("key_id", &login.key_id), ("serial", &login.serial)];
    url.query_pairs_mut().extend_pairs(facts);
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build();
    let http = http.map_err(|e| no(e.to_string()))?;
    let answer =
        http.get(url).bearer_auth(token).send().await.map_err(|e| no(e.without_url().to_string()))?;
    if answer.status() != reqwest::StatusCode::OK {
        return Err(no(format!("the node answered {}", answer.status())));
    }
    let bytes = answer.bytes().await.map_err(|e| no(e.without_url().to_string()))?;
    if bytes.len() > ANSWER_MAX {
        return Err(no("the node's answer is too long".to_owned()));
    }
    let view: PrincipalsView =
        serde_json::from_slice(&bytes).map_err(|_| no("the node's answer cannot be read".to_owned()))?;
    // A line that is more than a line would be a second answer.
    match view.lines.iter().all(|l| l.bytes().all(|b| (b' '..=b'~').contains(&b))) {
        true => Ok(view.lines),
        false => Err(no("the node's answer cannot be read".to_owned())),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::file(path, &e))?;
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Failure::failed("file.unusable", format!("{}: no token", path.display()), ""));
    }
    Ok(text.to_owned())
}

/// Carries standard input and output to the relay and back, until either side ends.
async fn lead(proxy: &Proxy) -> Done {
    let pass = read(&proxy.pass_file)?;
    let unreachable = |e: std::io::Error| {
        Failure::new(Exit::Unreachable, "relay.unreachable", format!("{}: {e}", proxy.relay), "")
    };
    let mut relay = TcpStream::connect(&proxy.relay).await.map_err(unreachable)?;
    relay.set_nodelay(true).map_err(unreachable)?;
    relay.write_all(format!("{HELLO}{} {pass}\n", proxy.name).as_bytes()).await.map_err(unreachable)?;
    let (mut from, mut to) = relay.split();
    let mut first = vec![0; 1024];
    let n = from.read(&mut first).await.map_err(unreachable)?;
    first.truncate(n);
    let mut out = tokio::io::stdout();
    if let Some(why) = first.strip_prefix(REFUSAL.as_bytes()) {
        let why = crate::out::plain(&String::from_utf8_lossy(why), 200);
        return Err(Failure::new(Exit::Denied, "relay.refused", format!("the relay refuses: {why}"), ""));
    }
    out.write_all(&first).await.map_err(unreachable)?;
    out.flush().await.map_err(unreachable)?;
    let mut input = tokio::io::stdin();
    // What is read from the terminal's side may wait for ever; the relay's end is the end.
    tokio::select! {
        _ = tokio::io::copy(&mut from, &mut out) => {}
        _ = tokio::io::copy(&mut input, &mut to) => {}
    }
    out.flush().await.map_err(unreachable)
}

/// Writes what `ssh` needs into a folder that lives as long as the command, if the credential is one of SSH.
pub(crate) fn equip(
    command: &mut tokio::process::Command,
    body: &LeaseBody,
) -> Result<Option<tempfile::TempDir>, Failure> {
    let (Some(certificate), Some(key)) = (body.plain.get("certificate"), body.secret.get("private_key"))
    else {
        return Ok(None);
    };
    let folder = tempfile::Builder::new().prefix("bailiwick-ssh-").tempdir();
    let folder = folder.map_err(|e| Failure::file(&std::env::temp_dir(), &e))?;
    let plain = |name: &str| body.plain.get(name).map_or("", String::as_str);
    write(&folder, "key", key)?;
    write(&folder, "key-cert.pub", certificate)?;
    write(&folder, "known_hosts", &format!("{} {}", body.lease.system, plain("host_key")))?;
    if let Some(pass) = body.secret.get("relay_pass") {
        write(&folder, "pass", pass)?;
    }
    let config = write(&folder, "config", &client_config(&folder, body)?)?;
    command.env(CONFIG_VARIABLE, &config).env("GIT_SSH_COMMAND", format!("ssh -F {}", config.display()));
    Ok(Some(folder))
}

/// A configuration of `ssh` in which the host is called as the target is.
fn client_config(folder: &tempfile::TempDir, body: &LeaseBody) -> Result<String, Failure> {
    let at = folder.path().display();
    let plain = |name: &str| body.plain.get(name).map_or("", String::as_str);
    let mut lines = vec![
        format!("Host {}", body.lease.system),
        format!("  HostName {}", plain("host")),
        format!("  Port {}", plain("port")),
        format!("  User {}", plain("user")),
        format!("  HostKeyAlias {}", body.lease.system),
        format!("  IdentityFile {at}/key"),
        format!("  CertificateFile {at}/key-cert.pub"),
        format!("  UserKnownHostsFile {at}/known_hosts"),
        "  GlobalKnownHostsFile none".to_owned(),
        "  StrictHostKeyChecking yes".to_owned(),
        "  IdentitiesOnly yes".to_owned(),
        "  IdentityAgent none".to_owned(),
        "  BatchMode yes".to_owned(),
        "  RequestTTY no".to_owned(),
    ];
    if let (Some(host), Some(port)) = (body.plain.get("relay_host"), body.plain.get("relay_port")) {
        let program = std::env::current_exe().map_err(|e| Failure::file(Path::new("bailiwick"), &e))?;
        lines.push(format!(
            "  ProxyCommand \"{}\" ssh proxy {host}:{port} {} --pass-file {at}/pass",
            program.display(),
            plain("name")
        ));
    }
    Ok(lines.join("\n"))
}

fn write(folder: &tempfile::TempDir, name: &str, text: &str) -> Result<PathBuf, Failure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = folder.path().join(name);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| writeln!(file, "{}", text.trim_end()));
    written.map(|()| path.clone()).map_err(|e| Failure::file(&path, &e))
}

/// What a host needs, for its administrator to read and to put there.
pub(crate) fn setup(system: &SystemId, server: &str, authority: &str) -> String {
    format!(
        "# /etc/ssh/bailiwick-ca.pub: the authority that signs certificates for {system}\n\
         {authority}\n\n\
         # /etc/ssh/sshd_config.d/bailiwick.conf\n\
         TrustedUserCAKeys /etc/ssh/bailiwick-ca.pub\n\
         AuthorizedPrincipalsCommand /usr/bin/bailiwick --server {server} ssh principals {system} %u %i %s\n\
         AuthorizedPrincipalsCommandUser bailiwick\n\
         LogLevel VERBOSE\n\n\
         # A system user for the question, and the token it shows, which only that user can read:\n\
         #   useradd --system bailiwick\n\
         #   install -D -o bailiwick -m 0400 TOKEN {TOKEN_FILE}\n\
         # Then: sshd -t && systemctl reload ssh\n"
    )
}
