//! What is printed: data on standard output, talk on standard error, colour and motion on terminals only.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use bailiwick_core::origin::visible;
use clap::ValueEnum;
use comfy_table::{Cell, ContentArrangement, Table};
use serde::Serialize;

use crate::fail::Failure;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// One JSON document per line.
    Ndjson,
}

/// The two streams of the program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    format: Format,
    /// Whether standard output takes colour.
    pub(crate) data: Paint,
    /// Whether standard error takes colour.
    pub(crate) talk: Paint,
    motion: bool,
}

/// Colours, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint(bool);

impl Paint {
    fn of(terminal: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        Paint(terminal && !unwanted)
    }
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }
    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }
    pub(crate) fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }
    pub(crate) fn green(self, text: &str) -> String {
        self.with("32", text)
    }
    pub(crate) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }
    pub(crate) fn cyan(self, text: &str) -> String {
        self.with("36", text)
    }
    /// The word of a decision in its colour.
    pub(crate) fn effect(self, effect: &str) -> String {
        match effect {
            "allow" => self.green("allow"),
            "ask" => self.yellow("ask"),
            "deny" => self.red("DENY"),
            other => other.to_owned(),
        }
    }
}

impl Out {
    pub(crate) fn new(format: Format) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Out {
            format,
            data: Paint::of(std::io::stdout().is_terminal()),
            talk: Paint::of(terminal),
            motion: terminal && Paint::of(terminal).0,
        }
    }

    /// Whether people read the data.
    pub(crate) fn is_table(&self) -> bool {
        self.format == Format::Table
    }

    /// Prints data: for people as `human` makes it, for programs as it is.
    pub(crate) fn show<T: Serialize>(&self, data: &T, human: impl FnOnce(Paint) -> String) {
        match self.format {
            Format::Table => self.print(&human(self.data)),
            Format::Json => self.print(&serde_json::to_string_pretty(data).unwrap_or_default()),
            Format::Yaml => self.print(serde_saphyr::to_string(data).unwrap_or_default().trim_end()),
            Format::Ndjson => match serde_json::to_value(data) {
                Ok(serde_json::Value::Array(items)) => items.iter().for_each(|i| self.print(&i.to_string())),
                Ok(one) => self.print(&one.to_string()),
                Err(_) => {}
            },
        }
    }

    /// Prints one line or more of data. A reader that has gone away is no trouble.
    pub(crate) fn print(&self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{text}");
        let _ = stdout.flush();
    }

    /// Says something to the person.
    pub(crate) fn say(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Says why the command failed, to programs as one JSON line.
    pub(crate) fn complain(&self, failure: &Failure) {
        if self.is_table() {
            self.say(&format!("{} {failure}", self.talk.red("error:")));
        } else {
            let error = serde_json::json!({"error": {
                "code": failure.code, "exit": failure.exit as u8, "what": failure.what, "next": failure.next,
            }});
            self.say(&error.to_string());
        }
    }

    /// Waits for something; past a second, a terminal shows that it is under way.
    pub(crate) async fn wait<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        if let Ok(done) = tokio::time::timeout(Duration::from_secs(1), &mut work).await {
            return done;
        }
        let spinner = if self.motion {
            indicatif::ProgressBar::new_spinner()
        } else {
            indicatif::ProgressBar::hidden()
        };
        spinner.set_message(what.to_owned());
        spinner.enable_steady_tick(Duration::from_millis(120));
        let done = work.await;
        spinner.finish_and_clear();
        done
    }
}

/// Rows under headings, aligned, without frames.
pub(crate) fn table(paint: Paint, headings: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return paint.dim("none");
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.iter().map(|h| Cell::new(h.to_ascii_uppercase())));
    for row in rows {
        table.add_row(row);
    }
    let text = table.to_string();
    let mut lines = text.lines().map(str::trim_end);
    let mut out = vec![paint.dim(lines.next().unwrap_or_default())];
    out.extend(lines.map(str::to_owned));
    out.join("\n")
}

/// Text of others, fit for a terminal: one line, no control characters, bounded.
pub(crate) fn plain(text: &str, most: usize) -> String {
    let mut shown: String =
        text.chars().map(|c| if c.is_whitespace() { ' ' } else { visible(c) }).take(most).collect();
    if text.chars().count() > most {
        shown.push('…');
    }
    shown
}

/// So many of something, as people say it: `1 task`, `2 tasks`, `2 policies`.
pub(crate) fn several(count: usize, one: &str) -> String {
    match one.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'i', 'o', 'u'])) {
        _ if count == 1 => format!("1 {one}"),
        Some(stem) => format!("{count} {stem}ies"),
        None if one.ends_with('s') => format!("{count} {one}es"),
        None => format!("{count} {one}s"),
    }
}

/// A moment as people write it, in UTC.
pub(crate) fn moment(at: bailiwick_core::Time) -> String {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => "never".to_owned(),
    }
}

/// Milliseconds as people say them.
pub(crate) fn span(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..=119 => format!("{s} s"),
        s @ 120..=7199 => format!("{} min", s / 60),
        s => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_others_cannot_move_the_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{202e}d", 80), "a\u{fffd}[2Jb c\u{fffd}d");
        assert_eq!(plain("abcdef", 3), "abc…");
    }

    #[test]
    fn one_is_not_several() {
        assert_eq!((several(1, "task"), several(0, "task")), ("1 task".into(), "0 tasks".into()));
        assert_eq!((several(2, "policy"), several(1, "policy")), ("2 policies".into(), "1 policy".into()));
        assert_eq!(several(2, "day"), "2 days");
    }

    #[test]
    fn spans_read_well() {
        assert_eq!(span(90_000), "90 s");
        assert_eq!(span(20 * 60_000), "20 min");
        assert_eq!(span(3 * 3_600_000 + 60_000), "3 h 1 min");
    }

    #[test]
    fn columns_line_up() {
        let text = table(Paint(false), &["name", "state"], vec![vec!["a".into(), "open".into()]]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().next().is_some_and(|l| l.contains("NAME") && l.contains("STATE")));
    }
}
