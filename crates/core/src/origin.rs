//! Where a value came from: the explained values of a task.
//!
//! A value that steers where an effect lands must equal one the person gave, one the organisation lists, or
//! one from a result field that a manifest trusts. Equality is by type: a mail address equals a mail
//! address, an account an account, the id of a file the id of a file. Containment never counts, and nothing is
//! merged across types: the text "June 13" does not explain file 13, and mail 13 does not either.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::constraint::{AFTER_HOST, are_labels, is_length_of_host, path_of_url};
use crate::ids::ApprovalId;
use crate::tool::{Arg, ResultRule, Role, Trust, When};
use crate::typed::{ValueType, phone, readings};
use crate::value::{Digest, Value};

/// The type by which two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A mail address.
    Address,
    /// A URL or a bare `host/path`; compared without the scheme.
    Url,
    /// A bank account number: of the shape of ISO 13616 and written in one piece, or in groups of four with
    /// valid check digits. Compared without blanks and case.
    Account,
    /// Anything else, compared exactly.
    Plain,
    /// A telephone number.
    Phone,
    /// A file path.
    Path,
    /// A day, or a moment.
    Date,
    /// A decimal number.
    Amount,
    /// The id of a record of a stated type.
    Record,
    /// A name that stands in the intent: of a person, a channel, a host.
    Name,
}

/// A value in the form in which it is compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identifier {
    /// Its type.
    pub kind: Kind,
    /// Its one spelling.
    pub text: String,
    /// For a record's id: the record's type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
}

impl Identifier {
    fn of_kind(kind: Kind, text: String) -> Self {
        Identifier { kind, text, of: None }
    }
}

/// What a steering value has to equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// This value.
    One(Identifier),
    /// This value, or the id of some record whose type the manifest does not state.
    OneOrRecord(Identifier),
    /// This value, or a name that the person who opened the task wrote: whom or what an act reaches has no stated
    /// type, and reads as none.
    OneOrName(Identifier),
    /// Nothing can explain it: it is no value of the type that the manifest states.
    Nothing(String),
}

impl Wanted {
    /// The value as it is told to people.
    pub fn text(&self) -> &str {
        match self {
            Wanted::One(id) | Wanted::OneOrRecord(id) | Wanted::OneOrName(id) => &id.text,
            Wanted::Nothing(text) => text,
        }
    }
    /// The value itself, if there is one.
    pub fn value(&self) -> Option<&Identifier> {
        match self {
            Wanted::One(id) | Wanted::OneOrRecord(id) | Wanted::OneOrName(id) => Some(id),
            Wanted::Nothing(_) => None,
        }
    }
}

/// Who vouches for a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "from", deny_unknown_fields)]
pub enum Origin {
    /// An input of the task, given by the person who opened it.
    Input {
        /// The input's name.
        name: String,
    },
    /// The intent as the person worded it.
    Intent,
    /// The chain: the step pins the value.
    Chain,
    /// A person who approved an amendment of the chain that names it.
    Amendment {
        /// Which.
        approval: ApprovalId,
    },
    /// The organisation's own directory.
    Directory,
    /// A trusted field of a tool's result.
    Result {
        /// The tool.
        tool: String,
        /// The field.
        field: String,
    },
}

/// One value of an act, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sourced {
    /// The argument it stands in; for a payload, the field.
    pub arg: String,
    /// The value, shortened; left out for secrets.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Who vouches for it. Absent: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Origin>,
    /// Where the task has come across a value that nobody vouches for: a tool and a field of its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<(String, String)>,
}

/// Characters that change how others are shown, or are not seen at all, become a mark: left out, they would make two
/// different texts look the same.
pub fn visible(c: char) -> char {
    let hidden = c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    if hidden { '\u{fffd}' } else { c }
}

/// Longest value that is told, in characters.
const TOLD_CHARS: usize = 80;

impl Sourced {
    /// A value with its source: shortened, and with nothing in it that a screen would not show as it is.
    pub fn new(arg: &str, value: &str, from: Option<Origin>, seen: Option<(String, String)>) -> Self {
        let plain = |text: &str| text.len() <= TOLD_CHARS && text.bytes().all(|b| matches!(b, b' '..=b'~'));
        let told = |text: &str| match plain(text) {
            true => text.to_string(),
            false => text.chars().take(TOLD_CHARS).map(visible).collect(),
        };
        Sourced { arg: told(arg), value: told(value), from, seen }
    }
    /// In words, for decisions and approval cards.
    pub fn in_words(&self) -> String {
        let value =
            if self.value.is_empty() { "its value".to_string() } else { format!("\"{}\"", self.value) };
        let arg = &self.arg;
        match (&self.from, &self.seen) {
            (Some(origin), _) => format!("`{arg}`: {value} comes from {}", origin.in_words()),
            (None, Some((tool, field))) => {
                format!("`{arg}`: nobody vouches for {value}; it stood in `{field}` of what {tool} returned")
            }
            (None, None) => {
                format!("`{arg}`: nobody vouches for {value}, and nothing this task read has shown it")
            }
        }
    }
}

impl Origin {
    /// In words, for decisions and approval cards.
    pub fn in_words(&self) -> String {
        match self {
            Origin::Input { name } => format!("the task's input `{name}`"),
            Origin::Intent => "the task's intent".to_string(),
            Origin::Chain => "the declared chain".to_string(),
            Origin::Amendment { approval } => format!("the amendment {approval}, which a person approved"),
            Origin::Directory => "the organisation's directory".to_string(),
            Origin::Result { tool, field } => format!("the trusted field `{field}` of {tool}"),
        }
    }
}

/// The explained values of one task: bounded, and first origin wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explained {
    known: BTreeMap<Identifier, Origin>,
}

/// How many values one task keeps. Past this, new ones stay unexplained: stricter, never laxer.
pub const KNOWN_MAX: usize = 10_000;
/// Longest value that is kept.
const TEXT_MAX: usize = 512;

