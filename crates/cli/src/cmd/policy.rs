//! `policy check|test|explain|schema|apply|show`: rules as code, tried out before they are in force.
//!
//! Checking, testing and explaining happen here, against the agents and tools of the configuration; only `apply`
//! and `show` ask the server.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bailiwick_api::wire::PolicySource;
use bailiwick_core::agent::Agent;
use bailiwick_core::label::Label;
use bailiwick_core::tool::Manifest;
use bailiwick_core::value::Value;
use bailiwick_core::verdict::{Approved, Deed, Facts, Resource, Verdict};
use bailiwick_core::{AgentId, GroupId, PrincipalId, StepId, TaskId, Time, ToolId};
use bailiwick_policy::test::{TestFile, TestReport, run_tests};
use bailiwick_policy::{CompiledSet, Explanation, SchemaInputs, Source, compile, in_words};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::config::{self, Config, Secrets, yaml};
use crate::ctx::Ctx;
use crate::fail::{Done, Exit, Failure};
use crate::out::Paint;

/// What can be done with policies.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Check policies against the agents and tools of the configuration
    Check(Chosen),
    /// Run the tests that stand beside policies (`*.test.yaml`, and files with `world:`)
    Test(Chosen),
    /// Say what the policies make of one act, rule by rule
    Explain(Box<Explain>),
    /// Print the Cedar schema that policies are written against
    Schema,
    /// Make these policies the active ones
    Apply(Chosen),
    /// Print the active policies
    Show,
}

/// Which policies.
#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// A file or folder [default: the configuration's policies, or the built-in defaults]
    path: Option<PathBuf>,
}

/// One act, as far as policies can see it.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The agent that acts
    #[arg(long)]
    agent: AgentId,
    /// The tool it calls
    #[arg(long = "do", value_name = "TOOL", required_unless_present = "hand_to")]
    tool: Option<ToolId>,
    /// Or the agent it hands to
    #[arg(long, value_name = "AGENT", conflicts_with = "tool")]
    hand_to: Option<AgentId>,
    /// The arguments, as a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    with: String,
    /// The chain step this is
    #[arg(long)]
    step: Option<StepId>,
    /// Untrusted data was read from here
    #[arg(long, value_name = "ORIGIN")]
    untrusted: Vec<String>,
    /// An argument that nobody vouches for
    #[arg(long, value_name = "ARG")]
    unexplained: Vec<String>,
    /// Somebody who said yes
    #[arg(long, value_name = "WHO")]
    approved_by: Vec<PrincipalId>,
    /// The group that was asked
    #[arg(long, value_name = "GROUP", default_value = "approvers")]
    approved_group: GroupId,
    /// Who opened the task
    #[arg(long, value_name = "WHO", default_value = "somebody@example.org")]
    initiator: PrincipalId,
    /// A file or folder of policies
    #[arg(long, value_name = "PATH")]
    policies: Option<PathBuf>,
}

pub(crate) async fn run(ctx: &Ctx, policy: Policy) -> Done {
    match policy {
        Policy::Check(from) => check(ctx, &from),
        Policy::Test(from) => test(ctx, &from),
        Policy::Explain(explain) => self::explain(ctx, &explain),
        Policy::Schema => {
            let config = ctx.config(Secrets::Leave)?;
            ctx.out.print(inputs(&config)?.to_cedar().trim_end());
            Ok(())
        }
        Policy::Apply(from) => apply(ctx, &from).await,
        Policy::Show => {
            let set = ctx.people()?.policies().await?;
            ctx.out.show(&set, |_| {
                set.policies
                    .iter()
                    .map(|p| format!("// {}\n{}", p.name, p.text.trim_end()))
                    .collect::<Vec<_>>()
                    .join("\n\n")
            });
            Ok(())
        }
    }
}

fn sources(config: &Config, path: Option<&Path>) -> Result<Vec<Source>, Failure> {
    let found = match path {
        Some(path) => Some(config::policies(path)?),
        None => config.policies.clone(),
    };
    Ok(found.map_or_else(bailiwick_policy::defaults, |all| {
        all.into_iter().map(|(name, text)| Source::new(name, text)).collect()
    }))
}

