//! `policy check|test|explain|schema|diff|replay|apply|show|ls|use`: rules as code, tried out before they are in force.
//!
//! Checking, testing, explaining and comparing happen here, against the agents and tools of the configuration; what is
//! active, what was active, and what recorded decisions would have been, the server knows.

mod proof;
mod solver;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bailiwick_api::wire::{PolicySetView, PolicySource, ReplayAsk, ReplayView, ReplayedView};
use bailiwick_core::agent::Agent;
use bailiwick_core::label::Label;
use bailiwick_core::tool::Manifest;
use bailiwick_core::value::Value;
use bailiwick_core::verdict::{Approved, Deed, Facts, Flow, Policy as _, Resource, Verdict};
use bailiwick_core::{AgentId, GroupId, PrincipalId, StepId, TaskId, Time, ToolId};
use bailiwick_policy::diff::{Change, Difference, Differences, differences};
use bailiwick_policy::proof::Way;
use bailiwick_policy::test::{TestFile, TestReport, run_tests};
use bailiwick_policy::{CompiledSet, Explanation, SchemaInputs, Source, compile, in_words};
use clap::{Args, Subcommand};
use serde_json::json;

use self::proof::Standing;
use crate::config::{self, Config, Secrets, yaml};
use crate::ctx::Ctx;
use crate::fail::{Done, Exit, Failure};
use crate::out::{Paint, plain, several, table};

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
    /// Say what one set of policies does differently from another: with examples, and proved where cvc5 is installed
    Diff(Diff),
    /// Judge recorded decisions again under these policies; changes nothing
    Replay(Replay),
    /// Make these policies the active ones
    Apply(Chosen),
    /// Print the active policies, or those of a version
    Show {
        /// A version, or the beginning of one
        #[arg(value_name = "VERSION")]
        which: Option<String>,
    },
    /// List every set of policies that was ever active
    Ls,
    /// Make a set active again that was active before: roll back
    Use {
        /// Its version, or the beginning of it
        #[arg(value_name = "VERSION")]
        which: String,
    },
}

/// Two sets of policies.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// A file, a folder, `active`, `defaults`, or a version
    old: String,
    /// The same
    new: String,
    /// Show every group of acts, not only the first forty
    #[arg(long)]
    all: bool,
    /// How long the solver may take in all; 0 asks it nothing
    #[arg(long, value_name = "SECS", default_value_t = 60)]
    solver_secs: u64,
    /// Fail unless it is proved that nothing more is allowed
    #[arg(long)]
    no_wider: bool,
}

/// Which decisions, and under what.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// A file, a folder, `active`, `defaults`, or a version [default: the configuration's policies, or the defaults]
    policies: Option<String>,
    /// Since when, such as 7d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// How many of the newest tasks
    #[arg(long, default_value_t = 1000)]
    tasks: u64,
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
        Policy::Diff(which) => diff(ctx, &which).await,
        Policy::Replay(which) => replay(ctx, &which).await,
        Policy::Ls => ls(ctx).await,
        Policy::Use { which } => back_to(ctx, &which).await,
        Policy::Explain(explain) => self::explain(ctx, &explain),
        Policy::Schema => {
            let config = ctx.config(Secrets::Leave)?;
            ctx.out.print(inputs(&config)?.to_cedar().trim_end());
            Ok(())
        }
        Policy::Apply(from) => apply(ctx, &from).await,
        Policy::Show { which } => {
            let people = ctx.people()?;
            let set = match &which {
                Some(version) => people.policy_version(version).await?,
                None => people.policies().await?,
            };
            ctx.out.show(&set, |_| {
                set.policies
                    .iter()
                    .map(|p| format!("// {}\n{}", p.name, p.text.trim_end()))
                    .collect::<Vec<_>>()
                    .join("\n\n")
            });
            only_observed(ctx, &set.observed);
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
    let observed: Vec<&str> = set.observed().map(|rule| rule.id.as_str()).collect();
    let found = json!({"ok": true, "files": sources.len(), "rules": set.rules().len(), "observed": observed, "warnings": warnings});
    ctx.out.show(&found, |paint| {
        let mut lines = vec![format!(
            "{} {} in {}",
            paint.green("ok"),
            several(set.rules().len(), "rule"),
            several(sources.len(), "file")
        )];
        lines.extend((!observed.is_empty()).then(|| paint.yellow(&observing(&observed))));
        lines.extend(warnings.iter().map(|w| format!("{} {w}", paint.yellow("look"))));
        lines.join("\n")
    });
    Ok(())
}

