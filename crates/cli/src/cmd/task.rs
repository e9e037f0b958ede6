//! `task open|ls|show|watch|end|template`: a declared intent, what it may do, and how it went.

use std::collections::BTreeMap;
use std::path::Path;

use bailiwick_api::client::People;
use bailiwick_api::wire::{
    EndCause, EventView, GrantView, TaskDetail, TaskEnd, TaskOpen, TaskOpened, TemplateOpen,
};
use bailiwick_core::input::{BadInput, InputTypes, complete};
use bailiwick_core::template::TemplateId;
use bailiwick_core::value::Value;
use bailiwick_core::{AgentId, TaskId, TemplateName};
use clap::{Args, Subcommand, ValueEnum};

use super::agent::{capability, toll};
use super::template::TemplateCmd;
use crate::ctx::Ctx;
use crate::fail::{Done, Exit, Failure};
use crate::out::{Paint, moment, plain, table};
use crate::template::Template;

/// What can be done with tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Open a task; nothing runs before it is recorded
    Open(Open),
    /// List tasks, newest first
    Ls {
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// One task: grants, progress, questions
    Show {
        /// Which
        task: TaskId,
    },
    /// Follow a task as it happens
    Watch {
        /// Which
        task: TaskId,
        /// Show what has happened and stop
        #[arg(long)]
        once: bool,
    },
    /// Templates: check files of them; register, list, show and remove versions at the server
    #[command(subcommand)]
    Template(TemplateCmd),
    /// End a task; everything it holds is revoked
    End {
        /// Which
        task: TaskId,
        /// How it went
        #[arg(long, value_enum, default_value_t = How::Completed)]
        how: How,
        /// Why, in words
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// How a person ends a task.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum How {
    /// The work is done
    Completed,
    /// It failed
    Failed,
}

/// Opens a task.
#[derive(Debug, Args)]
pub(crate) struct Open {
    /// What is to be done, in your own words
    #[arg(long)]
    pub(super) intent: String,
    /// A registered template as NAME@VERSION (or NAME, its newest), or a file with agent, chain and limits
    #[arg(short, long, value_name = "NAME@VERSION|FILE")]
    pub(super) template: Option<String>,
    /// The first agent, if no template names it
    #[arg(long)]
    pub(super) agent: Option<AgentId>,
    /// An input, as NAME=VALUE; a value that is JSON is read as JSON
    #[arg(long = "var", visible_alias = "input", value_name = "NAME=VALUE")]
    pub(super) vars: Vec<String>,
    /// How long the window stays open, such as 20m
    #[arg(long, value_name = "TIME")]
    pub(super) ttl: Option<String>,
}

pub(crate) async fn run(ctx: &Ctx, task: Task) -> Done {
    match task {
        Task::Open(open) => self::open(ctx, open).await,
        Task::Ls { limit } => ls(ctx, limit).await,
        Task::Show { task } => show(ctx, &task).await,
        Task::Watch { task, once } => watch(ctx, &task, once).await,
        Task::Template(template) => super::template::run(ctx, template).await,
        Task::End { task, how, reason } => end(ctx, &task, how, reason).await,
    }
}

async fn open(ctx: &Ctx, open: Open) -> Done {
    let (agent, opened) = opened(&ctx.people()?, &open).await?;
    ctx.out.show(&opened, |paint| was_opened(&agent, &opened, paint));
    if let Some(weaker) = &opened.weaker {
        ctx.out.say(&format!(" {}", ctx.out.talk.yellow(weaker)));
    }
    Ok(())
}

/// Opens a task as it is described, and says with which agent it begins.
pub(super) async fn opened(people: &People, open: &Open) -> Result<(AgentId, TaskOpened), Failure> {
    let Some(named) = open.template.as_deref().filter(|written| is_registered(written)) else {
        let ask = ask(open)?;
        let opened = people.open_task(&ask).await?;
        return Ok((ask.agent, opened));
    };
    let held = people.template(named).await?;
    let ask = TemplateOpen {
        intent: open.intent.clone(),
        inputs: inputs(&open.vars, &held.says.inputs)?,
        agent: open.agent.clone(),
        ttl_s: open.ttl.as_deref().map(duration_secs).transpose()?,
    };
    // The version that was read: the values were read by its types.
    let opened = people.open_from(&held.template, &ask).await?;
    Ok((held.says.agent, opened))
}

/// Whether this names a template of the server. A name without a version could be a file, and then is one.
fn is_registered(written: &str) -> bool {
    let bare = || TemplateName::parse(written).is_ok() && !Path::new(written).exists();
    TemplateId::parse(written).is_ok() || bare()
}

/// What is asked of the server, where it has no template for it.
fn ask(open: &Open) -> Result<TaskOpen, Failure> {
    let template = match &open.template {
        Some(path) => super::template::usable(Path::new(path))?,
        None => Template::default(),
    };
    let agent = open.agent.clone().or(template.agent);
    let agent = agent
        .ok_or_else(|| Failure::usage("which agent begins?", "Name it with --agent or in the template."))?;
    let ttl = open.ttl.as_deref().or(template.ttl.as_deref()).map(duration_secs).transpose()?;
    Ok(TaskOpen {
        inputs: inputs(&open.vars, &template.inputs)?,
        types: template.inputs,
        chain: template.chain,
        ttl_s: ttl,
        asks: template.asks,
        handoffs: template.handoffs,
        depth: template.depth,
        refusals: template.refusals,
        seeking: template.seeking,
        template: template.template,
        ..TaskOpen::new(open.intent.clone(), agent)
    })
}

/// The inputs as they are typed on the command line. What the template says to be text is never read as a number,
/// and a wrong value is refused here already, before anything is asked of the server.
fn inputs(vars: &[String], types: &InputTypes) -> Result<BTreeMap<String, Value>, Failure> {
    let read = |var: &String| {
        let bad = || Failure::usage(format!("`{}` is not NAME=VALUE", plain(var, 40)), "");
        let (name, text) = var.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(bad)?;
        let as_text = types.get(name).is_some_and(|t| t.kind.is_text() && !t.many);
        let parsed = || Value::parse(text.as_bytes()).unwrap_or_else(|_| Value::from(text));
        Ok((name.to_owned(), if as_text { Value::from(text) } else { parsed() }))
    };
    let given: BTreeMap<String, Value> = vars.iter().map(read).collect::<Result<_, Failure>>()?;
    if !types.is_empty() {
        let refused = |bad: BadInput| {
            Failure::new(Exit::Usage, bad.code, bad.to_string(), format!("{} Say it with --var.", bad.next))
        };
        complete(types, &given).map_err(refused)?;
    }
    Ok(given)
}

/// `90s`, `20m`, `2h`, `1d`, or seconds.
pub(crate) fn duration_secs(text: &str) -> Result<u64, Failure> {
    let bad = || Failure::usage(format!("`{}` is not a time", plain(text, 20)), "Write 90s, 20m, 2h or 1d.");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let each = match unit {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    number.checked_mul(each).filter(|secs| *secs > 0).ok_or_else(bad)
}

fn was_opened(agent: &AgentId, opened: &TaskOpened, paint: Paint) -> String {
    let held: Vec<String> =
        opened.capabilities.iter().map(|c| format!("         {}", capability(c))).collect();
    format!(
        "task     {}   ends {}\nagent    {} with grant {}\nholds\n{}",
        paint.bold(opened.task.as_str()),
        moment(opened.until),
        agent,
        opened.grant,
        held.join("\n")
    )
}

async fn ls(ctx: &Ctx, limit: usize) -> Done {
    let tasks = ctx.people()?.tasks(limit).await?;
    ctx.out.show(&tasks, |paint| {
        let rows = tasks.iter().map(|t| {
            let waiting = if t.waiting > 0 { paint.yellow(&t.waiting.to_string()) } else { "0".to_owned() };
            vec![
                t.task.to_string(),
                super::state_of(t),
                t.initiator.to_string(),
                t.agent.to_string(),
                t.live_grants.to_string(),
                waiting,
                t.refusals.to_string(),
                plain(&t.intent, 48),
            ]
        });
        let headings = ["task", "state", "initiator", "agent", "grants", "asks", "refused", "intent"];
        table(paint, &headings, rows.collect())
    });
    Ok(())
}

async fn show(ctx: &Ctx, task: &TaskId) -> Done {
    let detail = ctx.people()?.task(task).await?;
    ctx.out.show(&detail, |paint| shown(&detail, paint));
    Ok(())
}

fn shown(detail: &TaskDetail, paint: Paint) -> String {
    let s = &detail.summary;
    let mut lines = vec![
        format!(
            "task      {}   {}   opened {}",
            paint.bold(s.task.as_str()),
            super::state_of(s),
            moment(s.opened)
        ),
        format!("intent    {}", plain(&s.intent, 200)),
        format!("initiator {}   window closes {}", s.initiator, moment(s.until)),
    ];
    lines.extend(s.reason.iter().map(|r| format!("because   {}", plain(r, 200))));
    lines.extend(s.template.iter().map(|t| format!("template  {}", plain(t, 80))));
    lines.extend(s.weaker.iter().map(|weaker| paint.yellow(weaker)));
    for amended in &detail.amended {
        let step = amended.step.canonical();
        lines.push(format!("amended   {}   {}", plain(&step, 160), paint.dim(amended.approval.as_str())));
    }
    if !detail.progress.is_empty() {
        let steps: Vec<String> = detail.progress.iter().map(|(step, n)| format!("{step} {n}×")).collect();
        lines.push(format!("taken     {}", steps.join(", ")));
    }
    for grant in &detail.grants {
        lines.extend(grant_lines(grant, paint));
    }
    for agent in detail.seeking.iter().filter(|agent| agent.score > 0) {
        let words = format!("seeks     {} ({}): {}", agent.agent, agent.score, plain(&agent.words, 200));
        lines.push(paint.red(&words));
    }
    for approval in &detail.approvals {
        let about = if approval.about == "amendment" { "an amendment with " } else { "" };
        lines.push(format!(
            "question  {}   {about}{} for {}   {}",
            approval.approval, approval.tool, approval.agent, approval.state
        ));
    }
    for call in &detail.open_calls {
        lines.push(format!(
            "{}   {} since {}: outcome unknown",
            paint.yellow("in flight"),
            call.tool,
            moment(call.since)
        ));
    }
    lines.join("\n")
}

fn grant_lines(grant: &GrantView, paint: Paint) -> Vec<String> {
    let pad = "  ".repeat(usize::from(grant.depth));
    let state = if grant.live { paint.green("live") } else { paint.dim("over") };
    let mut lines =
        vec![format!("grant     {pad}▸ {}   {state}   {}", paint.bold(grant.agent.as_str()), grant.grant)];
    lines.extend(grant.held.iter().map(|h| {
        let spent = if h.spent.uses > 0 { format!("   used {}×", h.spent.uses) } else { String::new() };
        format!("          {pad}  {}{spent}", capability(&h.capability))
    }));
    lines
}

async fn watch(ctx: &Ctx, task: &TaskId, once: bool) -> Done {
    let people = ctx.people()?;
    let mut notices = people.events(None).await?;
    let mut seen = 0;
    loop {
        for event in people.task_events(task, seen).await? {
            seen = event.at + 1;
            ctx.out.show(&event, |paint| event_line(&event, paint));
        }
        let over = people.task(task).await?.summary.state == "ended";
        if once || over {
            return Ok(());
        }
        loop {
            match notices.next().await? {
                Some(notice) if notice.task.as_deref() == Some(task.as_str()) => break,
                Some(_) => {}
                None => notices = people.events(notices.last()).await?,
            }
        }
    }
}

/// One event in one line.
pub(crate) fn event_line(event: &EventView, paint: Paint) -> String {
    let text = |name: &str| event.event.get(name).and_then(Value::as_text).unwrap_or("").to_owned();
    let why = |name: &str| {
        event.event.get("why").and_then(|w| w.get(name)).and_then(Value::as_text).unwrap_or("").to_owned()
    };
    let clock = moment(event.time);
    let clock = paint.dim(clock.get(11..19).unwrap_or(&clock));
    let body = match event.kind.as_str() {
        "decided" => {
            let args = event.event.get("args").map(Value::canonical).unwrap_or_default();
            let head = format!("{:<14} {} {}", text("agent"), text("tool"), plain(&args, 60));
            let tail = if text("outcome") == "allow" {
                String::new()
            } else {
                format!("   {}   {}", why("code"), plain(&why("reason"), 100))
            };
            let seen = event.event.get("observed").and_then(|o| o.get("would")).and_then(Value::as_text);
            let seen = seen.map(|would| format!("   (observed: would {would})")).unwrap_or_default();
            format!(
                "{head}   {}{tail}{seen}   {}",
                paint.effect(&text("outcome")),
                paint.dim(&text("decision"))
            )
        }
        "handed_off" => {
            let tail = if text("outcome") == "allow" {
                String::new()
            } else {
                format!("   {}", plain(&why("reason"), 120))
            };
            format!(
                "{:<14} hands to {}   {}{tail}   {}",
                text("from"),
                text("to"),
                paint.effect(&text("outcome")),
                paint.dim(&text("decision"))
            )
        }
        "amendment_proposed" => format!(
            "{:<14} asks to amend the chain   {}   {}   {}",
            text("agent"),
            paint.effect(&text("outcome")),
            plain(&why("reason"), 100),
            paint.dim(&text("decision"))
        ),
        "amended" => {
            let steps = event.event.get("steps").map(Value::canonical).unwrap_or_default();
            format!("{:<14} chain amended ({}): {}", "", text("approval"), plain(&steps, 120))
        }
        "opened" => format!("{:<14} opened: {}", text("initiator"), plain(&text("intent"), 100)),
        "reported" => format!("{:<14} {}   {}", "", text("went"), paint.dim(&text("decision"))),
        "voted" => format!(
            "{:<14} answered {}: {}",
            text("by"),
            text("approval"),
            event.event.get("vote").map(Value::canonical).unwrap_or_default()
        ),
        "ended" => format!("{:<14} ended: {} {}", text("by"), text("cause"), plain(&text("reason"), 100)),
        "frozen" | "resumed" => format!("{:<14} {}: {}", text("by"), event.kind, plain(&text("reason"), 100)),
        kind => kind.to_owned(),
    };
    format!("{clock} {body}")
}

async fn end(ctx: &Ctx, task: &TaskId, how: How, reason: String) -> Done {
    let cause = match how {
        How::Completed => EndCause::Completed,
        How::Failed => EndCause::Failed,
    };
    let halted = ctx.people()?.end_task(task, &TaskEnd { cause, reason }).await?;
    ctx.out.show(&halted, |paint| {
        if halted.tasks.is_empty() {
            format!("{task} was over already")
        } else {
            format!("ended {task}: {}", toll(&halted, paint))
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bailiwick_core::input::{InputKind, InputType};

    #[test]
    fn times_are_read_and_nonsense_is_refused() {
        assert_eq!(duration_secs("20m").ok(), Some(1200));
        assert_eq!(duration_secs("90").ok(), Some(90));
        for bad in ["", "m", "0s", "-1s", "1.5h", "20 m", "99999999999999999999d"] {
            assert!(duration_secs(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn inputs_are_typed_by_what_they_look_like_unless_the_template_says() {
        let none = InputTypes::new();
        let read =
            inputs(&["ticket=4711".into(), "name=web-3".into(), "list=[1]".into(), "eq=a=b".into()], &none)
                .unwrap();
        assert_eq!(read["ticket"], Value::Int(4711));
        assert_eq!(read["name"], Value::from("web-3"));
        assert_eq!(read["eq"], Value::from("a=b"));
        assert!(inputs(&["x".into()], &none).is_err() && inputs(&["=x".into()], &none).is_err());
        let types = [("name".to_owned(), InputType::of(InputKind::Text))].into();
        assert_eq!(inputs(&["name=4711".into()], &types).unwrap()["name"], Value::from("4711"));
        let code = |vars: &[String]| inputs(vars, &types).unwrap_err().code;
        assert_eq!((code(&[]), code(&["nam=x".into()])), ("input.missing".into(), "input.undeclared".into()));
    }
}
