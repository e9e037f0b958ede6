//! Repository rules, as tests.
//!
//! What a reviewer would otherwise have to remember is checked here, on every run: which crate may use which
//! (`layers`), what a dependency must be like (`supply`), what a source file must and must not contain (`words`),
//! that links lead somewhere (`links`), that numbers in the manual are those in the code (`defaults`), and which test
//! proves which obligation (`proofs`).
//!
//! A rule takes the repository and returns what it found; an empty list is a pass. The rules run against this
//! repository in `tests/repository.rs`, and each is tried on small made-up texts in its own file.

pub mod defaults;
pub mod layers;
pub mod links;
pub mod proofs;
pub mod repo;
pub mod supply;
pub mod words;

pub use repo::{Finding, Repo};

/// Looks at the repository and says what it objects to.
pub type Rule = fn(&Repo) -> Vec<Finding>;

/// Every rule of the house with its name, in the order they are reported.
pub const RULES: &[(&str, Rule)] = &[
    ("layers", layers::check),
    ("manifests", layers::manifests),
    ("supply", supply::check),
    ("words", words::check),
    ("links", links::check),
    ("defaults", defaults::check),
    ("proofs", proofs::check),
];