impl Explained {
    /// Keeps an identifier with its origin, unless the set is full.
    pub fn add(&mut self, id: Identifier, origin: Origin) {
        if self.known.len() < KNOWN_MAX && id.text.len() <= TEXT_MAX && !id.text.is_empty() {
            self.known.entry(id).or_insert(origin);
        }
    }
    /// Keeps every scalar leaf of a value as a whole, and nothing inside it.
    pub fn add_value(&mut self, value: &Value, origin: &Origin) {
        for leaf in leaves(value) {
            self.add(identify(&leaf), origin.clone());
        }
    }
    /// Where a value came from, if it is explained.
    pub fn origin_of(&self, id: &Identifier) -> Option<&Origin> {
        self.known.get(id)
    }
    /// Who vouches for a value that is wanted, if anybody does.
    pub fn vouches(&self, wanted: &Wanted) -> Option<&Origin> {
        match wanted {
            Wanted::One(id) => self.known.get(id),
            Wanted::OneOrRecord(id) => self.known.get(id).or_else(|| self.record(&id.text)),
            Wanted::OneOrName(id) => self.known.get(id).or_else(|| self.name(&id.text)),
            Wanted::Nothing(_) => None,
        }
    }
    /// The origin of a record of any type with this id.
    fn record(&self, text: &str) -> Option<&Origin> {
        let first = Identifier::of_kind(Kind::Record, text.to_string());
        let (id, origin) = self.known.range(first..).next()?;
        (id.kind == Kind::Record && id.text == text).then_some(origin)
    }
    /// The origin of a name that the intent says.
    fn name(&self, text: &str) -> Option<&Origin> {
        self.known.get(&Identifier::of_kind(Kind::Name, text.to_string()))
    }
    /// How many values are kept.
    pub fn len(&self) -> usize {
        self.known.len()
    }
    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Identifier, &Origin)> {
        self.known.iter()
    }
}

/// What a task's own effects have put into the world. When a result brings it back, it is the task's own words
/// and no evidence: a value cannot become trusted by being stored and read again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    known: BTreeSet<String>,
    unseen: bool,
}

impl Written {
    /// Takes note of the arguments of an effect, in every form in which a result rule could trust them later.
    /// What was explained before it was written stays explained.
    pub fn add(&mut self, args: &Value, explained: &Explained) {
        for leaf in leaves(args).into_iter().chain(keys(args)) {
            for text in unexplained_forms(&leaf, explained) {
                self.unseen |= self.known.len() >= KNOWN_MAX;
                if !self.unseen && text.len() <= TEXT_MAX {
                    self.known.insert(text);
                }
            }
        }
    }
    /// Something was written that is not known in full: from now on anything that is read may be it.
    pub fn add_unseen(&mut self) {
        self.unseen = true;
    }
    /// Whether this may be the task's own words. Case and blanks do not tell them apart, as a system may have
    /// changed them.
    pub fn may_be(&self, id: &Identifier) -> bool {
        self.unseen || self.known.contains(&folded(&id.text))
    }
}

/// The forms, folded, in which a result rule of any type could trust a written leaf later, without those that were
/// explained when it was written.
fn unexplained_forms(leaf: &str, explained: &Explained) -> BTreeSet<String> {
    let parts = core::iter::once(leaf).chain(lines_and_tails(leaf).filter(|part| *part != leaf));
    let plain = identify(leaf);
    let named = |id: &Identifier| explained.name(&id.text).is_some();
    let known = |id: &Identifier| explained.origin_of(id).is_some() || named(id);
    // The same text under another type is the same writing: explained once, it was no invention.
    let whole = known(&plain) || explained.record(leaf.trim()).is_some();
    parts
        .flat_map(readings)
        .chain(scan(leaf))
        .filter(|id| !known(id) && (!whole || id.text != plain.text))
        .map(|id| folded(&id.text))
        .collect()
}

/// Short marks of everything that an effect's arguments carry into the world and that nobody has vouched for: by
/// them it is known again when a later task reads it. Days, flags and small numbers leave none: they would make
/// half of all values look like somebody's words.
pub fn marks(args: &Value, explained: &Explained) -> BTreeSet<u64> {
    leaves(args)
        .into_iter()
        .chain(keys(args))
        .flat_map(|leaf| unexplained_forms(&leaf, explained))
        .filter(|text| !says_little(text))
        .map(|text| mark_of_folded(&text))
        .collect()
}

fn says_little(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    matches!(text, "true" | "false")
        || ValueType::Date.identify(text).is_some()
        || (ValueType::Amount.identify(text).is_some() && (digits < 5 || text.contains('.')))
}

/// The mark by which a value is known again.
pub fn mark(id: &Identifier) -> u64 {
    mark_of_folded(&folded(&id.text))
}

/// The mark of a record of a stated type, apart from all marks of values.
pub fn record_mark(id: &Identifier) -> Option<u64> {
    id.of.as_ref().map(|of| mark_of_folded(&format!("\u{0}{of}\u{0}{}", folded(&id.text))))
}

fn mark_of_folded(text: &str) -> u64 {
    let digest = Digest::of(text.as_bytes());
    digest.as_bytes().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn folded(text: &str) -> String {
    text.split_whitespace().flat_map(str::chars).map(|c| c.to_ascii_lowercase()).collect()
}

fn keys(value: &Value) -> Vec<String> {
    match value {
        Value::List(items) => items.iter().flat_map(keys).collect(),
        Value::Map(map) => map.iter().flat_map(|(k, v)| core::iter::once(k.clone()).chain(keys(v))).collect(),
        _ => Vec::new(),
    }
}

/// The spellings of all scalar leaves of a value; keys do not count, blanks are left out.
pub fn leaves(value: &Value) -> Vec<String> {
    let mut out = Vec::new();
    collect(value, &mut out);
    out
}

fn collect(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::List(items) => items.iter().for_each(|item| collect(item, out)),
        Value::Map(map) => map.values().for_each(|item| collect(item, out)),
        Value::Null => {}
        scalar => out.extend(scalar.spelled().filter(|text| !text.is_empty())),
    }
}

