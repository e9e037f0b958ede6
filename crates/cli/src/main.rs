//! The binary `bailiwick`: commands and configuration come together here.

fn main() {}