fn test(ctx: &Ctx, from: &Chosen) -> Done {
    let config = ctx.config(Secrets::Leave)?;
    let sources = sources(&config, from.path.as_deref())?;
    let files = test_files(from.path.as_deref(), &config)?;
    if from.path.is_none() && config.policy_paths.is_empty() {
        ctx.out.say(" no policies of your own: these are the tests of the defaults; `policies` in the configuration, or a path, names yours");
    }
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
        return Ok(vec![own_tests()?]);
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

/// The tests of the defaults, which are in the program as the defaults are.
fn own_tests() -> Result<(String, TestFile), Failure> {
    const NAME: &str = "defaults.test.yaml";
    const TEXT: &str = include_str!("../../../../policies/defaults/defaults.test.yaml");
    let read = TestFile::parse(NAME, TEXT).map_err(|e| Failure::usage(e.to_string(), ""))?;
    Ok((NAME.to_owned(), read))
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
        "{}   {passed} passed   {} failed",
        several(report.results.len(), "case"),
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
    let flow = manifest.zip(args.as_map()).map(|(manifest, args)| {
        let mut registry = bailiwick_core::registry::Registry::default();
        let directory = config.directory.clone().unwrap_or_default();
        registry.apply(&bailiwick_core::registry::RegistryEvent::DirectorySet {
            directory,
            by: ask.initiator.clone(),
        });
        Flow::of(manifest, args, |_| false, |wanted| bailiwick_core::decision::is_inside(&registry, wanted))
    });
    let flow = flow.unwrap_or_default();
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
        flow: &flow,
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
    ctx.out.show(&active, |_| {
        format!("active: {} ({})", active.version.short(), several(sources.len(), "file"))
    });
    only_observed(ctx, &active.observed);
    Ok(())
}

fn only_observed(ctx: &Ctx, rules: &[String]) {
    if !rules.is_empty() {
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        ctx.out.say(&format!(" {}", ctx.out.talk.yellow(&observing(&rules))));
    }
}

fn observing(rules: &[&str]) -> String {
    format!("only observed, enforcing nothing: {}", rules.join(", "))
}

async fn ls(ctx: &Ctx) -> Done {
    let versions = ctx.people()?.policy_versions().await?;
    ctx.out.show(&versions, |paint| {
        let rows = versions.iter().map(|v| {
            let state = if v.active { paint.green("active") } else { String::new() };
            vec![v.version.short(), state, v.by.to_string(), v.epoch.to_string(), v.files.join(", ")]
        });
        table(paint, &["version", "", "by", "epoch", "files"], rows.collect())
    });
    if versions.is_empty() {
        ctx.out.say(" the defaults are active, and nothing else ever was");
    }
    Ok(())
}

async fn back_to(ctx: &Ctx, version: &str) -> Done {
    let people = ctx.people()?;
    let found = people.policy_version(version).await?;
    let version =
        found.version.ok_or_else(|| Failure::failed("not_found", "there is no such version", ""))?;
    let active = people.use_policies(version).await?;
    ctx.out.show(&active, |_| {
        format!("active: {} ({})", active.version.short(), several(found.policies.len(), "file"))
    });
    only_observed(ctx, &active.observed);
    Ok(())
}

/// A set by what people call it: a path, `active`, `defaults`, or a version.
async fn named(ctx: &Ctx, name: &str) -> Result<Vec<Source>, Failure> {
    let of_server =
        |set: PolicySetView| set.policies.into_iter().map(|p| Source::new(p.name, p.text)).collect();
    match name {
        "active" => Ok(of_server(ctx.people()?.policies().await?)),
        "defaults" => Ok(bailiwick_policy::defaults()),
        path if Path::new(path).exists() => {
            Ok(config::policies(Path::new(path))?.into_iter().map(|(n, t)| Source::new(n, t)).collect())
        }
        hash if hash.len() >= 6 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Ok(of_server(ctx.people()?.policy_version(hash).await?))
        }
        other => Err(Failure::usage(
            format!("`{}` is no file, folder or version", plain(other, 80)),
            "Name a path, `active`, `defaults`, or a version of `bailiwick policy ls`.",
        )),
    }
}