/// What the leaves of a steering argument have to equal: all of them, except that a member `type` or `kind` with a
/// plain word in it only says what the members beside it are (`{"type": "file", "id": 13}`). A leaf has the type
/// that the manifest states for the member it stands in, or for the whole argument.
///
/// The names of members steer as well: `{"$ne": 7}` is not 7. A member that neither the manifest lists nor is the id
/// of what the object says it is (`id`, or `file_id` of a `file`) therefore makes the whole object something that
/// nobody vouches for.
pub fn steering(value: &Value, arg: Option<&Arg>) -> Vec<Wanted> {
    let mut out = Vec::new();
    steer(value, arg, arg.and_then(|a| a.of.as_ref()), &mut out);
    out
}

fn steer(value: &Value, arg: Option<&Arg>, of: Option<&ValueType>, out: &mut Vec<Wanted>) {
    match value {
        Value::List(items) => items.iter().for_each(|item| steer(item, arg, of, out)),
        Value::Map(map) => {
            let declared =
                |name: &String| arg.is_some_and(|a| a.members.contains_key(name)) || names_it(map, name);
            let steering = || map.iter().filter(|(n, i)| map.len() == 1 || !says_what_it_is(n, i));
            if !steering().all(|(name, _)| declared(name)) {
                return out.push(Wanted::Nothing(value.canonical()));
            }
            for (name, inner) in steering() {
                steer(inner, arg, arg.and_then(|a| a.members.get(name)).or(of), out);
            }
        }
        scalar => out.extend(leaves(scalar).iter().map(|text| wanted(text, arg, of))),
    }
}

fn wanted(text: &str, arg: Option<&Arg>, of: Option<&ValueType>) -> Wanted {
    match of {
        Some(of) => of.identify(text).map_or_else(|| Wanted::Nothing(text.to_string()), Wanted::One),
        None => {
            let id = identify(text);
            match arg.map(|a| a.role) {
                Some(Role::Selector) => Wanted::OneOrRecord(id),
                Some(Role::Target) if id.kind == Kind::Plain => Wanted::OneOrName(id),
                _ => Wanted::One(id),
            }
        }
    }
}

/// Whether a member is the id of the thing.
fn names_it(thing: &BTreeMap<String, Value>, name: &str) -> bool {
    let kinds = || ["type", "kind"].into_iter().filter_map(|says| thing.get(says).and_then(Value::as_text));
    name == "id" || name.strip_suffix("_id").is_some_and(|of| kinds().any(|kind| kind == of))
}

fn says_what_it_is(name: &str, value: &Value) -> bool {
    let plain_word = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    matches!(name, "type" | "kind") && value.as_text().is_some_and(plain_word)
}

/// The identifier that a whole value is.
pub fn identify(text: &str) -> Identifier {
    let text = text.trim();
    by_shape(text).unwrap_or_else(|| Identifier::of_kind(Kind::Plain, text.to_string()))
}

/// The identifier that a text is by its shape, if it has one.
fn by_shape(text: &str) -> Option<Identifier> {
    if !may_have_shape(text) {
        return None;
    }
    let of = |kind, text: Option<String>| text.map(|text| Identifier::of_kind(kind, text));
    of(Kind::Address, as_address(text))
        .or_else(|| of(Kind::Account, as_account(text)))
        .or_else(|| of(Kind::Phone, text.starts_with('+').then(|| phone(text)).flatten()))
        .or_else(|| of(Kind::Url, as_url(text)))
}

/// Whether there is one of the characters that every shape has: most words have none.
fn may_have_shape(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_digit() || matches!(b, b'@' | b'.' | b'+' | b':'))
}

/// The addresses, links and accounts that stand in free text as words of their own: what the text, if it is
/// trusted, vouches for.
pub fn scan(text: &str) -> BTreeSet<Identifier> {
    let mut found: BTreeSet<Identifier> = text
        .split(ends_word)
        .filter(|word| may_have_shape(word))
        .map(|word| word.trim_end_matches(TRAILING).trim_start_matches(['*', '_', ':']))
        .map(|word| word.strip_prefix("mailto:").unwrap_or(word))
        .filter(|word| (4..=TEXT_MAX).contains(&word.len()))
        .filter_map(|word| by_shape(word.trim()))
        .collect();
    found.extend(spaced_accounts(text));
    found.extend(phones(text));
    found
}

/// What a person's own words vouch for: the addresses, links, accounts and numbers of [`scan`], and names. A name is
/// what stands in quotes; one to four capitalised words in a row; or a word of letters and digits, such as `web-2`. It
/// serves where an act goes to something that has no type, and nowhere else: no name is a record, an address or a
/// password, and nothing without a letter is one.
pub fn said(text: &str) -> BTreeSet<Identifier> {
    let mut found = scan(text);
    // A sentence that begins without a blank: `See www.example.org.They know`.
    found.extend(text.split(ends_word).filter_map(before_sentence).flat_map(scan));
    let names =
        quoted(text).into_iter().chain(capitalised(text)).chain(text.split(ends_word).filter(|w| is_code(w)));
    found.extend(
        names
            .map(|name| name.trim_end_matches(TRAILING).trim())
            .filter(|name| (2..=NAME_MAX).contains(&name.len()) && name.contains(char::is_alphabetic))
            .map(identify)
            .filter(|id| id.kind == Kind::Plain)
            .map(|id| Identifier::of_kind(Kind::Name, id.text)),
    );
    found
}

/// Longest name, in bytes.
const NAME_MAX: usize = 80;
/// Most words of a name that is not in quotes.
const NAME_WORDS: usize = 4;

/// What stands before the last dot of a word, if a capitalised word follows it.
fn before_sentence(word: &str) -> Option<&str> {
    let (before, after) = word.trim_end_matches(TRAILING).rsplit_once('.')?;
    let mut letters = after.chars();
    let begins = letters.next().is_some_and(char::is_uppercase) && letters.all(char::is_lowercase);
    begins.then_some(before)
}

