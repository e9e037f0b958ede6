//! Policy texts with their names, and the one form in which a whole set is stored.
//!
//! The name of a source says whom it is for: below `classes/NAME/`, or called `classes/NAME.cedar`, it speaks
//! to agents of that class only; everything else speaks to all.

use bailiwick_core::value::Digest;

use crate::errors::PolicyError;

/// Most bytes of all texts of a set together.
pub const TEXT_BYTES_MAX: usize = 16 << 20;
/// Most bytes of one policy.
pub const POLICY_BYTES_MAX: usize = 16 << 10;
/// Most policies in a set.
pub const POLICIES_MAX: usize = 20_000;
/// How deep brackets may be nested in a policy.
pub const NESTING_MAX: usize = 64;
/// Most operator characters and `if`s in a policy. Each can make an expression one deeper, and Cedar gives up on
/// deep ones by the stack that is left: the validator then passes them, and the answer would depend on the thread.
pub const OPERATORS_MAX: usize = 512;

/// One policy text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Its name, by convention a relative path with `/`.
    pub name: String,
    /// Cedar.
    pub text: String,
}

impl Source {
    /// A source.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Source { name: name.into(), text: text.into() }
    }
    /// The agent class it speaks to, if its name says one.
    pub(crate) fn class(&self) -> Option<&str> {
        let rest = match self.name.split_once("classes/") {
            Some((before, rest)) if before.is_empty() || before.ends_with('/') => rest,
            _ => return None,
        };
        match rest.split_once('/') {
            Some((class, _)) => Some(class),
            None => rest.strip_suffix(".cedar"),
        }
    }
    /// The line, counted from 1, of a byte offset.
    pub(crate) fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|b| *b == b'\n').count()
    }
}

const MARK: &str = "//! source: ";

/// Joins sources into one text, as it is stored and shown. [`unpack`] takes it apart again.
pub fn pack(sources: &[Source]) -> String {
    let mut sorted: Vec<&Source> = sources.iter().collect();
    sorted.sort();
    sorted.iter().map(|s| format!("{MARK}{}\n{}\n", s.name, s.text.trim_end())).collect()
}

/// Takes a packed text apart. A text without marks is one source called `policy.cedar`.
pub fn unpack(text: &str) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix(MARK), sources.last_mut()) {
            (Some(name), _) => sources.push(Source::new(name.trim(), "")),
            (None, None) if line.trim().is_empty() => {}
            (None, None) => sources.push(Source::new("policy.cedar", format!("{line}\n"))),
            (None, Some(source)) => {
                source.text.push_str(line);
                source.text.push('\n');
            }
        }
    }
    sources
}

/// Hash of a set: its texts with their names, whatever order they come in.
pub fn version(sources: &[Source]) -> Digest {
    let sorted = unpack(&pack(sources));
    let mut parts: Vec<&[u8]> = vec![b"bailiwick policy v1"];
    for source in &sorted {
        parts.push(source.name.as_bytes());
        parts.push(source.text.as_bytes());
    }
    Digest::of_parts(&parts)
}

/// Refuses what is too large or nested too deep to be read safely, before any parser sees it.
pub(crate) fn check_caps(sources: &[Source]) -> Result<(), PolicyError> {
    let bytes: usize = sources.iter().map(|s| s.text.len()).sum();
    if bytes > TEXT_BYTES_MAX {
        let what = format!("the set has {bytes} bytes; the most is {TEXT_BYTES_MAX}");
        return Err(PolicyError::new(
            "policy.too_large",
            "policies",
            what,
            "Fold rules that differ only in names into one",
        ));
    }
    sources.iter().try_for_each(check_source)
}

fn check_source(source: &Source) -> Result<(), PolicyError> {
    let named = (1..=200).contains(&source.name.len())
        && source.name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'));
    if !named {
        let shown: String = source.name.chars().take(64).flat_map(char::escape_default).collect();
        let help = "Use 1 to 200 letters, digits, '.', '_', '-' and '/'";
        return Err(PolicyError::new("policy.source_name", &shown, "not a name for a source", help));
    }
    if let Some(n) = source.text.lines().position(|line| line.starts_with(MARK)) {
        let what = format!("a line that begins with `{}` marks where another source begins", MARK.trim());
        return Err(PolicyError::new("policy.source_mark", &source.name, what, "Remove the line").at(n + 1));
    }
    let Err((line, problem)) = Scanner::new(&source.text).scan() else { return Ok(()) };
    let (what, help) = match problem {
        Problem::Deep => (format!("brackets nested more than {NESTING_MAX} deep"), "Split the condition"),
        Problem::Knotty => (format!("a policy of more than {OPERATORS_MAX} operators"), "Split the policy"),
        Problem::Long => (format!("a policy of more than {POLICY_BYTES_MAX} bytes"), "Split the policy"),
        Problem::Odd => {
            ("a character that cannot be seen".to_owned(), "Remove it, or write it as \\u{…} in a string")
        }
    };
    Err(PolicyError::new("policy.too_large", &source.name, what, help).at(line))
}

enum Problem {
    Deep,
    Knotty,
    Long,
    Odd,
}

