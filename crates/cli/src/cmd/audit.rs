//! `audit export|verify`: the ledger as evidence that anybody can check without this program's server.

use std::path::{Path, PathBuf};

use bailiwick_api::client::People;
use bailiwick_audit::{
    BundleReport, BundleWriter, Checkpoint, NoteVerifier, verify_bundle, verify_consistent,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};

use crate::ctx::Ctx;
use crate::fail::{Done, Exit, Failure};
use crate::out::Paint;

/// Events fetched at once.
const PAGE: usize = 500;

/// What can be done with the ledger.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Write an evidence bundle: every event, the tree over them, and the signed head
    Export {
        /// A folder that is empty or does not exist
        folder: PathBuf,
    },
    /// Verify a bundle, offline; without a folder, the server's ledger
    Verify(Verify),
    /// Print the key that auditors keep
    Key,
}

/// Verifies a bundle.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The bundle
    folder: Option<PathBuf>,
    /// The ledger's key as it was handed out, or a file that holds it; without it a bundle only agrees with itself
    #[arg(long, value_name = "KEY|FILE")]
    key: Option<String>,
    /// An older checkpoint file that this ledger must extend
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
}

pub(crate) async fn run(ctx: &Ctx, audit: Audit) -> Done {
    match audit {
        Audit::Export { folder } => {
            let people = ctx.people()?;
            let report = ctx.out.wait("fetching the ledger", export(&people, &folder)).await?;
            ctx.out.show(&report, |paint| {
                format!(
                    "{}   {} events\nverify: bailiwick audit verify {}",
                    paint.bold(&folder.display().to_string()),
                    report.size,
                    folder.display()
                )
            });
            Ok(())
        }
        Audit::Verify(verify) => self::verify(ctx, verify).await,
        Audit::Key => {
            let key = ctx.people()?.audit_key().await?;
            ctx.out.show(&key, |_| key.vkey.clone());
            Ok(())
        }
    }
}

/// Writes the server's ledger into a folder, event by event, and verifies what was written.
pub(crate) async fn export(people: &People, folder: &Path) -> Result<BundleReport, Failure> {
    let note = people.checkpoint().await?.note;
    let key = NoteVerifier::parse(&people.audit_key().await?.vkey)?;
    let size = Checkpoint::open(&note, &key)?.size;
    let mut writer = BundleWriter::create(folder)?;
    let mut next = 0;
    while next < size {
        let page = people.ledger(next, PAGE.min(usize::try_from(size - next).unwrap_or(PAGE))).await?;
        if page.events.is_empty() {
            return Err(not_verified("the server's ledger is shorter than its signed head"));
        }
        for event in page.events {
            let bytes = STANDARD.decode(&event.bytes).map_err(|_| not_verified("an event cannot be read"))?;
            writer.push(&bytes)?;
            next += 1;
        }
    }
    writer.finish(&note, &key)?;
    Ok(verify_bundle(folder, Some(&key))?)
}

fn not_verified(what: &str) -> Failure {
    Failure::new(Exit::NotVerified, "audit.incomplete", what, "Keep the folder, and ask who runs the server.")
}

async fn verify(ctx: &Ctx, verify: Verify) -> Done {
    let key = verify.key.as_deref().map(read_key).transpose()?;
    let (folder, _scratch) = match &verify.folder {
        Some(folder) => (folder.clone(), None),
        None => {
            let scratch =
                tempfile::tempdir().map_err(|e| Failure::file(Path::new("temporary folder"), &e))?;
            let folder = scratch.path().join("bundle");
            let people = ctx.people()?;
            ctx.out.wait("fetching the ledger", export(&people, &folder)).await?;
            (folder, Some(scratch))
        }
    };
    let since = verify.since.as_deref().map(|file| older(file, key.as_ref(), &folder)).transpose()?;
    let checked = tokio::task::spawn_blocking(move || match since {
        Some(since) => verify_consistent(&since, &folder, key.as_ref()),
        None => verify_bundle(&folder, key.as_ref()),
    });
    let report = ctx
        .out
        .wait("verifying", checked)
        .await
        .map_err(|e| Failure::failed("audit.broken", e.to_string(), ""))??;
    ctx.out.show(&report, |paint| verified(&report, paint));
    Ok(())
}

fn read_key(given: &str) -> Result<NoteVerifier, Failure> {
    let text = match NoteVerifier::parse(given.trim()) {
        Ok(key) => return Ok(key),
        Err(_) => std::fs::read_to_string(given).map_err(|e| Failure::file(Path::new(given), &e))?,
    };
    NoteVerifier::parse(text.trim())
        .map_err(|e| Failure::usage(format!("{given} holds no ledger key: {e}"), ""))
}

/// A checkpoint kept from earlier, opened with the same key.
fn older(file: &Path, key: Option<&NoteVerifier>, folder: &Path) -> Result<Checkpoint, Failure> {
    let note = std::fs::read_to_string(file).map_err(|e| Failure::file(file, &e))?;
    let own;
    let key = match key {
        Some(key) => key,
        None => {
            own = read_key(&folder.join("vkey").to_string_lossy())?;
            &own
        }
    };
    Ok(Checkpoint::open(&note, key)?)
}

fn verified(report: &BundleReport, paint: Paint) -> String {
    let pinned = if report.key_pinned {
        "signed by the key you gave".to_owned()
    } else {
        paint.yellow("the bundle agrees with itself; give --key to know whose it is")
    };
    format!(
        "{}   {} events   {}\nroot {}\n{pinned}",
        paint.green("verified"),
        report.size,
        report.origin,
        report.root
    )
}

/// Flips one bit in the middle of the first file of events: what the demo shows to be found.
pub(crate) fn flip_one_byte(bundle: &Path) -> std::io::Result<()> {
    let mut folders = vec![bundle.join("tile").join("entries")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut bytes = std::fs::read(&path)?;
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
            }
            return std::fs::write(path, bytes);
        }
    }
    Err(std::io::Error::other("the bundle holds no events"))
}
