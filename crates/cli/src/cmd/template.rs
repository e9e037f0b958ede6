//! `task template check|ls|schema`: templates looked at before a task is opened from them.

use std::path::{Path, PathBuf};

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
}

pub(crate) async fn run(ctx: &Ctx, command: TemplateCmd) -> Done {
    match command {
        TemplateCmd::Check { files, alone } => check(ctx, &files, alone).await,
        TemplateCmd::Ls { files } => ls(ctx, &files),
        TemplateCmd::Schema => {
            ctx.out.print(schema::printed().trim_end());
            Ok(())
        }
    }
}

/// A template that a task may be opened from. One that declares its inputs has nothing wrong with it; one that
/// does not is taken as it is, and the task says that it has weaker guarantees.
pub(crate) fn usable(path: &Path) -> Result<Template, Failure> {
    let (file, template) = read(path, &yaml::slurp(path)?)?;
    let found = findings(&path.display().to_string(), &file, None);
    let error = found.into_iter().find(|f| f.grade == Grade::Error && !template.inputs.is_empty());
    match error {
        None => Ok(template),
        Some(finding) => {
            let next = format!("See everything with `bailiwick task template check {}`.", path.display());
            Err(Failure::new(crate::fail::Exit::Usage, finding.code, finding.to_string(), next))
        }
    }
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
            let input = |(name, declared): (&String, &bailiwick_core::input::InputType)| {
                let open = declared.optional || declared.default.is_some();
                format!("{name}{}: {}", if open { "?" } else { "" }, declared.in_words())
            };
            let inputs: Vec<String> = t.inputs.iter().map(input).collect();
            vec![
                t.template.clone().unwrap_or_else(|| "-".to_owned()),
                t.agent.as_ref().map_or("-".to_owned(), ToString::to_string),
                steps.to_string(),
                if inputs.is_empty() { "not declared".to_owned() } else { plain(&inputs.join(", "), 100) },
                plain(t.about.as_deref().unwrap_or(""), 60),
                file.display().to_string(),
            ]
        });
        table(paint, &["template", "agent", "steps", "inputs", "about", "file"], rows.collect())
    });
    Ok(())
}
