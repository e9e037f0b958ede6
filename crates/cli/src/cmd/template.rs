//! `task template`: files of templates looked at before a task is opened from them (`check`, `ls`, `schema`), and versions
//! of them registered at the server (`add`, `list`, `show`, `remove`).

use std::path::{Path, PathBuf};

use bailiwick_api::wire::{TemplateAdd, TemplateView};
use bailiwick_core::TemplateName;
use bailiwick_core::input::{InputType, InputTypes};
use bailiwick_core::template::TaskTemplate;
use bailiwick_core::tool::Manifest;
use clap::Subcommand;
use serde_json::json;

use crate::config::{Config, ConfigError, Secrets, matching, yaml};
use crate::ctx::Ctx;
use crate::fail::{Done, Failure};
use crate::out::{Paint, plain, several, table};
use crate::template::check::{World, findings};
use crate::template::{Finding, Grade, Template, read, schema};

/// What can be done with templates.
#[derive(Debug, Subcommand)]
pub(crate) enum TemplateCmd {
    /// Say what is wrong with templates: line, column, and what to write instead
    Check {
        /// Files, or folders of them
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Only by themselves: ask neither the server nor the configuration for agents and tools
        #[arg(long)]
        alone: bool,
    },
    /// List the templates of a folder with their inputs
    Ls {
        /// Files or folders
        #[arg(default_value = "tasks", value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print the JSON Schema of templates, for editors
    Schema,
    /// Register a template at the server, so that tasks are opened by its name
    Add {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Its name, instead of the one in the file
        #[arg(long)]
        name: Option<TemplateName>,
        /// Its number, the one after the last; needed where there is a version already
        #[arg(long = "as-version", value_name = "N")]
        number: Option<u32>,
    },
    /// List the templates that are registered at the server
    List {
        /// Also versions that were removed
        #[arg(long)]
        all: bool,
    },
    /// Show one that is registered
    Show {
        /// NAME@VERSION, or NAME for its newest
        template: String,
    },
    /// Let no further task be opened from a version; those that were go on
    Remove {
        /// NAME@VERSION
        template: String,
    },
}

pub(crate) async fn run(ctx: &Ctx, command: TemplateCmd) -> Done {
    match command {
        TemplateCmd::Check { files, alone } => check(ctx, &files, alone).await,
        TemplateCmd::Ls { files } => ls(ctx, &files),
        TemplateCmd::Schema => {
            ctx.out.print(schema::printed().trim_end());
            Ok(())
        }
        TemplateCmd::Add { file, name, number } => add(ctx, &file, name, number).await,
        TemplateCmd::List { all } => list(ctx, all).await,
        TemplateCmd::Show { template } => {
            let held = ctx.people()?.template(&template).await?;
            ctx.out.show(&held, |paint| shown(&held, paint));
            Ok(())
        }
        TemplateCmd::Remove { template } => {
            let held = ctx.people()?.remove_template(&template).await?;
            ctx.out
                .show(&held, |_| format!("{} was removed; no further task is opened from it", held.template));
            Ok(())
        }
    }
}

// ---- at the server

async fn add(ctx: &Ctx, path: &Path, name: Option<TemplateName>, version: Option<u32>) -> Done {
    let (file, template) = read(path, &yaml::slurp(path)?)?;
    let (world, _) = world(ctx).await;
    let found = findings(&path.display().to_string(), &file, world.as_ref());
    if let Some(finding) = found.into_iter().find(|f| f.grade == Grade::Error) {
        return Err(mistaken(path, &finding));
    }
    let unnamed = || {
        let next = "Write `template: NAME` in it, or say --name.";
        Failure::usage(format!("{} does not say its name", path.display()), next)
    };
    let name = match name {
        Some(name) => name,
        None => TemplateName::parse(template.template.as_deref().ok_or_else(unnamed)?)?,
    };
    let ask = TemplateAdd { name, version, template: said(path, template)? };
    let held = ctx.people()?.add_template(&ask).await?;
    ctx.out.show(&held, |paint| {
        let id = paint.bold(&held.template);
        format!(
            "{id} is registered\nopen     bailiwick task open --template {} --intent \"…\"{}",
            held.template,
            asks(&held)
        )
    });
    Ok(())
}

/// A template in the words of the server.
fn said(path: &Path, template: Template) -> Result<TaskTemplate, Failure> {
    let nobody =
        || Failure::usage(format!("{} does not say which agent begins", path.display()), "Add `agent`.");
    Ok(TaskTemplate {
        about: template.about,
        agent: template.agent.ok_or_else(nobody)?,
        inputs: template.inputs,
        chain: template.chain,
        ttl_s: template.ttl.as_deref().map(crate::cmd::task::duration_secs).transpose()?,
        asks: template.asks,
        handoffs: template.handoffs,
        depth: template.depth,
        refusals: template.refusals,
        seeking: template.seeking,
    })
}

/// The inputs as they are asked for on the command line.
fn asks(held: &TemplateView) -> String {
    let needed = held.says.inputs.iter().filter(|(_, input)| !input.optional && input.default.is_none());
    needed.map(|(name, _)| format!(" --input {name}=…")).collect()
}

async fn list(ctx: &Ctx, all: bool) -> Done {
    let mut held = ctx.people()?.templates().await?;
    held.retain(|t| all || t.removed.is_none());
    ctx.out.show(&held, |paint| {
        let rows = held.iter().map(|t| {
            let name = if t.removed.is_some() { paint.dim(&t.template) } else { t.template.clone() };
            let inputs = in_words(&t.says.inputs);
            let about = plain(t.says.about.as_deref().unwrap_or(""), 60);
            vec![name, t.says.agent.to_string(), inputs, about, t.by.to_string()]
        });
        table(paint, &["template", "agent", "inputs", "about", "by"], rows.collect())
    });
    Ok(())
}

fn shown(held: &TemplateView, paint: Paint) -> String {
    let says = &held.says;
    let mut lines = vec![
        format!("template {}   registered by {}", paint.bold(&held.template), held.by),
        format!("agent    {}", says.agent),
        format!("inputs   {}", in_words(&says.inputs)),
    ];
    lines.extend(held.removed.iter().map(|by| paint.yellow(&format!("removed  by {by}"))));
    lines.extend(says.about.iter().map(|about| format!("about    {}", plain(about, 200))));
    lines.extend(says.ttl_s.map(|ttl| format!("ttl      {ttl} s at most")));
    let limits = [
        ("asks", says.asks),
        ("handoffs", says.handoffs),
        ("depth", says.depth.map(u32::from)),
        ("refusals", says.refusals),
        ("seeking", says.seeking),
    ];
    lines.extend(limits.iter().filter_map(|(name, n)| n.map(|n| format!("{name:<8} {n}"))));
    let chain = says.chain.as_ref().and_then(|chain| serde_json::to_string_pretty(chain).ok());
    lines.push(match chain {
        Some(chain) => format!("chain    {}", chain.replace('\n', "\n         ")),
        None => paint.yellow("chain    none: order, counts and arguments of its tasks are not held"),
    });
    lines.join("\n")
}

fn in_words(inputs: &InputTypes) -> String {
    let input = |(name, declared): (&String, &InputType)| {
        let open = declared.optional || declared.default.is_some();
        format!("{name}{}: {}", if open { "?" } else { "" }, declared.in_words())
    };
    let inputs: Vec<String> = inputs.iter().map(input).collect();
    if inputs.is_empty() { "not declared".to_owned() } else { plain(&inputs.join(", "), 100) }
}

// ---- in files

/// A template that a task may be opened from. One that declares its inputs has nothing wrong with it; one that
/// does not is taken as it is, and the task says that it has weaker guarantees.
pub(crate) fn usable(path: &Path) -> Result<Template, Failure> {
    let (file, template) = read(path, &yaml::slurp(path)?)?;
    let found = findings(&path.display().to_string(), &file, None);
    let error = found.into_iter().find(|f| f.grade == Grade::Error && !template.inputs.is_empty());
    match error {
        None => Ok(template),
        Some(finding) => Err(mistaken(path, &finding)),
    }
}

fn mistaken(path: &Path, finding: &Finding) -> Failure {
    let next = format!("See everything with `bailiwick task template check {}`.", path.display());
    Failure::new(crate::fail::Exit::Usage, finding.code, finding.to_string(), next)
}

async fn check(ctx: &Ctx, paths: &[PathBuf], alone: bool) -> Done {
    let (world, against) = if alone { (None, "nothing else".to_owned()) } else { world(ctx).await };
    let files = all(paths)?;
    let mut found = Vec::new();
    for file in &files {
        let name = file.display().to_string();
        match yaml::slurp(file).and_then(|text| read(file, &text)) {
            Ok((written, _)) => found.extend(findings(&name, &written, world.as_ref())),
            Err(error) => found.push(unreadable(&name, error)),
        }
    }
    let errors = found.iter().filter(|f| f.grade == Grade::Error).count();
    let report = json!({
        "ok": errors == 0, "files": files.len(), "errors": errors, "against": against, "findings": found,
    });
    ctx.out.show(&report, |paint| told(&found, files.len(), &against, paint));
    match errors {
        0 => Ok(()),
        1 => Err(Failure::failed("template.refused", "1 mistake", "Correct it and check again.")),
        n => {
            Err(Failure::failed("template.refused", format!("{n} mistakes"), "Correct them and check again."))
        }
    }
}

fn told(found: &[Finding], files: usize, against: &str, paint: Paint) -> String {
    let mut lines: Vec<String> = found
        .iter()
        .map(|finding| match finding.grade {
            Grade::Error => format!("{} {finding}", paint.red("FAIL")),
            Grade::Look => format!("{} {finding}", paint.yellow("look")),
        })
        .collect();
    if found.iter().all(|f| f.grade == Grade::Look) {
        let files = several(files, "template");
        lines.push(format!("{} {files}, checked against {against}", paint.green("ok")));
    } else {
        lines.push(format!("checked against {against}"));
    }
    lines.join("\n")
}

/// A mistake that keeps the file from being read at all.
fn unreadable(name: &str, error: ConfigError) -> Finding {
    Finding {
        grade: Grade::Error,
        code: error.code(),
        file: name.to_owned(),
        line: error.line.unwrap_or(1),
        column: error.column.unwrap_or(1),
        what: error.what,
        next: error.next,
    }
}

async fn world(ctx: &Ctx) -> (Option<World>, String) {
    let found = match ctx.config(Secrets::Leave) {
        Ok(config) => registered(ctx, &config).await,
        Err(_) => at_the_server(ctx).await,
    };
    let none = "nothing else: no server answers, and no configuration names agents and tools";
    found.map_or_else(|| (None, none.to_owned()), |(world, against)| (Some(world), against))
}

/// Who is registered and what is classified: at the server if it answers, else in the configuration.
pub(crate) async fn registered(ctx: &Ctx, config: &Config) -> Option<(World, String)> {
    if let Some(found) = at_the_server(ctx).await.filter(|(world, _)| !world.tools.is_empty()) {
        return Some(found);
    }
    let known = !config.agents.is_empty() && !config.tools.is_empty();
    known.then(|| {
        let world = World { agents: config.agents.clone(), tools: config.tools.clone() };
        (world, "the agents and tools of the configuration".to_owned())
    })
}

async fn at_the_server(ctx: &Ctx) -> Option<(World, String)> {
    let people = ctx.people().ok()?;
    let agents = people.agents().await.ok()?;
    let tools: Vec<Manifest> = people.tools().await.ok()?.into_iter().filter_map(|t| t.manifest).collect();
    let agents = agents.into_iter().map(|a| bailiwick_core::agent::Agent {
        id: a.id,
        owner: a.owner,
        class: a.class,
        ceiling: a.ceiling,
        keys: a.keys.into_iter().collect(),
    });
    let server = ctx.server().ok()?;
    Some((World { agents: agents.collect(), tools }, format!("the agents and tools of {server}")))
}

fn all(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        files.extend(matching(path, &["yaml", "yml", "json"])?);
    }
    Ok(files)
}

fn ls(ctx: &Ctx, paths: &[PathBuf]) -> Done {
    let mut templates = Vec::new();
    for file in all(paths)? {
        let (written, template) = read(&file, &yaml::slurp(&file)?)?;
        let steps = written.chain.as_ref().map_or(0, |c| c.value.steps.len());
        templates.push((file, template, steps));
    }
    let documents: Vec<_> = templates
        .iter()
        .map(|(file, t, steps)| {
            json!({"file": file, "template": t.template, "about": t.about, "agent": t.agent, "inputs": t.inputs, "steps": steps})
        })
        .collect();
    ctx.out.show(&documents, |paint| {
        let rows = templates.iter().map(|(file, t, steps)| {
            vec![
                t.template.clone().unwrap_or_else(|| "-".to_owned()),
                t.agent.as_ref().map_or("-".to_owned(), ToString::to_string),
                steps.to_string(),
                in_words(&t.inputs),
                plain(t.about.as_deref().unwrap_or(""), 60),
                file.display().to_string(),
            ]
        });
        table(paint, &["template", "agent", "steps", "inputs", "about", "file"], rows.collect())
    });
    Ok(())
}
