//! Which test proves what.
//!
//! A test carries its claim in a comment directly above it: `proves: H3, INV8, A22`. This file collects the claims
//! from test code, refuses unknown ids and claims that stand above no test, and writes three pages from the rest:
//! docs/obligations.md, docs/invariants.md and docs/attacks.md, plus the table of invariants in ARCHITECTURE.md.
//! What nobody claims is listed as open. The pages are checked in, and stale pages are a finding.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::repo::File;
use crate::{Finding, Repo};

const OBLIGATIONS: &str = include_str!("../data/obligations.txt");
const INVARIANTS: &str = include_str!("../data/invariants.txt");
const ATTACKS: &str = include_str!("../data/attacks.txt");

/// The command that rewrites the pages.
pub const REGENERATE: &str = "cargo run -p bailiwick-tidy -- docs";

/// Where tests live.
const SCANNED: &[&str] = &["crates/", "eval/", "tests/", "fuzz/", "sdk/", "examples/", "policies/"];

/// Tests here drive the program or a whole front door from outside, over its real interface.
const OUTSIDE: &[&str] = &[
    "tests/",
    "eval/",
    "sdk/",
    "examples/",
    "crates/cli/tests/",
    "crates/server/tests/",
    "crates/gateway/tests/",
    "crates/eval/",
];

const MARK: &str = concat!("pro", "ves:");
const TABLE_BEGIN: &str = "<!-- generated: invariants -->";
const TABLE_END: &str = "<!-- end of generated -->";

/// One test and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// Path of the file, relative to the root.
    pub path: String,
    /// Name of the function, or title of the case.
    pub name: String,
    /// Not part of an ordinary run.
    pub ignored: bool,
}

impl Test {
    fn outside(&self) -> bool {
        !self.ignored && OUTSIDE.iter().any(|folder| self.path.starts_with(folder))
    }
}

/// Id to the tests that claim it.
pub type Claims = BTreeMap<String, BTreeSet<Test>>;

/// Unknown ids, claims above no test, stale pages.
pub fn check(repo: &Repo) -> Vec<Finding> {
    let (claims, mut found) = gather(repo);
    for (path, text) in pages(repo, &claims) {
        if repo.text(&path) != Some(text.as_str()) {
            found.push(Finding::new(path, "does not match the tests", format!("run `{REGENERATE}`")));
        }
    }
    found
}

/// Rewrites the generated pages and says which ones changed.
///
/// # Errors
/// When a page cannot be written.
pub fn write(repo: &Repo) -> std::io::Result<Vec<String>> {
    let (claims, _) = gather(repo);
    let mut changed = Vec::new();
    for (path, text) in pages(repo, &claims) {
        if repo.text(&path) != Some(text.as_str()) {
            std::fs::write(repo.root().join(&path), text)?;
            changed.push(path);
        }
    }
    Ok(changed)
}

/// All claims of the repository, and what is wrong with some of them.
pub fn gather(repo: &Repo) -> (Claims, Vec<Finding>) {
    let mut claims = Claims::new();
    let mut found = Vec::new();
    for file in repo.files().iter().filter(|f| scanned(f)) {
        for claim in claims_in(file, &mut found) {
            for id in claim.ids {
                claims.entry(id).or_default().insert(claim.test.clone());
            }
        }
    }
    (claims, found)
}

/// This crate only talks about marks.
fn scanned(file: &File) -> bool {
    let code = matches!(file.ending(), "rs" | "py" | "ts" | "js" | "mjs" | "sh" | "");
    code && SCANNED.iter().any(|s| file.path.starts_with(s)) && !file.path.starts_with("crates/tidy/")
}

struct Claim {
    ids: Vec<String>,
    test: Test,
}

fn claims_in(file: &File, found: &mut Vec<Finding>) -> Vec<Claim> {
    let lines: Vec<&str> = file.text.lines().collect();
    let mut claims = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let Some(text) = marked(line) else { continue };
        let ids = known_ids(file, n, text, found);
        match test_at(file, &lines, n) {
            Some(test) => claims.push(Claim { ids, test }),
            None => found.push(Finding::new(
                file.at(n),
                "claims a proof, but no test follows",
                "put the mark directly above the test it speaks of",
            )),
        }
    }
    claims
}

