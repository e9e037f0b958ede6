//! What may be built in: licences, one crypto and TLS stack, no unpinned or unpublished source.
//!
//! Same spirit as deny.toml, but it needs nothing that a plain toolchain lacks. The graph judged is the one that is
//! really built on this machine (`cargo tree`): a lock file also names optional crates that nobody compiles.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{Finding, Repo};

/// Licences that may be linked into an Apache-2.0 binary without further duties than naming them.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Never in the product: a second crypto or TLS stack, and the database layer that cannot live beside ours.
const BANNED: &[&str] = &["openssl", "openssl-sys", "native-tls", "ring", "sqlx", "sqlx-core"];

/// Two versions of these would mean two stacks where the design says one.
const ONE_VERSION: &[&str] = &[
    "aws-lc-rs",
    "aws-lc-sys",
    "axum",
    "cedar-policy",
    "hyper",
    "jsonwebtoken",
    "rustls",
    "serde_json",
    "tokio",
];

/// The page that gives every dependency its reason.
const REASONS: &str = "docs/manual/dependencies.md";

const TREE: &[&str] = &["tree", "--offline", "--workspace", "--prefix", "none", "--format", "{p}|{l}"];

/// One compiled package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    licence: String,
}

/// Asks cargo what is built and from where, and judges it.
pub fn check(repo: &Repo) -> Vec<Finding> {
    gather(repo).unwrap_or_else(|finding| vec![finding])
}

fn gather(repo: &Repo) -> Result<Vec<Finding>, Finding> {
    let built = packages(&repo.cargo(&[TREE, &["-e", "normal,build"]].concat())?);
    let with_tests = packages(&repo.cargo(&[TREE, &["-e", "normal,build,dev"]].concat())?);
    let metadata = repo.cargo(&["metadata", "--offline", "--no-deps", "--format-version", "1"])?;
    let lock = std::fs::read_to_string(repo.root().join("Cargo.lock")).unwrap_or_default();
    let mut found = licences(&with_tests);
    found.extend(bans(&built));
    found.extend(sources(&lock));
    found
        .extend(reasons(repo.text("Cargo.toml").unwrap_or_default(), repo.text(REASONS).unwrap_or_default()));
    found.extend(wildcards(&serde_json::from_str(&metadata).unwrap_or(Value::Null)));
    Ok(found)
}

/// Lines of the form `name vX.Y.Z (extra)|licence`.
fn packages(tree: &str) -> BTreeSet<Package> {
    tree.lines().filter_map(package).collect()
}

fn package(line: &str) -> Option<Package> {
    let (id, licence) = line.split_once('|')?;
    let mut words = id.split_whitespace();
    let (name, version) = (words.next()?.to_owned(), words.next()?.to_owned());
    let licence = licence.trim().trim_end_matches("(*)").trim().to_owned();
    Some(Package { name, version, licence })
}

fn licences(packages: &BTreeSet<Package>) -> Vec<Finding> {
    let bad = packages.iter().filter(|p| !allowed(&p.licence));
    bad.map(|p| {
        let what = format!("{} {} is under `{}`, which is not on the list", p.name, p.version, p.licence);
        Finding::new(
            "Cargo.lock",
            what,
            "choose another crate, or argue for the licence in crates/tidy/src/supply.rs",
        )
    })
    .collect()
}

fn bans(built: &BTreeSet<Package>) -> Vec<Finding> {
    let banned = BANNED.iter().filter(|name| built.iter().any(|p| p.name == **name)).map(|name| {
        let help = format!(
            "find who wants it: `cargo tree --workspace -e normal,build -i {name}`, and turn that feature off"
        );
        Finding::new("Cargo.lock", format!("`{name}` is built in; it is banned"), help)
    });
    let twice =
        ONE_VERSION.iter().filter(|name| built.iter().filter(|p| p.name == **name).count() > 1).map(|name| {
            let help = format!("bring them together: `cargo tree --workspace -d -i {name}`");
            Finding::new("Cargo.lock", format!("`{name}` is built in two versions"), help)
        });
    banned.chain(twice).collect()
}

fn sources(lock: &str) -> Vec<Finding> {
    let sources = lock.lines().enumerate().filter_map(|(n, l)| Some((n, l.strip_prefix("source = \"")?)));
    let foreign = sources.filter(|(_, s)| !s.starts_with("registry+"));
    foreign
        .map(|(n, s)| {
            let what = format!("built from outside the registry: {}", s.trim_end_matches('"'));
            Finding::new(format!("Cargo.lock:{}", n + 1), what, "use a published version")
        })
        .collect()
}