/// What stands in quotes on one line: they open before a word and close after one.
fn quoted(text: &str) -> Vec<&str> {
    const PAIRS: [(char, char); 6] = [
        ('"', '"'),
        ('\'', '\''),
        ('`', '`'),
        ('\u{201c}', '\u{201d}'),
        ('\u{2018}', '\u{2019}'),
        ('\u{ab}', '\u{bb}'),
    ];
    let mut out = Vec::new();
    for (open, close) in PAIRS {
        let mut rest = text;
        while let Some(at) = rest.find(open) {
            let opens = !rest.get(..at).is_some_and(|before| before.ends_with(char::is_alphanumeric));
            rest = rest.get(at + open.len_utf8()..).unwrap_or("");
            let closing = |(at, _): &(usize, &str)| {
                !rest
                    .get(at + close.len_utf8()..)
                    .is_some_and(|after| after.starts_with(char::is_alphanumeric))
            };
            let Some((end, _)) = rest.match_indices(close).find(closing).filter(|_| opens) else { continue };
            let inside = rest.get(..end).unwrap_or("");
            if inside.len() <= NAME_MAX && !inside.contains('\n') {
                out.push(inside);
                rest = rest.get(end + close.len_utf8()..).unwrap_or("");
            }
        }
    }
    out
}

/// One to four capitalised words in a row, with single blanks between them.
fn capitalised(text: &str) -> Vec<&str> {
    let ends = |c: char| c.is_whitespace() || (ends_word(c) && c != '\'');
    let mut at = 0;
    let mut words = Vec::new();
    for piece in text.split_inclusive(ends) {
        words.push((at, piece.trim_end_matches(ends)));
        at += piece.len();
    }
    let mut out = Vec::new();
    for (place, (start, _)) in words.iter().enumerate() {
        let mut end = *start;
        for (at, word) in words.iter().skip(place).take(NAME_WORDS) {
            let joined = *at == *start || (*at == end + 1 && text.get(end..*at) == Some(" "));
            if !joined || !word.starts_with(char::is_uppercase) {
                break;
            }
            let bare = word.trim_end_matches(TRAILING);
            let bare = bare.strip_suffix("'s").or_else(|| bare.strip_suffix("\u{2019}s")).unwrap_or(bare);
            out.extend(text.get(*start..at + bare.len()));
            if bare.len() < word.len() {
                break;
            }
            end = at + word.len();
        }
    }
    out
}

/// A word with letters and digits in it, as machines have for names.
fn is_code(word: &str) -> bool {
    let word = word.trim_end_matches(TRAILING);
    word.starts_with(char::is_alphabetic)
        && word.contains(|c: char| c.is_ascii_digit())
        && word.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// The addresses, links and accounts that a reader could take out of free text, wherever they stand in it: what
/// has to be explained before the text goes out. Finds what [`scan`] finds and also what is glued to other
/// characters (`Link:www.example.org`) or very long.
pub fn mentions(text: &str) -> BTreeSet<Identifier> {
    let mut found = scan(text);
    found.extend(mentioned_addresses(text));
    found.extend(mentioned_links(text));
    found.extend(solid_accounts(text));
    found
}

/// Punctuation after a word that does not belong to it.
const TRAILING: [char; 6] = ['.', ':', '!', '?', '*', '_'];

/// Characters at which a word of free text ends.
pub(crate) fn ends_word(c: char) -> bool {
    // One bit for each ASCII character: every text that is judged is read by this.
    const ENDS: u128 = {
        let (marks, mut bits, mut at) = (b"\t\n\x0b\x0c\r ,;<>()[]\"'`{}|", 0, 0);
        while at < marks.len() {
            bits |= 1 << marks[at];
            at += 1;
        }
        bits
    };
    if c.is_ascii() { ENDS >> u32::from(c) & 1 == 1 } else { c.is_whitespace() }
}

fn in_host(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.')
}

/// Around every `@`: as much as can belong to a local part, and as much as can belong to a domain.
fn mentioned_addresses(text: &str) -> Vec<Identifier> {
    let address = |(at, _)| {
        let (before, after) = (text.get(..at)?, text.get(at + 1..)?);
        let local = before.rsplit(|c| !in_local(c)).next()?;
        let local = local.get(local.len().saturating_sub(64)..)?;
        let domain = after.split(|c| !in_host(c)).next()?.trim_end_matches(['.', '-']);
        as_address(&format!("{local}@{domain}"))
    };
    text.match_indices('@').filter_map(address).map(|text| Identifier::of_kind(Kind::Address, text)).collect()
}

fn in_local(c: char) -> bool {
    c.is_ascii_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-".contains(c)
}

/// Every run of characters that can be a host, with what follows it, if it reads as a link.
fn mentioned_links(text: &str) -> Vec<Identifier> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some((start, run)) = next_run(text, at) {
        let (ahead, after) = (text.get(..start).unwrap_or(""), text.get(start + run.len()..).unwrap_or(""));
        let link = link_at(ahead, run, after);
        at = start + run.len() + link.as_ref().map_or(0, |(_, tail)| *tail);
        out.extend(link.map(|(id, _)| id));
    }
    out
}

/// The next run of characters that can be a host, and where it begins.
fn next_run(text: &str, from: usize) -> Option<(usize, &str)> {
    let rest = text.as_bytes().get(from..)?;
    let before = rest.iter().position(|b| in_host(char::from(*b)))?;
    let length = rest.iter().skip(before).take_while(|b| in_host(char::from(**b))).count();
    Some((from + before, text.get(from + before..from + before + length)?))
}