/// The text after the mark, when the line is a comment that begins with it.
fn marked(line: &str) -> Option<&str> {
    let comment = line.trim().trim_start_matches(['/', '#', '!', '*']).trim_start();
    let is_comment = comment.len() < line.trim().len();
    comment.strip_prefix(MARK).filter(|_| is_comment)
}

fn known_ids(file: &File, n: usize, text: &str, found: &mut Vec<Finding>) -> Vec<String> {
    let words = text.split([',', ' ', ';']).map(|w| w.trim_end_matches('.')).filter(|w| !w.is_empty());
    let (known, unknown): (Vec<&str>, Vec<&str>) = words.partition(|w| is_known(w));
    for id in unknown {
        let help =
            "use ids of docs/obligations.md, docs/invariants.md or docs/attacks.md, separated by commas";
        found.push(Finding::new(file.at(n), format!("claims to prove `{id}`, which is no known id"), help));
    }
    known.into_iter().map(str::to_owned).collect()
}

fn is_known(id: &str) -> bool {
    [OBLIGATIONS, INVARIANTS, ATTACKS].into_iter().flat_map(rows).any(|(known, _)| known == id)
}

/// The test a mark speaks of: the next function or case, with nothing but comments and attributes between.
fn test_at(file: &File, lines: &[&str], mark: usize) -> Option<Test> {
    let below = lines.iter().skip(mark + 1).map(|l| l.trim());
    let mut attributes: Vec<&str> =
        lines[..mark].iter().rev().map(|l| l.trim()).take_while(|l| between(l)).collect();
    for line in below.take(20) {
        if let Some(name) = name_of(line, file.ending()) {
            let test = Test { path: file.path.clone(), name, ignored: attributes.iter().any(|a| ignores(a)) };
            return is_test(file, lines, mark, &attributes).then_some(test);
        }
        if !between(line) {
            return None;
        }
        attributes.push(line);
    }
    None
}

/// What may stand between a mark and its function.
fn between(line: &str) -> bool {
    line.starts_with("//") || line.starts_with('#') || line.starts_with('@') || line.starts_with(')')
}

fn ignores(attribute: &str) -> bool {
    attribute.starts_with("#[ignore") || attribute.contains(".skip(")
}

/// The name in a line that opens a function or a case, in the languages we test in.
fn name_of(line: &str, ending: &str) -> Option<String> {
    let identifier = |rest: &str| {
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        (!name.is_empty()).then_some(name)
    };
    let after = |word: &str| line.split_once(word).map(|(_, rest)| rest);
    match ending {
        "rs" => {
            let words =
                ["fn ", "pub fn ", "async fn ", "pub async fn ", "pub(crate) fn ", "pub(crate) async fn "];
            words.iter().find_map(|w| line.strip_prefix(w)).and_then(identifier)
        }
        "py" => after("def ").or(after("class ")).and_then(identifier),
        "ts" | "js" | "mjs" => {
            let case = ["test(", "it(", "describe("].iter().find_map(|w| line.strip_prefix(w));
            let quoted = case.and_then(|c| c.split(['"', '\'', '`']).nth(1)).map(str::to_owned);
            quoted.or_else(|| after("function ").and_then(identifier))
        }
        _ => line.strip_suffix("() {").or(line.strip_suffix("(){")).and_then(identifier),
    }
}

/// In Rust a mark counts above something that runs as a test: by its attribute, or by where it stands.
fn is_test(file: &File, lines: &[&str], mark: usize, attributes: &[&str]) -> bool {
    if file.ending() != "rs" {
        return true;
    }
    let by_attribute =
        attributes.iter().any(|a| a.starts_with("#[") && a.contains("test") && !a.contains("cfg("));
    let in_test_module = lines[..mark].windows(2).any(opens_test_module);
    let test_file = ["/tests/", "/conformance", "/tests.rs", "/suite"].iter().any(|p| file.path.contains(p));
    by_attribute || in_test_module || test_file
}

/// `#[cfg(test)]` and then `mod tests {`; not one that only names a file.
fn opens_test_module(pair: &[&str]) -> bool {
    matches!(pair, [cfg, module] if cfg.trim() == "#[cfg(test)]" && module.contains("mod ") && module.ends_with('{'))
}

