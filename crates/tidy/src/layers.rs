//! Dependencies point down, and a gateway never carries what it must not hold.
//!
//! The rows are those of ARCHITECTURE. A crate may use crates of lower rows only, so nothing calls back up and
//! doers of one row never call each other. The gateway additionally has a closed list: it must stay buildable
//! without store, broker and engine, so that an enforcement point cannot hold connector secrets.
//! Dev-dependencies are free: a test may look at its crate from above.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{Finding, Repo};

/// Row of each crate, by its name without the prefix. `None` is free: nothing may depend on it.
const ROWS: &[(&str, Option<u8>)] = &[
    ("core", Some(0)),
    ("policy", Some(1)),
    ("token", Some(1)),
    ("audit", Some(1)),
    ("api", Some(1)),
    ("tls", Some(1)),
    ("store", Some(2)),
    ("broker", Some(2)),
    ("engine", Some(3)),
    ("gateway", Some(4)),
    ("server", Some(4)),
    ("cli", Some(5)),
    ("eval", None),
    ("stand", None),
    ("tidy", None),
];

const GATEWAY_MAY_CARRY: &[&str] = &["core", "token", "api", "tls"];

/// Crate name (without prefix) to the crates of this workspace it is built with.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Reads the workspace from cargo and checks every edge.
pub fn check(repo: &Repo) -> Vec<Finding> {
    let metadata = match metadata(repo) {
        Ok(metadata) => metadata,
        Err(finding) => return vec![finding],
    };
    let mut found = judge(&graph(&metadata));
    found.extend(core_without_std(repo));
    found
}

/// Every crate says what it is, and inherits lints, edition and licence from the workspace.
pub fn manifests(repo: &Repo) -> Vec<Finding> {
    let metadata = match metadata(repo) {
        Ok(metadata) => metadata,
        Err(finding) => return vec![finding],
    };
    packages(&metadata).flat_map(|package| manifest(repo, package)).collect()
}

fn judge(graph: &Graph) -> Vec<Finding> {
    let edges = graph.iter().flat_map(|(from, to)| to.iter().map(move |to| (from.as_str(), to.as_str())));
    let mut found: Vec<Finding> = edges.filter_map(|(from, to)| judge_edge(from, to)).collect();
    for carried in reach(graph, "gateway") {
        if !GATEWAY_MAY_CARRY.contains(&carried.as_str()) {
            found.push(Finding::new(
                "crates/gateway/Cargo.toml",
                format!("the gateway's tree carries `{carried}`"),
                "an enforcement point is built from core, token and api alone; ask through `api` instead",
            ));
        }
    }
    found
}

fn judge_edge(from: &str, to: &str) -> Option<Finding> {
    let at = format!("crates/{from}/Cargo.toml");
    let (Some(from_row), Some(to_row)) = (row(from), row(to)) else {
        let unknown = if row(from).is_none() { from } else { to };
        let help = "give it a row in crates/tidy/src/layers.rs and in ARCHITECTURE.md, with the reason for a new crate";
        return Some(Finding::new(at, format!("crate `{unknown}` has no row"), help));
    };
    let fine = match (from_row, to_row) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(from), Some(to)) => to < from,
    };
    let what = format!("`{from}` depends on `{to}`, which is not below it");
    (!fine).then(|| {
        Finding::new(at, what, "dependencies point down only; see the table of rows in ARCHITECTURE.md")
    })
}

fn row(name: &str) -> Option<Option<u8>> {
    ROWS.iter().find(|(known, _)| *known == name).map(|(_, row)| *row)
}

/// Everything reachable from `start`, without `start` itself.
fn reach(graph: &Graph, start: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut next = vec![start];
    while let Some(name) = next.pop() {
        for to in graph.get(name).into_iter().flatten() {
            if seen.insert(to.clone()) {
                next.push(to);
            }
        }
    }
    seen
}

