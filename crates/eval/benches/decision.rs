//! One decision in process, for watching single changes: `cargo bench -p bailiwick-eval --bench decision`.
//!
//! The scene is that of `bailiwick bench`, which judges ratios in one run; here criterion compares with the run
//! before.

#[expect(dead_code, reason = "the command measures more than is watched here")]
#[path = "../../cli/src/bench/mod.rs"]
mod measured;

use bailiwick_core::verdict::Policy;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use measured::decision::{Nod, Population};
use measured::scene;

fn decision(c: &mut Criterion) {
    let registry = scene::registry().expect("the scene is complete");
    let mut watch = |group: &str, size: usize, mut population: Population, policy: &dyn Policy| {
        c.benchmark_group(group).bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| population.decide(&registry, policy));
        });
        assert_eq!(population.wrong, 0, "every decision of {group}/{size} is a yes");
    };
    let compiled = |n| scene::compiled(&scene::policies(n)).expect("the policies are valid");
    let ten = compiled(10);
    for grants in [10, 1_000, 100_000] {
        watch("live grants", grants, Population::of(grants).expect("a population"), &ten);
    }
    for policies in [10, 1_000, 10_000] {
        watch("policies", policies, Population::of(10).expect("a population"), &compiled(policies));
    }
    for depth in [1, 8, 16] {
        watch("depth", depth, Population::at_depth(depth).expect("a chain"), &ten);
        watch("depth without policies", depth, Population::at_depth(depth).expect("a chain"), &Nod);
    }
}

criterion_group!(benches, decision);
criterion_main!(benches);