/// The link that begins with this run, and how many bytes of what follows belong to it. Only links look far
/// ahead, and what they took is not looked at again: linear in the text.
fn link_at(ahead: &str, run: &str, after: &str) -> Option<(Identifier, usize)> {
    let scheme = ahead.strip_suffix("://").map(|head| head.rsplit(|c| !in_host(c)).next().unwrap_or(""));
    if scheme.is_none() && !run.contains('.') {
        return None;
    }
    let host = run.trim_matches(['.', '-']).to_ascii_lowercase();
    let in_address = (ahead.ends_with('@') && ahead.trim_end_matches('@').ends_with(in_local))
        || after.strip_prefix('@').is_some_and(|domain| domain.starts_with(in_host));
    if scheme.is_none() && (in_address || !is_domain(&host)) {
        return None;
    }
    let tail = tail_of_link(after);
    let text = match scheme {
        Some(scheme) => format!("{}://{host}{tail}", scheme.to_ascii_lowercase()),
        None => [host.as_str(), tail].concat(),
    };
    let url = as_url(&text).or_else(|| scheme.is_some().then_some(text))?;
    Some((Identifier::of_kind(Kind::Url, url), tail.len()))
}

/// Port, path, query and fragment, as far as they follow a host.
fn tail_of_link(after: &str) -> &str {
    let digits =
        after.strip_prefix(':').map_or(0, |d| d.bytes().take_while(u8::is_ascii_digit).take(6).count());
    let port = if (1..=5).contains(&digits) { digits + 1 } else { 0 };
    let path = match after.get(port..).filter(|rest| rest.starts_with(['/', '?', '#'])) {
        Some(rest) => rest.split(ends_word).next().unwrap_or("").trim_end_matches(TRAILING).len(),
        None => 0,
    };
    after.get(..port + path).unwrap_or("")
}

/// Accounts in one piece, whatever stands around them.
fn solid_accounts(text: &str) -> Vec<Identifier> {
    text.as_bytes()
        .split(|b| !b.is_ascii_alphanumeric())
        .filter(|run| run.len() >= ACCOUNT_MIN)
        .filter_map(|run| as_account(core::str::from_utf8(run).ok()?))
        .map(|text| Identifier::of_kind(Kind::Account, text))
        .collect()
}

/// Accounts written in groups of four: `DE89 3704 0044 0532 0130 00`.
fn spaced_accounts(text: &str) -> Vec<Identifier> {
    // Without two check digits there is none.
    if text.bytes().filter(u8::is_ascii_digit).count() < 2 {
        return Vec::new();
    }
    let (mut words, mut out) =
        (text.split_whitespace().map(|w| w.trim_end_matches(['.', ',', ';'])), Vec::new());
    while let Some(first) = words.next() {
        if !begins_like_account(first) {
            continue;
        }
        let mut joined = String::with_capacity(2 * ACCOUNT_MAX);
        for word in core::iter::once(first).chain(words.clone().take(8)) {
            if joined.len() + word.len() > ACCOUNT_MAX {
                break;
            }
            joined.push_str(word);
            if !begins_like_account(&joined) {
                break;
            }
            if let Some((account, true)) = account_shape(&joined) {
                out.push(Identifier::of_kind(Kind::Account, account));
            }
        }
    }
    out
}

/// Whether more characters could make this an account: two letters, two digits, and no more than 34 in all.
fn begins_like_account(text: &str) -> bool {
    text.len() <= ACCOUNT_MAX
        && text.bytes().enumerate().all(|(at, b)| match at {
            0 | 1 => b.is_ascii_alphabetic(),
            2 | 3 => b.is_ascii_digit(),
            _ => b.is_ascii_alphanumeric(),
        })
}

/// International telephone numbers: from each `+` on, as far as digits and what may stand between them go.
fn phones(text: &str) -> Vec<Identifier> {
    let number = |(at, _)| {
        let rest = text.get(at..)?;
        let run = rest
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '+' | ' ' | '-' | '.' | '/' | '(' | ')')))
            .map_or(rest, |end| rest.get(..end).unwrap_or(""));
        let end = run.get(1..).and_then(|r| r.find('+')).map_or(run.len(), |n| n + 1);
        phone(run.get(..end.min(32))?.trim_end_matches([' ', '-', '.', '/', '(']))
    };
    text.match_indices('+').filter_map(number).map(|text| Identifier::of_kind(Kind::Phone, text)).collect()
}

/// `local@domain`, ASCII, lower-cased: case in the local part is not used to tell people apart.
fn as_address(text: &str) -> Option<String> {
    let (local, domain) = text.split_once('@')?;
    let local_ok = (1..=64).contains(&local.len())
        && local.bytes().all(|b| b.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&b));
    let lower = domain.to_ascii_lowercase();
    (local_ok && is_domain(&lower)).then(|| format!("{}@{lower}", local.to_ascii_lowercase()))
}

fn is_domain(text: &str) -> bool {
    top_level(text).is_some()
}

/// The last part of a domain, if the text is one.
fn top_level(text: &str) -> Option<&str> {
    let dot = text.bytes().rposition(|b| b == b'.')?;
    let top = text.get(dot + 1..)?;
    let is_one = top.starts_with("xn--") || top.len() >= 2 && top.bytes().all(|b| b.is_ascii_lowercase());
    (is_one && are_labels(text)).then_some(top)
}

/// ISO 13616: two letters, two check digits, 11 to 30 more. Written with blanks, the check digits must hold, so
/// that words which happen to stand side by side are none. Written in one piece, the shape and eight digits are
/// enough: banks exist that do not check, and what looks like an account is to be explained as one.
fn as_account(text: &str) -> Option<String> {
    let (account, checked) = account_shape(text)?;
    let one_piece = account.len() == text.len() && account.bytes().filter(u8::is_ascii_digit).count() >= 8;
    (checked || one_piece).then_some(account)
}

/// An account whose check digits hold, without blanks and case.
pub(crate) fn account_checked(text: &str) -> Option<String> {
    account_shape(text).filter(|(_, checked)| *checked).map(|(account, _)| account)
}

/// Characters of an account without its blanks (ISO 13616).
const ACCOUNT_MIN: usize = 15;
const ACCOUNT_MAX: usize = 34;