fn metadata(repo: &Repo) -> Result<Value, Finding> {
    let text = repo.cargo(&["metadata", "--offline", "--no-deps", "--format-version", "1"])?;
    serde_json::from_str(&text).map_err(|e| {
        Finding::new("Cargo.toml", format!("cargo metadata is not JSON: {e}"), "check the toolchain")
    })
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

fn graph(metadata: &Value) -> Graph {
    packages(metadata).map(|p| (short(&p["name"]).to_owned(), house_dependencies(p))).collect()
}

fn house_dependencies(package: &Value) -> BTreeSet<String> {
    let all = package["dependencies"].as_array().into_iter().flatten();
    let built = all.filter(|d| d["kind"].as_str() != Some("dev") && !d["path"].is_null());
    built.map(|d| short(&d["name"]).to_owned()).collect()
}

fn short(name: &Value) -> &str {
    let name = name.as_str().unwrap_or_default();
    name.strip_prefix("bailiwick-").unwrap_or(name)
}

/// The compiler keeps I/O out of the judgement, as long as this attribute stands.
fn core_without_std(repo: &Repo) -> Option<Finding> {
    let at = "crates/core/src/lib.rs";
    let pure = repo.text(at)?.lines().any(|l| l.contains("no_std") && l.trim_start().starts_with("#!["));
    (!pure).then(|| Finding::new(at, "core is built with the standard library", "put `#![no_std]` back"))
}

fn manifest(repo: &Repo, package: &Value) -> Vec<Finding> {
    let at = format!("crates/{}/Cargo.toml", short(&package["name"]));
    let text = repo.text(&at).unwrap_or_default();
    let mut found = Vec::new();
    let mut want = |fine: bool, what: &str, help: &str| {
        if !fine {
            found.push(Finding::new(at.clone(), what, help));
        }
    };
    let described = package["description"].as_str().is_some_and(|d| d.len() > 10);
    want(described, "no description", "say in one sentence what the crate is for");
    want(inherits_lints(text), "lints are not the workspace's", "add `[lints]` with `workspace = true`");
    for key in ["version", "edition", "rust-version", "license"] {
        let inherited = text.contains(&format!("{key}.workspace = true"));
        want(
            inherited,
            &format!("`{key}` is not the workspace's"),
            &format!("write `{key}.workspace = true`"),
        );
    }
    found
}

fn inherits_lints(manifest: &str) -> bool {
    let section = manifest.split("[lints]").nth(1).unwrap_or_default();
    section.lines().map(str::trim).find(|l| !l.is_empty()) == Some("workspace = true")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house(edges: &[(&str, &[&str])]) -> Graph {
        edges
            .iter()
            .map(|(from, to)| ((*from).to_owned(), to.iter().map(|t| (*t).to_owned()).collect()))
            .collect()
    }

    #[test]
    fn the_house_as_drawn_is_fine() {
        let drawn = house(&[
            ("core", &[]),
            ("token", &["core"]),
            ("api", &["core"]),
            ("store", &["core", "audit"]),
            ("engine", &["core", "policy", "token", "audit", "api", "store"]),
            ("gateway", &["core", "token", "api"]),
            ("cli", &["gateway", "server", "engine"]),
            ("eval", &["cli", "gateway"]),
        ]);
        assert_eq!(judge(&drawn), []);
    }

    #[test]
    fn an_edge_up_or_sideways_is_named() {
        for (from, to) in [("core", "policy"), ("policy", "token"), ("engine", "server"), ("cli", "eval")] {
            let found = judge(&house(&[(from, &[to])]));
            assert_eq!(found.len(), 1, "{from} -> {to}");
            assert!(found[0].what.contains(from) && found[0].what.contains(to));
        }
    }

    #[test]
    fn a_crate_without_a_row_is_not_let_in() {
        assert_eq!(judge(&house(&[("core", &[]), ("cli", &["helpers"])])).len(), 1);
        assert_eq!(judge(&house(&[("helpers", &["core"])])).len(), 1);
    }

    #[test]
    fn what_the_gateway_reaches_indirectly_counts() {
        let smuggled = house(&[("gateway", &["api"]), ("api", &["core", "store"])]);
        let found = judge(&smuggled);
        assert!(found.iter().any(|f| f.what.contains("carries `store`")), "{found:?}");
    }

    #[test]
    fn lints_count_only_when_inherited() {
        assert!(inherits_lints("[package]\n\n[lints]\nworkspace = true\n"));
        assert!(!inherits_lints("[package]\n[lints]\n[dependencies]\nworkspace = true\n"));
        assert!(!inherits_lints("[package]\n"));
    }
}
