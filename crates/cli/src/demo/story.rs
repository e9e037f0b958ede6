//! How the demo is told to people: one line per act, the refusals in red, the numbers at the end.

use std::time::Instant;

use crate::out::{Out, Paint, plain};

/// Tells the story, or keeps quiet when programs listen.
pub(crate) struct Story {
    out: Option<Out>,
    paint: Paint,
    began: Instant,
}

impl Story {
    pub(crate) fn new(out: Out) -> Story {
        Story { out: out.is_table().then_some(out), paint: out.data, began: Instant::now() }
    }

    pub(crate) fn paint(&self) -> Paint {
        self.paint
    }

    pub(crate) fn line(&self, text: &str) {
        if let Some(out) = &self.out {
            out.print(text);
        }
    }

    /// A chapter with its time and its sentence.
    pub(crate) fn chapter(&self, title: &str, about: &str) {
        let at = format!("{:>4.1} s", self.began.elapsed().as_secs_f64());
        self.line("");
        self.line(&format!("{}  {}  {about}", self.paint.dim(&at), self.paint.bold(title)));
    }

    /// One act of somebody.
    pub(crate) fn act(&self, who: &str, what: &str, effect: &str, note: &str) {
        let pad = " ".repeat(5usize.saturating_sub(effect.len()));
        let effect = match effect {
            "gone" => self.paint.red("GONE"),
            other => self.paint.effect(other),
        };
        let who = self.paint.cyan(&format!("{who:<11}"));
        let note =
            if note.is_empty() { String::new() } else { format!("  {}", self.paint.dim(&plain(note, 110))) };
        self.line(&format!("        {who} {what:<30} {effect}{pad}{note}"));
    }

    /// Something worth knowing.
    pub(crate) fn note(&self, text: &str) {
        self.line(&format!("        {text}"));
    }
}