/// Id and text of each line `id | text`; blank lines and `# headings` are skipped.
fn rows(table: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    table.lines().filter_map(|l| l.split_once(" | ")).map(|(id, text)| (id.trim(), text.trim()))
}

fn pages(repo: &Repo, claims: &Claims) -> Vec<(String, String)> {
    let mut pages = vec![
        ("docs/obligations.md".to_owned(), obligations_page(claims)),
        ("docs/invariants.md".to_owned(), invariants_page(claims)),
        ("docs/attacks.md".to_owned(), attacks_page(claims)),
    ];
    let house = repo.text("ARCHITECTURE.md").and_then(|text| with_table(text, &invariants_table(claims)));
    pages.extend(house.map(|text| ("ARCHITECTURE.md".to_owned(), text)));
    pages
}

fn obligations_page(claims: &Claims) -> String {
    let mut page = head("Obligations and their proofs", "what the product owes the people who run it");
    page.push_str(
        "**kept**: at least one test drives the program, or a whole front door of it, from outside over its real \
         interface.\n**in part**: only tests inside a crate speak for it.\n**open**: no test speaks for it.\n\
         A mark says what a test proves, not that nothing else is left to prove.\n\n",
    );
    let count = |state: &str| rows(OBLIGATIONS).filter(|(id, _)| state_of(claims, id) == state).count();
    let total = rows(OBLIGATIONS).count();
    let sums = (count("kept"), count("in part"), count("open"));
    let _ = writeln!(page, "Of {total}: {} kept, {} in part, {} open.", sums.0, sums.1, sums.2);
    for line in OBLIGATIONS.lines() {
        if let Some(title) = line.strip_prefix("# ") {
            let _ = write!(page, "\n## {title}\n\n| id | obligation | state | tests |\n|---|---|---|---|\n");
        } else if let Some((id, text)) = line.split_once(" | ") {
            let _ = writeln!(page, "| {id} | {text} | {} | {} |", state_of(claims, id), listed(claims, id));
        }
    }
    page
}

fn invariants_page(claims: &Claims) -> String {
    let mut page = head("Invariants and their tests", "what must hold whatever anybody sends");
    page.push_str("| # | invariant | tests |\n|---|---|---|\n");
    for (id, text) in rows(INVARIANTS) {
        let _ = writeln!(page, "| {id} | {text} | {} |", listed(claims, id));
    }
    page
}

fn attacks_page(claims: &Claims) -> String {
    let mut page = head("Attacks and their tests", "the catalogue the product is tried against");
    let seen = rows(ATTACKS).filter(|(id, _)| claims.contains_key(*id)).count();
    let _ = writeln!(page, "Of {}, {seen} are tried by at least one test.\n", rows(ATTACKS).count());
    page.push_str("| id | attack | tests |\n|---|---|---|\n");
    for (id, text) in rows(ATTACKS) {
        let _ = writeln!(page, "| {id} | {text} | {} |", listed(claims, id));
    }
    page
}

fn head(title: &str, what: &str) -> String {
    format!(
        "# {title}\n\nThis page lists {what}.\nIt is written by `{REGENERATE}` from marks in the tests; do not edit it by hand.\n\n"
    )
}

fn state_of(claims: &Claims, id: &str) -> &'static str {
    match claims.get(id) {
        Some(tests) if tests.iter().any(Test::outside) => "kept",
        Some(tests) if tests.iter().any(|t| !t.ignored) => "in part",
        _ => "open",
    }
}

/// Links from docs/ to the tests of an id, one line each.
fn listed(claims: &Claims, id: &str) -> String {
    let Some(tests) = claims.get(id) else { return "open".into() };
    let link = |t: &Test| {
        let note = if t.ignored { " (not in an ordinary run)" } else { "" };
        format!("[{}](../{}){note}", t.name.replace('|', "/"), t.path)
    };
    tests.iter().map(link).collect::<Vec<_>>().join("<br>")
}

fn invariants_table(claims: &Claims) -> String {
    let mut table = String::from("| # | invariant | tests |\n|---|---|---|\n");
    for (id, text) in rows(INVARIANTS) {
        let tests = claims.get(id).map_or("open".to_owned(), |tests| tests.len().to_string());
        let _ = writeln!(table, "| {id} | {text} | {tests} |");
    }
    table
}