/// The account a text could be, without blanks and case, and whether its check digits hold.
fn account_shape(text: &str) -> Option<(String, bool)> {
    let solid = || text.bytes().filter(|b| *b != b' ');
    if text.len() < ACCOUNT_MIN || !solid().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let compact: String = solid().take(ACCOUNT_MAX + 1).map(|b| char::from(b.to_ascii_uppercase())).collect();
    let bytes = compact.as_bytes();
    if !(ACCOUNT_MIN..=ACCOUNT_MAX).contains(&bytes.len()) {
        return None;
    }
    let (country, rest) = bytes.split_at_checked(2)?;
    let (check, body) = rest.split_at_checked(2)?;
    if !country.iter().all(u8::is_ascii_uppercase) || !check.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let checked = check_digits_hold(country, check, body);
    Some((compact, checked))
}

/// Whether a text without blanks is an IBAN whose check digits hold.
pub(crate) fn is_checked_account(text: &str) -> bool {
    account_shape(text).is_some_and(|(_, checked)| checked)
}

/// Country and check digits moved to the end, letters as 10 to 35: the whole is 1 modulo 97.
fn check_digits_hold(country: &[u8], check: &[u8], body: &[u8]) -> bool {
    let remainder = body.iter().chain(country).chain(check).fold(0u32, |sum, b| match b {
        b'0'..=b'9' => (sum * 10 + u32::from(b - b'0')) % 97,
        letter => (sum * 100 + u32::from(letter - b'A') + 10) % 97,
    });
    remainder == 1
}

/// Top-level domains that make a bare `name.tld` a link without `www.` or a path.
fn is_common(top: &str) -> bool {
    matches!(
        top,
        "com"
            | "org"
            | "net"
            | "info"
            | "biz"
            | "io"
            | "dev"
            | "app"
            | "xyz"
            | "online"
            | "site"
            | "shop"
            | "ai"
            | "co"
            | "me"
            | "cloud"
            | "link"
            | "top"
            | "live"
            | "page"
    )
}

fn as_url(text: &str) -> Option<String> {
    let begins =
        |scheme: &str| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
    if begins("https://") || (begins("http://") && text.len() > "http://".len()) {
        return Some(normal_url(text));
    }
    let (host, tail) = text.split_at(text.find(AFTER_HOST).unwrap_or(text.len()));
    if !host.contains('.') {
        return None;
    }
    let host = host.to_ascii_lowercase();
    let bare = host
        .rsplit_once(':')
        .filter(|(_, port)| port.parse::<u16>().is_ok())
        .map_or(host.as_str(), |(h, _)| h);
    let top = top_level(bare)?;
    if !(bare.starts_with("www.") || !tail.is_empty() || is_common(top)) {
        return None;
    }
    let is_bare = tail.is_empty() && bare.len() == host.len();
    match is_bare && is_length_of_host(bare) {
        true => Some(host), // a domain with nothing around it is in its one spelling
        false => Some(normal_parts("http", &host, tail).unwrap_or_else(|| format!("http://{host}{tail}"))),
    }
}

/// Host and path without scheme and trailing slash. What the strict reader cannot split is kept verbatim, so
/// that an odd URL only ever equals itself.
fn normal_url(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (host, tail) = rest.split_at(rest.find(AFTER_HOST).unwrap_or(rest.len()));
    normal_parts(&scheme.to_ascii_lowercase(), &host.to_ascii_lowercase(), tail)
        .unwrap_or_else(|| url.to_string())
}

/// The same of a URL in parts, scheme and host in lower case, if the strict reader can split it.
fn normal_parts(scheme: &str, host: &str, tail: &str) -> Option<String> {
    path_of_url(scheme, host, tail)?;
    Some([host, tail.strip_suffix('/').unwrap_or(tail)].concat())
}

/// Whether an address belongs to one of these domains, itself or below.
pub fn in_domains(text: &str, domains: &BTreeSet<String>) -> bool {
    as_address(text.trim()).and_then(|a| a.split_once('@').map(|(_, d)| d.to_string())).is_some_and(
        |domain| {
            domains.iter().any(|own| {
                domain == *own || domain.strip_suffix(own.as_str()).is_some_and(|h| h.ends_with('.'))
            })
        },
    )
}

/// Whether a URL in its one spelling leads to one of these domains, itself or below.
pub fn host_in_domains(url: &str, domains: &BTreeSet<String>) -> bool {
    let end = url.find(['/', '?', '#']).unwrap_or(url.len());
    let host = url.get(..end).unwrap_or("");
    let host = host.rsplit_once(':').filter(|(_, p)| p.parse::<u16>().is_ok()).map_or(host, |(h, _)| h);
    is_domain(host)
        && domains
            .iter()
            .any(|own| host == own || host.strip_suffix(own.as_str()).is_some_and(|h| h.ends_with('.')))
}

/// The identifiers that a result explains under a manifest's rules, each with the field it came from.
/// Fields that are absent or of another type explain nothing; that is never an error.
pub fn harvest(
    result: &Value,
    rules: &[ResultRule],
    own_domains: &BTreeSet<String>,
) -> Vec<(Identifier, String)> {
    let mut out = Vec::new();
    if !rules.is_empty() {
        walk(result, None, None, rules, own_domains, &mut out);
    }
    out
}

fn walk(
    value: &Value,
    field: Option<&str>,
    record: Option<&BTreeMap<String, Value>>,
    rules: &[ResultRule],
    own: &BTreeSet<String>,
    out: &mut Vec<(Identifier, String)>,
) {
    match value {
        Value::List(items) => items.iter().for_each(|item| walk(item, field, record, rules, own, out)),
        Value::Map(map) => {
            for (key, item) in map {
                let rule = rules.iter().find(|r| {
                    r.path == "*" && r.trust == Trust::Exact && holds(r.when.as_ref(), Some(map), own)
                });
                let ids = rule.map(|rule| trusted(Trust::Exact, rule.of.as_ref(), key)).unwrap_or_default();
                out.extend(ids.into_iter().map(|id| (id, "*".to_string())));
                walk(item, Some(key), Some(map), rules, own, out);
            }
        }
        Value::Null => {}
        scalar => {
            let name = field.unwrap_or("*");
            let rule = rules
                .iter()
                .filter(|rule| rule.path == "*" || rule.path == name)
                .find(|rule| holds(rule.when.as_ref(), record, own));
            if let (Some(rule), Some(text)) = (rule, scalar.spelled()) {
                let ids = trusted(rule.trust, rule.of.as_ref(), &text);
                out.extend(ids.into_iter().map(|id| (id, name.to_string())));
            }
        }
    }
}

