//! Measures: model checks, benches, scenarios.

pub mod model;