/// How many of the newest tasks are looked through for recorded examples.
const RECORDED_TASKS: u64 = 200;

/// Groups of acts that are shown without `--all`.
const SHOWN: usize = 40;

async fn diff(ctx: &Ctx, which: &Diff) -> Done {
    let config = ctx.config(Secrets::Leave)?;
    let world = super::template::registered(ctx, &config).await;
    let (world, against) = world.ok_or_else(|| {
        Failure::usage(
            "there is nothing to try policies on",
            "Start the server, or state agents and tools in the configuration.",
        )
    })?;
    let inputs = SchemaInputs::new(&world.tools, &world.agents)
        .map_err(|e| Failure::failed(e.code(), e.to_string(), ""))?;
    let set = |sources: &[Source]| {
        compile(sources, &inputs).map_err(|e| Failure::failed(e.code(), e.to_string(), "Correct the policy."))
    };
    let (old, new) = (set(&named(ctx, &which.old).await?)?, set(&named(ctx, &which.new).await?)?);
    let found = differences(&old, &new, &world.agents, &world.tools);
    let happened = if found.found.is_empty() { None } else { recorded(ctx, &which.new).await };
    let groups: Vec<_> = found
        .found
        .iter()
        .map(|d| {
            let real = happened.as_ref().and_then(|h| h.iter().find(|r| shows(r, d)));
            let real = real.map(|r| json!({"decision": r.decision, "args": r.args, "was": r.was}));
            json!({"change": d.change.as_str(), "act": d.act, "example": d.when, "old": d.old, "new": d.new, "acts": d.acts, "recorded": real})
        })
        .collect();
    let versions = (old.version(), new.version());
    let subject = proof::Subject { old, new, agents: world.agents, tools: world.tools };
    let within = std::time::Duration::from_secs(which.solver_secs);
    let proof = ctx.out.wait("proving", proof::prove(subject, within)).await.held_against(&found);
    let document = json!({
        "old": versions.0, "new": versions.1, "tried": found.tried, "all_tried": !found.cut,
        "proof": proof.document(), "against": against, "differences": groups,
    });
    ctx.out.show(&document, |paint| {
        let mut told = vec![compared(&found, happened.as_deref(), which.all, &against, paint)];
        told.extend(proof.in_words(paint));
        told.join("\n")
    });
    if which.no_wider { narrower(proof.standing(Way::Wider)) } else { Ok(()) }
}

/// Whether a change can pass a gate that lets nothing become wider.
fn narrower(wider: Standing) -> Done {
    match wider {
        Standing::Proved | Standing::ProvedToday => Ok(()),
        Standing::Refuted => {
            let next = "Tighten the new policies, or have the change looked at.";
            Err(Failure::failed("policy.wider", "the new policies allow more", next))
        }
        Standing::Unproved => {
            let next = "See above what stood in the way; cvc5 must be installed and have the time it needs.";
            Err(Failure::failed("policy.unproved", "it is not proved that nothing more is allowed", next))
        }
    }
}

/// The recorded decisions that the new set would have changed, the newest first: real examples. `None` if no server
/// tells, because none runs or whoever asks may not know.
async fn recorded(ctx: &Ctx, new: &str) -> Option<Vec<ReplayedView>> {
    let policies = named(ctx, new).await.ok()?;
    let policies = policies.into_iter().map(|s| PolicySource { name: s.name, text: s.text }).collect();
    let ask = ReplayAsk { policies, since: None, tasks: Some(RECORDED_TASKS) };
    Some(ctx.people().ok()?.replay(&ask).await.ok()?.changed)
}

/// Whether a recorded decision is about the same agent and tool and changes in the same way.
fn shows(real: &ReplayedView, difference: &Difference) -> bool {
    let change = match (real.was.as_str(), real.would.as_str()) {
        (_, "allow") => Change::Allowed,
        ("deny", "ask") => Change::AskedInsteadOfDenied,
        ("allow", "ask") => Change::AskedInsteadOfAllowed,
        ("ask", "ask") => Change::AskedOtherwise,
        _ => Change::Denied,
    };
    change == difference.change && difference.act == format!("{} calls {}", real.agent, real.tool)
}

