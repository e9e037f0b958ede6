//! What `bailiwick bench` measures, without the rest of the program:
//! `cargo bench -p bailiwick-eval --bench ratios [-- PART] [--quick] [--json]`.

#[path = "../../cli/src/bench/mod.rs"]
mod measured;

use measured::Effort;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let asked = |name: &str| std::env::args().any(|arg| arg == name);
    let effort = if asked("--quick") { Effort::QUICK } else { Effort::FULL };
    let folder = tempfile::tempdir()?;
    let only = measured::PARTS.into_iter().find(|part| asked(part));
    let json = asked("--json");
    let mut told = |lines: &[measured::Line]| {
        if !json {
            lines.iter().for_each(|line| println!("{line}"));
        }
    };
    let report = measured::run(effort, only, folder.path(), &mut told)?;
    println!("{}", if json { serde_json::to_string_pretty(&report)? } else { report.closing() });
    Ok(())
}
