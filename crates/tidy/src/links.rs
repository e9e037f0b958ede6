//! Links in the documents lead somewhere.
//!
//! Checks relative targets of `[text](target)` in every Markdown file, and headings named after `#` when the target
//! is Markdown too. Addresses on the network are not visited: a test needs no internet.

use std::path::{Component, Path, PathBuf};

use crate::repo::File;
use crate::{Finding, Repo};

/// Checks every Markdown file.
pub fn check(repo: &Repo) -> Vec<Finding> {
    let documents = repo.files().iter().filter(|f| f.ending() == "md");
    documents.flat_map(|file| targets(file).filter_map(|(n, to)| judge(repo, file, n, &to))).collect()
}

fn judge(repo: &Repo, file: &File, line: usize, target: &str) -> Option<Finding> {
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let to = if path.is_empty() { file.path.clone() } else { resolve(&file.path, path) };
    if !repo.root().join(&to).exists() {
        let help = "correct the path, or remove the link until the page exists";
        return Some(Finding::new(file.at(line), format!("`{target}` leads nowhere"), help));
    }
    let text = repo.text(&to).filter(|_| to.ends_with(".md") && !heading.is_empty())?;
    let there = headings(text).any(|h| h == heading);
    (!there).then(|| {
        Finding::new(file.at(line), format!("no heading `#{heading}` in {to}"), "correct the heading")
    })
}

/// Relative link targets outside code, with their line.
fn targets(file: &File) -> impl Iterator<Item = (usize, String)> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (n, line) in file.text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        if !fenced {
            found.extend(in_line(line).map(|target| (n, target)));
        }
    }
    found.into_iter()
}

fn in_line(line: &str) -> impl Iterator<Item = String> {
    let plain: Vec<&str> = line.split('`').step_by(2).collect();
    let plain = plain.join("`");
    let pieces: Vec<String> =
        plain.split("](").skip(1).filter_map(|p| Some(p.split_once(')')?.0.to_owned())).collect();
    pieces.into_iter().filter(|t| !t.contains("://") && !t.starts_with("mailto:"))
}

/// `path` as seen from the folder of `from`, relative to the root.
pub(crate) fn resolve(from: &str, path: &str) -> String {
    let joined = Path::new(from).parent().unwrap_or(Path::new("")).join(path);
    let mut out = PathBuf::new();
    for part in joined.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out.to_string_lossy().into_owned()
}

/// Headings as a forge spells their anchors: lower case, blanks to dashes, punctuation gone.
fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|l| l.starts_with('#')).map(|l| {
        let title = l.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_code_only() {
        let text =
            "[a](b.md) and `[no](x.md)` [c](../d.md#e)\n```\n[no](y.md)\n```\n[web](https://example.org)\n";
        let found: Vec<_> = targets(&File::made_up("docs/m.md", text)).collect();
        assert_eq!(found, [(0, "b.md".to_owned()), (0, "../d.md#e".to_owned())]);
    }

    #[test]
    fn paths_resolve_from_the_page() {
        assert_eq!(resolve("docs/manual/a.md", "../b.md"), "docs/b.md");
        assert_eq!(resolve("README.md", "./docs/b.md"), "docs/b.md");
    }

    #[test]
    fn headings_become_anchors() {
        let all: Vec<_> = headings("# The house\n## One tool call, in steps\ntext\n").collect();
        assert_eq!(all, ["the-house", "one-tool-call-in-steps"]);
    }

    #[test]
    fn a_dead_link_is_named() {
        let repo = Repo::here().expect("the repository is readable");
        let page = File::made_up("README.md", "");
        assert!(judge(&repo, &page, 0, "no/such/page.md").is_some());
        assert!(judge(&repo, &page, 0, "Cargo.toml").is_none());
    }
}
