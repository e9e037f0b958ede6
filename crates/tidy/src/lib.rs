//! Repository rules, as tests.