fn inputs(config: &Config) -> Result<SchemaInputs, Failure> {
    SchemaInputs::new(&config.tools, &config.agents).map_err(|e| Failure::failed(e.code(), e.to_string(), ""))
}

fn compiled(config: &Config, sources: &[Source]) -> Result<CompiledSet, Failure> {
    compile(sources, &inputs(config)?)
        .map_err(|e| Failure::failed(e.code(), e.to_string(), "Correct the policy; nothing has changed."))
}

fn check(ctx: &Ctx, from: &Chosen) -> Done {
    let config = ctx.config(Secrets::Leave)?;
    let sources = sources(&config, from.path.as_deref())?;
    let set = compiled(&config, &sources)?;
    let warnings: Vec<String> = set.warnings().iter().map(ToString::to_string).collect();
    let found = json!({"ok": true, "files": sources.len(), "rules": set.rules().len(), "warnings": warnings});
    ctx.out.show(&found, |paint| {
        let mut lines =
            vec![format!("{} {} rules in {} files", paint.green("ok"), set.rules().len(), sources.len())];
        lines.extend(warnings.iter().map(|w| format!("{} {w}", paint.yellow("look"))));
        lines.join("\n")
    });
    Ok(())
}

fn test(ctx: &Ctx, from: &Chosen) -> Done {
    let config = ctx.config(Secrets::Leave)?;
    let sources = sources(&config, from.path.as_deref())?;
    let files = test_files(from.path.as_deref(), &config)?;
    let report = run_tests(&sources, &files).map_err(|e| Failure::failed(e.code(), e.to_string(), ""))?;
    let cases: Vec<_> = report
        .results
        .iter()
        .map(|r| json!({"file": r.file, "name": r.name, "passed": r.failure.is_none(), "failure": r.failure}))
        .collect();
    let document = json!({"passed": report.passed(), "cases": cases, "unproven": report.unproven});
    ctx.out.show(&document, |paint| tested(&report, paint));
    if report.passed() {
        return Ok(());
    }
    let failed = report.results.iter().filter(|r| r.failure.is_some()).count();
    Err(Failure::failed(
        "policy.test_failed",
        format!("{failed} of {} cases failed", report.results.len()),
        "",
    ))
}

/// Test files beside the policies: by their ending, or because they describe a world.
fn test_files(chosen: Option<&Path>, config: &Config) -> Result<Vec<(String, TestFile)>, Failure> {
    let paths: Vec<&Path> = match chosen {
        Some(path) => vec![path],
        None => config.policy_paths.iter().map(PathBuf::as_path).collect(),
    };
    if paths.is_empty() {
        let next =
            "Name the folder that holds policies and their tests, or set `policies` in the configuration.";
        return Err(Failure::usage("which folder?", next));
    }
    let mut out = Vec::new();
    for path in paths {
        for file in config::matching(path, &["yaml", "yml"])? {
            let (text, name) = (yaml::slurp(&file)?, file.display().to_string());
            if name.contains(".test.") || text.lines().any(|l| l.starts_with("world:")) {
                let read = TestFile::parse(&name, &text).map_err(|e| Failure::usage(e.to_string(), ""))?;
                out.push((name, read));
            }
        }
    }
    Ok(out)
}

fn tested(report: &TestReport, paint: Paint) -> String {
    let mut lines: Vec<String> = report
        .results
        .iter()
        .filter_map(|r| {
            Some(format!("{} {}: {}\n     {}", paint.red("FAIL"), r.file, r.name, r.failure.as_ref()?))
        })
        .collect();
    let passed = report.results.iter().filter(|r| r.failure.is_none()).count();
    lines.push(format!(
        "{} cases   {passed} passed   {} failed",
        report.results.len(),
        report.results.len() - passed
    ));
    if !report.unproven.is_empty() {
        lines.push(paint.yellow(&format!("no case shows these at work: {}", report.unproven.join(", "))));
    }
    lines.join("\n")
}

