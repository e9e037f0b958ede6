//! What a file must and must not contain.
//!
//! A source file opens with what it promises. Nothing names a folder of somebody's machine or the host of a package
//! registry, nothing is left as a note to finish later, and Rust sources have no tabs and no trailing blanks.

use crate::repo::File;
use crate::{Finding, Repo};

/// Folders of a particular machine. Spelled in halves so that this file passes its own rule.
const MACHINE: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

const REGISTRIES: &[&str] = &[
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("python", "hosted.org"),
    concat!("npm", "js.org"),
    concat!("npm", "js.com"),
    concat!("deb", ".debian.org"),
];

const LATER: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Files written by tools, which may name what they like.
const GENERATED: &[&str] = &["package-lock.json", "Cargo.lock", "uv.lock"];

/// Checks every text file of the repository.
pub fn check(repo: &Repo) -> Vec<Finding> {
    repo.files().iter().filter(|f| !GENERATED.iter().any(|g| f.path.ends_with(g))).flat_map(file).collect()
}

fn file(file: &File) -> Vec<Finding> {
    let mut found: Vec<Finding> =
        file.text.lines().enumerate().filter_map(|(n, text)| line(file, n, text)).collect();
    if file.ending() == "rs" {
        found.extend(head(file));
    }
    found
}

fn line(file: &File, n: usize, text: &str) -> Option<Finding> {
    let finding = |what: String, help: &str| Some(Finding::new(file.at(n), what, help));
    if let Some(path) = MACHINE.iter().find(|m| starts_word(text, m)) {
        return finding(
            format!("names a folder of one machine (`{path}`)"),
            "use a relative path or an example path",
        );
    }
    if let Some(host) = REGISTRIES.iter().find(|r| text.contains(*r)) {
        return finding(
            format!("names a package registry (`{host}`)"),
            "name the package, not where it comes from",
        );
    }
    if let Some(later) = LATER.iter().find(|l| whole_word(text, l)) {
        return finding(
            format!("leaves a `{later}`"),
            "finish it, or write down in the docs that it is missing",
        );
    }
    if file.ending() == "rs" && text.contains('\t') {
        return finding("has a tab".into(), "run cargo fmt; write `\\t` in strings");
    }
    if file.ending() == "rs" && text.ends_with([' ', '\r']) {
        return finding("ends with a blank".into(), "run cargo fmt");
    }
    None
}

/// `needle` is a path beginning: what stands before it must not be part of a longer path.
fn starts_word(text: &str, needle: &str) -> bool {
    text.match_indices(needle).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '-' | '_' | '*' | '}' | ']' | '>'))
    })
}

fn whole_word(text: &str, word: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word).any(|(at, _)| {
        !inside(text[..at].chars().next_back()) && !inside(text[at + word.len()..].chars().next())
    })
}

/// The first line of a Rust file says what the file promises; sources that tests feed to a compiler are exempt.
fn head(file: &File) -> Option<Finding> {
    let data = ["/ui/", "/data/", "/compile_fail/", "/compile-fail/", "/fixtures/"];
    if file.path.contains("/tests/") && data.iter().any(|d| file.path.contains(d)) {
        return None;
    }
    let opens = file.text.lines().find(|l| !l.trim().is_empty()).is_some_and(|l| l.starts_with("//!"));
    let help = "begin with `//!` and one sentence about what the file is for";
    (!opens).then(|| Finding::new(file.path.clone(), "does not say what it promises", help))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(path: &str, text: &str) -> Vec<String> {
        file(&File::made_up(path, text)).into_iter().map(|f| f.what).collect()
    }

    #[test]
    fn a_clean_file_passes() {
        assert_eq!(whats("crates/a/src/lib.rs", "//! Promise.\n\nfn f() {}\n"), Vec::<String>::new());
        assert_eq!(
            whats("README.md", "See https://example.org/wo\u{72}k/x and net\u{77}ork/y\n"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn machine_paths_registries_and_leftovers_are_found() {
        for bad in MACHINE.iter().chain(REGISTRIES).chain(LATER) {
            assert_eq!(whats("docs/a.md", &format!("text {bad} text\n")).len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_leftover_is_a_whole_word() {
        let template = format!("mktemp {0}{0}\n", LATER[2]);
        assert_eq!(whats("test", &template), Vec::<String>::new());
    }

    #[test]
    fn rust_files_open_with_a_promise_and_have_no_stray_blanks() {
        assert_eq!(whats("crates/a/src/b.rs", "fn f() {}\n").len(), 1);
        assert_eq!(whats("crates/a/src/b.rs", "//! P.\n\tfn f() {}\n").len(), 1);
        assert_eq!(whats("crates/a/src/b.rs", "//! P.\nfn f() {} \n").len(), 1);
        assert_eq!(whats("crates/a/tests/ui/b.rs", "fn f() {}\n"), Vec::<String>::new());
    }
}