fn compared(
    found: &Differences,
    happened: Option<&[ReplayedView]>,
    all: bool,
    against: &str,
    paint: Paint,
) -> String {
    let mut lines = Vec::new();
    let most = if all { usize::MAX } else { SHOWN };
    for difference in found.found.iter().take(most) {
        let (head, colour): (&str, fn(Paint, &str) -> String) = match difference.change {
            Change::Allowed => ("newly allowed", |p, t| p.red(t)),
            Change::AskedInsteadOfDenied => ("asked, was denied", |p, t| p.yellow(t)),
            Change::AskedInsteadOfAllowed => ("asked, was allowed", |p, t| p.yellow(t)),
            Change::AskedOtherwise => ("asked otherwise", |p, t| p.yellow(t)),
            Change::Denied => ("newly denied", |p, t| p.green(t)),
        };
        lines.push(format!(
            "{}  {}   ({})",
            colour(paint, head),
            difference.act,
            several(difference.acts, "act")
        ));
        lines.push(format!("    such as  {}", plain(&difference.when, 200)));
        if let Some(real) = happened.and_then(|h| h.iter().find(|r| shows(r, difference))) {
            let args = plain(&real.args.canonical(), 120);
            lines.push(format!("    recorded {} {args} (was {})", real.decision, real.was));
        }
        lines.push(format!("    old      {}", plain(&difference.old, 200)));
        lines.push(format!("    new      {}", plain(&difference.new, 200)));
    }
    if found.found.len() > most {
        lines.push(format!("… and {}; add --all", several(found.found.len() - most, "more group")));
    }
    if !found.found.is_empty() {
        let told = match happened {
            Some(_) => {
                format!("examples marked `recorded` are decisions of the newest {RECORDED_TASKS} tasks")
            }
            None => "no server told what was recorded, so every example is made up".to_owned(),
        };
        lines.push(paint.dim(&told));
    }
    let cut = if found.cut { ", and there were more" } else { "" };
    let verdict = if found.found.is_empty() { "no difference in " } else { "" };
    lines.push(format!("{verdict}{} tried, on {against}{cut}", several(found.tried, "act")));
    lines.push(paint.dim("for what really happened: bailiwick policy replay"));
    lines.join("\n")
}

async fn replay(ctx: &Ctx, which: &Replay) -> Done {
    let config = ctx.config(Secrets::Leave)?;
    let policies = match &which.policies {
        Some(name) => named(ctx, name).await?,
        None => sources(&config, None)?,
    };
    let policies = policies.into_iter().map(|s| PolicySource { name: s.name, text: s.text }).collect();
    let since = which.since.as_deref().map(super::task::duration_secs).transpose()?;
    let since = since.map(|secs| Time(now().0.saturating_sub(secs.saturating_mul(1000))));
    let people = ctx.people()?;
    let ask = ReplayAsk { policies, since, tasks: Some(which.tasks) };
    let view = ctx.out.wait("replaying", people.replay(&ask)).await?;
    ctx.out.show(&view, |paint| replayed(&view, paint));
    Ok(())
}

fn replayed(view: &ReplayView, paint: Paint) -> String {
    let mut lines = vec![format!(
        "{} replayed   {} same   {} newly denied   {} newly asked   {} newly allowed   {} cannot be told",
        several(usize::try_from(view.decisions).unwrap_or(usize::MAX), "decision"),
        view.same + view.before_policy,
        view.newly_denied,
        view.newly_asked,
        view.newly_allowed,
        view.untold_all
    )];
    for change in view.changed.iter().take(SHOWN) {
        lines.push(format!(
            "  {} → {}  {} {} {}   by {}: {}   {}",
            change.was,
            paint.effect(&change.would),
            change.agent,
            change.tool,
            plain(&change.args.canonical(), 80),
            change.rule,
            plain(&change.reason, 100),
            paint.dim(change.decision.as_str())
        ));
    }
    lines.extend(
        view.untold.iter().take(SHOWN).map(|u| format!("  ?  {}: {}", u.decision, plain(&u.why, 160))),
    );
    lines.push(paint.dim(&format!(
        "  {} refused before policies were asked, which no policy changes; {} not replayed",
        view.before_policy,
        several(usize::try_from(view.handoffs).unwrap_or(usize::MAX), "handoff")
    )));
    lines.join("\n")
}
