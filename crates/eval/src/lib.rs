//! Measures: model checks, benches, scenarios.
