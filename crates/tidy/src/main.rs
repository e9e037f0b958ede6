//! The rules by hand: `docs` rewrites the generated pages, `check` prints every finding.

use std::process::ExitCode;

use bailiwick_tidy::{RULES, Repo, proofs};

fn main() -> ExitCode {
    let done = Repo::here().and_then(|repo| match std::env::args().nth(1).as_deref() {
        Some("docs") => docs(&repo),
        Some("check") => Ok(check(&repo)),
        _ => {
            eprintln!("usage: bailiwick-tidy docs | check");
            Ok(ExitCode::from(2))
        }
    });
    done.unwrap_or_else(|error| {
        eprintln!("the repository cannot be read or written: {error}");
        ExitCode::FAILURE
    })
}

fn docs(repo: &Repo) -> std::io::Result<ExitCode> {
    for path in proofs::write(repo)? {
        println!("written: {path}");
    }
    Ok(ExitCode::SUCCESS)
}

fn check(repo: &Repo) -> ExitCode {
    let found: Vec<_> = RULES.iter().flat_map(|(_, rule)| rule(repo)).collect();
    for finding in &found {
        println!("{finding}");
    }
    println!("{} findings", found.len());
    ExitCode::from(u8::from(!found.is_empty()))
}
