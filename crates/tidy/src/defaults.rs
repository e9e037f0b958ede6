//! Numbers in the manual are the numbers in the code.
//!
//! A row of a table in docs/manual that shows a value and links to a constant, as in
//! ``| `64` | [`DEPTH_MAX`](../../crates/core/src/value.rs) | ... |``, must show what the code says, spelled the same.

use crate::links::resolve;
use crate::repo::File;
use crate::{Finding, Repo};

const MANUAL: &str = "docs/manual/";

/// A value, the constant it is said to be, and the file that is said to define it.
#[derive(Debug, PartialEq, Eq)]
struct Shown<'a> {
    value: &'a str,
    constant: &'a str,
    link: &'a str,
}

/// Checks every page of the manual.
pub fn check(repo: &Repo) -> Vec<Finding> {
    let pages = repo.files().iter().filter(|f| f.path.starts_with(MANUAL) && f.ending() == "md");
    pages.flat_map(|page| on_page(repo, page)).collect()
}

fn on_page(repo: &Repo, page: &File) -> Vec<Finding> {
    let shown = page.text.lines().enumerate().filter_map(|(n, line)| Some((n, shown(line)?)));
    shown.filter_map(|(n, shown)| judge(repo, page, n, &shown)).collect()
}

fn judge(repo: &Repo, page: &File, line: usize, shown: &Shown<'_>) -> Option<Finding> {
    let source = resolve(&page.path, shown.link);
    let value = repo.text(&source).and_then(|text| value_of(text, shown.constant));
    let what = match value {
        Some(value) if value == shown.value => return None,
        Some(value) => format!("`{}` is `{value}` in {source}, not `{}`", shown.constant, shown.value),
        None => format!("no constant `{}` in {source}", shown.constant),
    };
    Some(Finding::new(page.at(line), what, "correct the manual, and its reason if that changed too"))
}

fn shown(line: &str) -> Option<Shown<'_>> {
    let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
    cells.windows(2).find_map(|pair| {
        let value = pair.first()?.strip_prefix('`')?.strip_suffix('`')?;
        let (constant, link) = pair.get(1)?.strip_prefix("[`")?.split_once("`](")?;
        Some(Shown { value, constant, link: link.strip_suffix(')')? })
    })
}

/// The right side of `const NAME: T = value;`.
fn value_of<'a>(source: &'a str, constant: &str) -> Option<&'a str> {
    let (_, rest) = source.split_once(&format!("const {constant}:"))?;
    let (_, value) = rest.split_once('=')?;
    Some(value.split_once(';')?.0.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_with_a_value_and_a_constant_is_read() {
        let row = "| nesting | `64` | [`DEPTH_MAX`](../../crates/core/src/value.rs) | because |";
        let expected = Shown { value: "64", constant: "DEPTH_MAX", link: "../../crates/core/src/value.rs" };
        assert_eq!(shown(row), Some(expected));
        assert_eq!(shown("| mode | enforce | because |"), None);
        assert_eq!(shown("text with `64` and [`X`](y.rs)"), None);
    }

    #[test]
    fn the_value_is_what_stands_in_the_code() {
        let source = "pub const A: u8 = 1;\n/// B.\npub(crate) const DEPTH_MAX: usize = 1 << 6;\n";
        assert_eq!(value_of(source, "DEPTH_MAX"), Some("1 << 6"));
        assert_eq!(value_of(source, "DEPTH"), None);
    }

    #[test]
    fn a_wrong_number_and_a_missing_constant_are_found() {
        let repo = Repo::here().expect("the repository is readable");
        let judged = |row: &str| on_page(&repo, &File::made_up("docs/manual/x.md", row)).len();
        let here = "../../crates/tidy/src/defaults.rs";
        assert_eq!(judged(&format!("| `\"docs/manual/\"` | [`MANUAL`]({here}) |")), 0);
        assert_eq!(judged(&format!("| `\"docs/other/\"` | [`MANUAL`]({here}) |")), 1);
        assert_eq!(judged(&format!("| `1` | [`NO_SUCH_CONSTANT`]({here}) |")), 1);
    }
}
