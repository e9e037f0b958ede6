//! What every command needs: where the server is, who is signed in, how to print.

use std::path::{Path, PathBuf};

use bailiwick_api::client::People;
use bailiwick_core::PrincipalId;
use tracing_subscriber::EnvFilter;

use crate::cli::Globals;
use crate::config::{Config, Secrets};
use crate::fail::{Exit, Failure};
use crate::keys::Keys;
use crate::out::{Format, Out};

/// The file in the data folder that says where the running server is.
pub(crate) const URL_FILE: &str = "server.url";

/// The surroundings of one command.
#[derive(Debug, Clone)]
pub(crate) struct Ctx {
    /// The streams.
    pub(crate) out: Out,
    config: Option<PathBuf>,
    server: Option<String>,
    who: Option<PrincipalId>,
    key: Option<String>,
}

impl Ctx {
    pub(crate) fn new(globals: &Globals) -> Self {
        let format = if globals.json { Format::Json } else { globals.output };
        let key = std::env::var("BAILIWICK_KEY").ok().filter(|k| !k.is_empty());
        Ctx {
            out: Out::new(format),
            config: globals.config.clone(),
            server: globals.server.clone(),
            who: globals.who.clone(),
            key,
        }
    }

    /// Logs go to standard error: warnings, or what `BAILIWICK_LOG` asks for.
    pub(crate) fn start_logging(&self, is_server: bool) {
        let usual = if is_server { "warn,bailiwick=info" } else { "error" };
        let wanted = std::env::var("BAILIWICK_LOG").unwrap_or_else(|_| usual.to_owned());
        let filter = EnvFilter::try_new(&wanted).unwrap_or_else(|_| EnvFilter::new(usual));
        let colour = self.out.talk.bold("x") != "x";
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(colour)
            .with_target(false)
            .try_init();
    }

    /// The configuration.
    pub(crate) fn config(&self, secrets: Secrets) -> Result<Config, Failure> {
        Ok(Config::find(self.config.as_deref(), secrets)?)
    }

    /// The configuration file that was named.
    pub(crate) fn config_path(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Where the server is: as told, else where the one of this configuration runs or would run.
    pub(crate) fn server(&self) -> Result<String, Failure> {
        if let Some(server) = &self.server {
            return Ok(server.trim_end_matches('/').to_owned());
        }
        let config = self.config(Secrets::Leave)?;
        let noted = std::fs::read_to_string(config.data.join(URL_FILE)).ok();
        let noted = noted.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let usual = || config.external_url.clone().unwrap_or_else(|| format!("http://{}", config.listen));
        Ok(noted.unwrap_or_else(usual))
    }

    /// The keys of this configuration's data folder.
    pub(crate) fn keys(&self) -> Result<Keys, Failure> {
        Ok(Keys::of(&self.config(Secrets::Leave)?.data))
    }

    /// A signed-in person at the server.
    pub(crate) fn people(&self) -> Result<People, Failure> {
        Ok(People::new(&self.server()?, self.key()?)?)
    }

    /// The key that signs in: `BAILIWICK_KEY`, else the file of who is named by `--as`, else the operator's.
    fn key(&self) -> Result<String, Failure> {
        if let (Some(key), None) = (&self.key, &self.who) {
            if bailiwick_api::wire::key_digest(key).is_none() {
                return Err(not_signed_in("BAILIWICK_KEY does not hold a key".to_owned()));
            }
            return Ok(key.clone());
        }
        let keys = self.keys()?;
        let who = match &self.who {
            Some(who) => who.clone(),
            None => keys.operator()?.ok_or_else(|| not_signed_in("nobody is signed in".to_owned()))?,
        };
        keys.person(&who)?.ok_or_else(|| {
            not_signed_in(format!("there is no key of {who} at {}", keys.person_path(&who).display()))
        })
    }
}

fn not_signed_in(what: String) -> Failure {
    let next = "Put your key into BAILIWICK_KEY, or run this beside the server's data folder (--config).";
    Failure::new(Exit::NotSignedIn, "not_signed_in", what, next)
}