/// Every dependency named in the root manifest has its line on the page of reasons.
fn reasons(manifest: &str, page: &str) -> Vec<Finding> {
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    let lines = section.lines().take_while(|l| !l.starts_with('['));
    let names = lines.filter_map(|l| Some(l.split_once('=')?.0.trim())).filter(|n| !n.starts_with(['#']));
    let known: BTreeSet<&str> =
        page.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_')).collect();
    let missing = names.filter(|name| !name.starts_with("bailiwick-") && !known.contains(name));
    missing
        .map(|name| Finding::new(REASONS, format!("`{name}` has no reason"), "add a line that says why"))
        .collect()
}

fn wildcards(metadata: &Value) -> Vec<Finding> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let mut found = Vec::new();
    for package in packages {
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if dependency["req"].as_str() == Some("*") && dependency["path"].is_null() {
                let (of, what) = (&package["name"], &dependency["name"]);
                found.push(Finding::new(
                    "Cargo.toml",
                    format!("{of} takes any version of {what}"),
                    "name a version",
                ));
            }
        }
    }
    found
}

/// Whether an SPDX expression can be met with listed licences alone. Knows `OR`, `AND`, parentheses, and the old `/`.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest) == Some(true) && rest.is_empty()
}

fn either(rest: &mut &[&str]) -> Option<bool> {
    let mut fine = both(rest)?;
    while take(rest, "OR") {
        fine |= both(rest)?;
    }
    Some(fine)
}

fn both(rest: &mut &[&str]) -> Option<bool> {
    let mut fine = one(rest)?;
    while take(rest, "AND") {
        fine &= one(rest)?;
    }
    Some(fine)
}

fn one(rest: &mut &[&str]) -> Option<bool> {
    if take(rest, "(") {
        let fine = either(rest)?;
        return take(rest, ")").then_some(fine);
    }
    let (name, more) = rest.split_first()?;
    *rest = more;
    if !take(rest, "WITH") {
        return Some(LICENCES.contains(name));
    }
    let (exception, more) = rest.split_first()?;
    *rest = more;
    Some(LICENCES.contains(&format!("{name} WITH {exception}").as_str()))
}

fn take(rest: &mut &[&str], word: &str) -> bool {
    match rest.split_first() {
        Some((first, more)) if *first == word => {
            *rest = more;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_expression_is_read_as_it_is_meant() {
        for fine in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-2.0) AND BSD-3-Clause",
            "Apache-2.0 WITH LLVM-exception OR MIT",
            "ISC AND (Apache-2.0 OR ISC)",
        ] {
            assert!(allowed(fine), "{fine}");
        }
        for bad in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "GPL-2.0 WITH Classpath-exception",
            "MIT OR",
            "(MIT",
            "MIT MIT",
        ] {
            assert!(!allowed(bad), "{bad}");
        }
    }

    #[test]
    fn tree_lines_become_packages() {
        let tree = "serde v1.0.229|MIT OR Apache-2.0\nserde v1.0.229|MIT OR Apache-2.0 (*)\nbailiwick-core v0.1.0 (/x)|Apache-2.0\n\n";
        let all = packages(tree);
        assert_eq!(all.len(), 2);
        assert!(licences(&all).is_empty());
    }

    #[test]
    fn a_banned_or_doubled_crate_is_named() {
        let clean = packages("rustls v0.23.46|MIT\naws-lc-rs v1.19.0|ISC\n");
        assert_eq!(bans(&clean), []);
        assert_eq!(bans(&packages("ring v0.17.14|ISC\n")).len(), 1);
        assert_eq!(bans(&packages("rustls v0.23.46|MIT\nrustls v0.24.0|MIT\n")).len(), 1);
    }

    #[test]
    fn a_source_outside_the_registry_is_found() {
        assert_eq!(sources("source = \"registry+https://example.org/index\"\n"), []);
        assert_eq!(sources("name = \"x\"\nsource = \"git+https://example.org/x#1\"\n").len(), 1);
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let manifest = "[workspace.dependencies]\nbailiwick-core = { path = \"x\" }\n# c = 1\nserde = \"1\"\nrustix = \"1\"\n\n[profile.dev]\nopt-level = 1\n";
        let found = reasons(manifest, "| serde, serde_json | because |\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("rustix"));
    }

    #[test]
    fn any_version_is_no_version() {
        let of = |req: &str, path: Value| serde_json::json!({"packages": [{"name": "a", "dependencies": [{"name": "b", "req": req, "path": path}]}]});
        assert_eq!(wildcards(&of("*", Value::Null)).len(), 1);
        assert!(wildcards(&of("^1", Value::Null)).is_empty());
        assert!(wildcards(&of("*", Value::from("crates/b"))).is_empty());
    }
}