fn explain(ctx: &Ctx, ask: &Explain) -> Done {
    let config = ctx.config(Secrets::Leave)?;
    let set = compiled(&config, &sources(&config, ask.policies.as_deref())?)?;
    let agent = find(&config.agents, |a| a.id == ask.agent, "agent", &ask.agent)?;
    let args = Value::parse(ask.with.as_bytes())
        .map_err(|e| Failure::usage(e.to_string(), "Write the arguments as a JSON object."))?;
    let manifest: Option<&Manifest> =
        ask.tool.as_ref().map(|t| find(&config.tools, |m| m.tool == *t, "tool", t)).transpose()?;
    let child: Option<&Agent> =
        ask.hand_to.as_ref().map(|c| find(&config.agents, |a| a.id == *c, "agent", c)).transpose()?;
    let deed = match (manifest, child) {
        (Some(manifest), _) => Deed::Call(manifest),
        (None, Some(child)) => Deed::HandOff(child),
        (None, None) => {
            return Err(Failure::usage("what is done?", "Name a tool with --do or an agent with --hand-to."));
        }
    };
    let label = Label { untrusted: ask.untrusted.iter().cloned().collect(), ..Label::bottom() };
    let unexplained: BTreeSet<String> = ask.unexplained.iter().cloned().collect();
    let task = TaskId::parse("t-explain")?;
    let facts = Facts {
        deed,
        agent,
        initiator: &ask.initiator,
        task: &task,
        has_chain: ask.step.is_some(),
        step: ask.step.as_ref(),
        depth: 0,
        resource: manifest.and_then(|m| resource(m, &args)),
        args: &args,
        label: &label,
        unexplained: &unexplained,
        approval: Some(Approved {
            group: ask.approved_group.clone(),
            by: ask.approved_by.iter().cloned().collect(),
        })
        .filter(|a| !a.by.is_empty()),
        now: now(),
        remaining_ms: 600_000,
    };
    let explanation = set.explain(&facts);
    ctx.out.show(&document(&explanation), |_| explanation.to_string());
    match explanation.verdict {
        Verdict::Permit { .. } => Ok(()),
        Verdict::Ask { .. } => {
            Err(Failure::new(Exit::Pending, "approval.needed", "a person would be asked", ""))
        }
        Verdict::Forbid { .. } | Verdict::Error { .. } => {
            Err(Failure::new(Exit::Denied, "policy.forbid", "it would be refused", ""))
        }
    }
}

fn document(explanation: &Explanation<'_>) -> serde_json::Value {
    let considered: Vec<_> = explanation
        .considered
        .iter()
        .map(|c| json!({"rule": c.rule.id, "outcome": format!("{:?}", c.outcome).to_ascii_lowercase()}))
        .collect();
    json!({"act": explanation.act, "verdict": in_words(&explanation.verdict), "considered": considered, "others": explanation.others})
}

fn find<'a, T>(
    all: &'a [T],
    is: impl Fn(&T) -> bool,
    what: &str,
    name: &impl std::fmt::Display,
) -> Result<&'a T, Failure> {
    all.iter().find(|t| is(t)).ok_or_else(|| {
        Failure::usage(
            format!("the configuration knows no {what} {name}"),
            "Policies are explained against the configuration.",
        )
    })
}

/// The resource a call touches, as the manifest tells.
fn resource(manifest: &Manifest, args: &Value) -> Option<Resource> {
    let spec = manifest.resource.as_ref()?;
    let name = spec.from.as_ref().and_then(|from| args.get(from)).and_then(Value::spelled);
    let name = name.unwrap_or_else(|| manifest.tool.system().to_owned());
    Some(Resource {
        kind: spec.kind.clone(),
        attrs: spec.known.get(&name).cloned().unwrap_or_default(),
        name,
    })
}

fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Time(since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(0)))
}

async fn apply(ctx: &Ctx, from: &Chosen) -> Done {
    let config = ctx.config(Secrets::Leave)?;
    let sources: Vec<PolicySource> = sources(&config, from.path.as_deref())?
        .into_iter()
        .map(|s| PolicySource { name: s.name, text: s.text })
        .collect();
    let active = ctx.people()?.set_policies(&sources).await?;
    ctx.out.show(&active, |_| format!("active: {} ({} files)", active.version.short(), sources.len()));
    Ok(())
}