/// What a leaf explains under a rule. What does not read as the type that the rule states explains nothing.
fn trusted(trust: Trust, of: Option<&ValueType>, text: &str) -> Vec<Identifier> {
    let identify = |text: &str| of.map_or_else(|| Some(identify(text)), |of| of.identify(text));
    match trust {
        Trust::Exact => identify(text).into_iter().collect(),
        Trust::Text => scan(text).into_iter().collect(),
        Trust::Lines => lines_and_tails(text).filter_map(identify).collect(),
    }
}

/// Each line, and what stands in it after a label: the value in `Host: web-3`.
fn lines_and_tails(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| {
        let tail = line.split_once(": ").map(|(_, tail)| tail);
        [Some(line), tail].into_iter().flatten()
    })
}

/// How many values that nobody vouches for one result shows, at most: for telling people where one came from.
const SHOWN_MAX: usize = 64;

/// The addresses, links, accounts and numbers that a result shows, each with its field: what a person can be told
/// of a value that nobody vouches for. The first of each counts, and only so many.
pub fn shows(result: &Value) -> Vec<(Identifier, String)> {
    let mut out = BTreeMap::new();
    show(result, "", &mut out);
    out.into_iter().collect()
}

fn show(value: &Value, field: &str, out: &mut BTreeMap<Identifier, String>) {
    if out.len() >= SHOWN_MAX {
        return;
    }
    match value {
        Value::List(items) => items.iter().for_each(|item| show(item, field, out)),
        Value::Map(map) => map.iter().for_each(|(name, inner)| show(inner, name, out)),
        scalar => {
            for id in scalar.spelled().iter().flat_map(|text| mentions(text)) {
                if out.len() < SHOWN_MAX && id.text.len() <= 120 {
                    out.entry(id).or_insert_with(|| field.chars().take(64).collect());
                }
            }
        }
    }
}