/// `text` with what stands between the two markers replaced.
fn with_table(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(TABLE_BEGIN)?;
    let (_, after) = rest.split_once(TABLE_END)?;
    Some(format!("{before}{TABLE_BEGIN}\n{table}{TABLE_END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, text: &str) -> (Vec<(Vec<String>, String)>, Vec<Finding>) {
        let mut found = Vec::new();
        let claims = claims_in(&File::made_up(path, &text.replace("PROVES", MARK)), &mut found);
        (claims.into_iter().map(|c| (c.ids, c.test.name)).collect(), found)
    }

    #[test]
    fn a_mark_above_a_test_is_read_in_every_language() {
        let cases = [
            ("crates/a/src/b.rs", "// PROVES H3, INV8\n#[test]\nfn story() {}\n"),
            ("crates/a/src/b.rs", "#[tokio::test]\n// PROVES H3, INV8\nasync fn story() {}\n"),
            ("crates/a/tests/b.rs", "// PROVES H3, INV8\npub async fn story(store: &S) {}\n"),
            ("eval/a.py", "# PROVES H3, INV8\n@pytest.mark.slow\ndef story():\n"),
            ("sdk/a.ts", "// PROVES H3, INV8\ntest(\"story\", () => {});\n"),
            ("tests/a/run", "# PROVES H3, INV8\nstory() {\n"),
        ];
        for (path, text) in cases {
            let (claims, found) = read(path, text);
            assert_eq!(found, [], "{path}");
            assert_eq!(claims, [(vec!["H3".to_owned(), "INV8".to_owned()], "story".to_owned())], "{path}");
        }
    }

    #[test]
    fn an_unknown_id_and_a_mark_above_nothing_are_found() {
        for bad in [
            "// PROVES H99\n#[test]\nfn story() {}\n",
            "// PROVES H3\nconst X: u8 = 1;\n",
            "// PROVES H3\nfn no_test() {}\n",
            "#[cfg(test)]\nmod testing;\n\n// PROVES H3\nfn no_test() {}\n",
            "// PROVES H3\n#[cfg(test)]\nfn no_test() {}\n",
            "// PROVES H3\n",
        ] {
            assert_eq!(read("crates/a/src/b.rs", bad).1.len(), 1, "{bad}");
        }
    }

    #[test]
    fn prose_about_marks_is_not_a_mark() {
        assert!(read("crates/a/src/b.rs", "let x = \"PROVES H3\";\n// this PROVES H3\n").0.is_empty());
    }

    #[test]
    fn only_a_test_from_outside_keeps_an_obligation() {
        let claim = |path: &str, ignored| {
            let test = Test { path: path.into(), name: "story".into(), ignored };
            Claims::from([("H3".to_owned(), BTreeSet::from([test]))])
        };
        assert_eq!(state_of(&claim("crates/cli/tests/demo.rs", false), "H3"), "kept");
        assert_eq!(state_of(&claim("crates/core/src/handoff.rs", false), "H3"), "in part");
        assert_eq!(state_of(&claim("crates/cli/tests/demo.rs", true), "H3"), "open");
        assert_eq!(state_of(&Claims::new(), "H3"), "open");
    }

    #[test]
    fn the_tables_are_whole() {
        assert_eq!(rows(OBLIGATIONS).count(), 60);
        assert_eq!(rows(INVARIANTS).count(), 14);
        let attacks: Vec<_> = rows(ATTACKS).map(|(id, _)| id.to_owned()).collect();
        let all: Vec<_> = (1..=76).map(|n| format!("A{n:02}")).collect();
        assert_eq!(attacks, all);
    }

    #[test]
    fn the_generated_table_replaces_only_itself() {
        let text = format!("a\n{TABLE_BEGIN}\nold\n{TABLE_END}\nb\n");
        assert_eq!(with_table(&text, "new\n"), Some(format!("a\n{TABLE_BEGIN}\nnew\n{TABLE_END}\nb\n")));
        assert_eq!(with_table("no markers", "new\n"), None);
    }
}