/// Walks over a text as a lexer would: strings and comments do not nest, `;` outside brackets ends a policy.
struct Scanner<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
    depth: usize,
    operators: usize,
    bytes: usize,
    word: String,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Scanner {
            chars: text.chars().peekable(),
            line: 1,
            depth: 0,
            operators: 0,
            bytes: 0,
            word: String::new(),
        }
    }

    fn scan(mut self) -> Result<(), (usize, Problem)> {
        while let Some(c) = self.next()? {
            self.letter(c);
            match c {
                '"' => self.string()?,
                '/' if self.chars.peek() == Some(&'/') => self.comment()?,
                '(' | '[' | '{' => self.depth += 1,
                ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
                ';' if self.depth == 0 => (self.operators, self.bytes) = (0, 0),
                '.' | '!' | '&' | '|' | '+' | '-' | '*' | '<' | '>' | '=' => self.operators += 1,
                _ => {}
            }
            self.check()?;
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<char>, (usize, Problem)> {
        let Some(c) = self.chars.next() else { return Ok(None) };
        if is_odd(c) {
            return Err((self.line, Problem::Odd));
        }
        self.line += usize::from(c == '\n');
        self.bytes += c.len_utf8();
        Ok(Some(c))
    }

    fn string(&mut self) -> Result<(), (usize, Problem)> {
        while let Some(c) = self.next()? {
            match c {
                '"' => break,
                '\\' => drop(self.next()?),
                _ => {}
            }
        }
        Ok(())
    }

    /// A comment is not part of any policy's size.
    fn comment(&mut self) -> Result<(), (usize, Problem)> {
        let bytes = self.bytes;
        while let Some(c) = self.next()? {
            if c == '\n' {
                break;
            }
        }
        self.bytes = bytes;
        Ok(())
    }

    /// `if … then … else` nests without brackets.
    fn letter(&mut self, c: char) {
        if c.is_ascii_alphanumeric() || c == '_' {
            self.word.push(c);
        } else {
            self.operators += usize::from(self.word == "if");
            self.word.clear();
        }
    }

    fn check(&self) -> Result<(), (usize, Problem)> {
        match () {
            () if self.depth > NESTING_MAX => Err((self.line, Problem::Deep)),
            () if self.operators > OPERATORS_MAX => Err((self.line, Problem::Knotty)),
            () if self.bytes > POLICY_BYTES_MAX => Err((self.line, Problem::Long)),
            () => Ok(()),
        }
    }
}

/// Characters that make a text read otherwise than it is: controls, bidirectional marks, zero width.
fn is_odd(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_set_comes_apart_as_it_went_in() {
        let sources = [
            Source::new("b.cedar", "permit (principal, action, resource);\n"),
            Source::new("a.cedar", "// two\nforbid (principal, action, resource);\n"),
        ];
        let packed = pack(&sources);
        let unpacked = unpack(&packed);
        assert_eq!(unpacked.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["a.cedar", "b.cedar"]);
        assert_eq!(pack(&unpacked), packed);
        assert_eq!(version(&unpacked), version(&sources));
        assert_eq!(unpack("permit (principal, action, resource);")[0].name, "policy.cedar");
    }

    // proves: INV5
    #[test]
    fn the_version_names_the_texts_and_not_their_order() {
        let (a, b) = (Source::new("a", "x"), Source::new("b", "y"));
        assert_eq!(version(&[a.clone(), b.clone()]), version(&[b.clone(), a.clone()]));
        assert_ne!(version(&[a.clone(), b.clone()]), version(&[a.clone(), Source::new("b", "z")]));
        assert_ne!(version(&[a.clone(), b]), version(&[a, Source::new("c", "y")]));
    }

    #[test]
    fn no_text_can_pass_for_another_source() {
        let hidden = Source::new("a", "// x\n//! source: classes/ops.cedar\n");
        assert_eq!(check_caps(&[hidden]).map_err(|e| e.code()), Err("policy.source_mark"));
        assert_eq!(check_caps(&[Source::new("a\nb", "")]).map_err(|e| e.code()), Err("policy.source_name"));
    }

    #[test]
    fn the_name_says_whom_it_is_for() {
        let class = |name: &str| Source::new(name, "").class().map(str::to_owned);
        assert_eq!(class("classes/ops.cedar").as_deref(), Some("ops"));
        assert_eq!(class("policies/classes/ops/prod.cedar").as_deref(), Some("ops"));
        assert_eq!(class("subclasses/ops.cedar"), None);
        assert_eq!(class("ops.cedar"), None);
    }

    #[test]
    fn what_cannot_be_read_safely_is_refused_before_it_is_parsed() {
        let check = |text: &str| check_caps(&[Source::new("x", text)]).map_err(|e| e.code());
        let deep = format!(
            "permit (principal, action, resource) when {{ {}1 == 1{} }};",
            "(".repeat(65),
            ")".repeat(65)
        );
        assert_eq!(check(&deep), Err("policy.too_large"));
        assert!(check("permit (principal, action, resource) when { \"((((\" like \"a\" };").is_ok());
        let long = format!(
            "permit (principal, action, resource) when {{ true{} }};",
            " && true".repeat(POLICY_BYTES_MAX / 8)
        );
        assert_eq!(check(&long), Err("policy.too_large"));
        assert_eq!(
            check("permit (principal, action, resource) when { \"a\u{202e}b\" == \"x\" };"),
            Err("policy.too_large")
        );
        let many = "permit (principal, action, resource);\n".repeat(1000);
        assert!(check(&many).is_ok(), "many small policies are not one long one");
    }
}