/// Whether a condition holds for a record. A missing field means no.
pub(crate) fn holds(
    when: Option<&When>,
    record: Option<&BTreeMap<String, Value>>,
    own: &BTreeSet<String>,
) -> bool {
    let Some(when) = when else { return true };
    let Some(text) = record.and_then(|r| r.get(&when.field)).and_then(Value::spelled) else { return false };
    (!when.own_domain || in_domains(&text, own))
        && (when.one_of.is_empty() || when.one_of.contains(&text))
        && !when.none_of.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        said(text).into_iter().filter(|id| id.kind == Kind::Name).map(|id| id.text).collect()
    }

    // proves: N1, A02
    #[test]
    fn what_a_person_calls_by_name_is_a_name_and_ordinary_words_and_numbers_are_none() {
        assert_eq!(names("please tell Bob, then web-2 and 'general'."), ["Bob", "general", "web-2"]);
        assert_eq!(names("ask Dana Fox"), ["Dana", "Dana Fox", "Fox"]);
        assert_eq!(names("in Bob's inbox, \u{201c}the new one\u{201d}"), ["Bob", "the new one"]);
        assert_eq!(names("one. Two"), ["Two"]);
        assert_eq!(
            names("the 13 files of june 13, at 10:30, for 99.50, don't and won't, it's 'open"),
            [""; 0]
        );
        assert_eq!(names("to 'ann@example.org' or 'www.example.org' or \"DE89370400440532013000\""), [""; 0]);
        assert_eq!(names("'13' and \"2026-11-22\" and ''"), [""; 0], "what has no letter is no name");
        assert_eq!(names("'one\ntwo' "), [""; 0], "quotes close on their line");
        let url = identify("www.example.org");
        assert!(said("see www.example.org.They know").contains(&url));
        assert!(!said("see www.example.org.they").contains(&url), "another host");
        assert!(
            !scan("see www.example.org.They know").contains(&url),
            "only a person's own words are read so"
        );
    }

    // proves: N1
    #[test]
    fn a_person_s_words_never_stop_the_reader() {
        for text in ["'", "''", "'''", "\"'\"", "\u{2018}\u{2019}", "A", "Ä", "'ß", "A'", "A 'A", "\u{ab}x"]
        {
            for more in ["", " ", "A", "'", "\u{2019}s"] {
                said(&format!("{text}{more}"));
                said(&format!("{more}{text}"));
            }
        }
    }

    fn kind(text: &str) -> Kind {
        identify(text).kind
    }

    #[test]
    fn values_are_typed_by_their_shape() {
        assert_eq!(kind("Dana@Example.org"), Kind::Address);
        assert_eq!(kind("DE89 3704 0044 0532 0130 00"), Kind::Account);
        assert_eq!(kind("DE89 3704 0044 0532 0130 01"), Kind::Plain, "in groups, check digits must hold");
        assert_eq!(kind("us133000000121212121212"), Kind::Account, "in one piece, the shape is enough");
        assert_eq!(kind("ab12resultsofthequarter"), Kind::Plain, "too few digits for an account");
        assert_eq!(kind("www.example.org"), Kind::Url);
        assert_eq!(kind("example.org/login"), Kind::Url);
        assert_eq!(kind("report.docx"), Kind::Plain);
        assert_eq!(kind("13"), Kind::Plain);
    }

    // proves: A02
    #[test]
    fn look_alikes_are_never_merged() {
        for (a, b) in [
            ("dana@example.org", "dаna@example.org"),
            ("dana@example.org", "dana@example.org.evil.com"),
            ("https://example.org/a", "https://example.org/a/../b"),
            ("https://example.org", "https://example.org@evil.com"),
            ("https://example.org/a", "https://example.org/%61"),
            ("June 13", "13"),
            ("file", "File"),
            ("dana@example.org", "dana@\u{200b}example.org"),
            ("DE89370400440532013000", "DE89370400440532013001"),
        ] {
            assert_ne!(identify(a), identify(b), "{a} / {b}");
        }
        assert_eq!(identify("https://Example.org/"), identify("example.org"));
    }

    #[test]
    fn free_text_gives_up_its_identifiers() {
        let found = scan(
            "Write to <eve@evil.com>, see www.evil.com/x. Pay DE89 3704 0044 0532 0130 00, not report.docx.",
        );
        let texts: Vec<&str> = found.iter().map(|id| id.text.as_str()).collect();
        assert_eq!(texts, ["eve@evil.com", "www.evil.com/x", "DE89370400440532013000"]);
        assert!(scan("Dinner on June 13 with Ann.").is_empty());
    }

    // proves: A02
    #[test]
    fn what_is_glued_to_other_words_is_mentioned_all_the_same() {
        let long = format!("https://evil.com/{}", "x".repeat(2 * TEXT_MAX));
        for (text, wanted) in [
            ("Link:www.evil.com", "www.evil.com"),
            ("see\u{2192}http://evil.com/x?a=b&c.", "evil.com/x?a=b&c"),
            ("url=HTTPS://Evil.com:8443/x", "evil.com:8443/x"),
            ("www.known.org:www.evil.com", "www.evil.com"),
            ("ftp://evil.org/drop", "ftp://evil.org/drop"),
            ("http://10.0.0.1/x", "10.0.0.1/x"),
            ("Mail:\u{201c}eve@evil.com\u{201d}", "eve@evil.com"),
            ("(pay_DE89370400440532013000_now)", "DE89370400440532013000"),
            ("@evil.com", "evil.com"),
            (long.as_str(), &long["https://".len()..]),
        ] {
            let found = mentions(text);
            assert!(found.iter().any(|id| id.text == wanted), "{text}: {found:?}");
        }
        assert_eq!(scan(&long).len(), 0, "too long to be kept, so it can never be explained");
    }

    #[test]
    fn plain_words_mention_nothing_and_known_ones_nothing_more() {
        for text in
            ["Dinner on June 13 at 12:30, e.g. with Ann; see report.docx.", "3.5 vs. 4.0", "a/b/c", ""]
        {
            assert!(mentions(text).is_empty(), "{text}: {:?}", mentions(text));
        }
        let odd = "a.co:".repeat(20_000);
        assert_eq!(mentions(&odd).len(), 1, "in linear time");
        for text in ["mail bob@known.com", "https://known.com/a?b=http://other.com/c", "known.com:8080/a."] {
            assert_eq!(mentions(text), scan(text), "{text}");
        }
    }

    // proves: N1
    #[test]
    fn a_field_is_trusted_only_under_its_condition() {
        let rules = [ResultRule {
            path: "body".to_string(),
            trust: Trust::Text,
            of: None,
            assigned: false,
            when: Some(When {
                field: "sender".to_string(),
                own_domain: true,
                one_of: BTreeSet::new(),
                none_of: BTreeSet::new(),
            }),
        }];
        let own = BTreeSet::from(["example.org".to_string()]);
        let mail = |sender: &str| {
            Value::parse(format!(r#"[{{"sender":"{sender}","body":"ask bob@other.net"}}]"#).as_bytes())
                .unwrap()
        };
        assert_eq!(harvest(&mail("ann@example.org"), &rules, &own).len(), 1);
        assert!(harvest(&mail("ann@example.org.evil.com"), &rules, &own).is_empty());
        assert!(harvest(&Value::parse(br#"{"body":"ask bob@other.net"}"#).unwrap(), &rules, &own).is_empty());
    }

    // proves: N1
    #[test]
    fn what_was_written_is_known_again_in_every_form_in_which_it_could_come_back() {
        let mut explained = Explained::default();
        explained.add(identify("Hotel Adler"), Origin::Intent);
        let mut written = Written::default();
        let args = Value::parse(
            br#"{"street":"GB29 NWBK 6016 1331 9268 19","note":"Hotels: Lakeside View\nask eve@evil.com",
                "city":"Hotel Adler","more":[{"Cafe Vert":41}]}"#,
        );
        written.add(&args.unwrap(), &explained);
        for back in ["GB29NWBK60161331926819", "lakeside  view", "eve@evil.com", "Cafe Vert", "41"] {
            assert!(written.may_be(&identify(back)), "{back}");
        }
        for other in ["Hotel Adler", "Lakeside", "4", "ann@example.org"] {
            assert!(!written.may_be(&identify(other)), "{other}");
        }
        written.add_unseen();
        assert!(written.may_be(&identify("ann@example.org")));
    }

    #[test]
    fn what_an_object_is_does_not_steer_and_everything_else_in_it_does() {
        let steers = |json: &str| {
            let found = steering(&Value::parse(json.as_bytes()).unwrap(), None);
            found.iter().map(|wanted| wanted.text().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(steers(r#"[{"type":"file","file_id":"13"},"x"]"#), ["13", "x"]);
        for nobody_vouches in [
            r#"{"type":"file"}"#,
            r#"{"id":1,"type":"13"}"#,
            r#"{"name":"file","type":["a"]}"#,
            r#"{"$ne":"13"}"#,
            r#"{"not_id":"13","type":"file"}"#,
        ] {
            assert_eq!(steers(nobody_vouches), [nobody_vouches]);
            let wanted = steering(&Value::parse(nobody_vouches.as_bytes()).unwrap(), None);
            assert!(matches!(wanted[..], [Wanted::Nothing(_)]), "{wanted:?}");
        }
    }

    #[test]
    fn the_set_is_bounded_and_the_first_origin_stays() {
        let mut known = Explained::default();
        known.add(identify("a@b.org"), Origin::Intent);
        known.add(identify("a@b.org"), Origin::Directory);
        assert_eq!(known.origin_of(&identify("A@B.org")), Some(&Origin::Intent));
        for n in 0..KNOWN_MAX + 10 {
            known.add(identify(&format!("v{n}")), Origin::Intent);
        }
        assert_eq!(known.len(), KNOWN_MAX);
    }
}
