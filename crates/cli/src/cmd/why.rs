//! `why` and `trace`: one decision explained, and followed back to the human intent.

use bailiwick_api::wire::{DecisionView, EventView, TraceView};
use bailiwick_audit::movement::{Movement, Way, in_words, movements};
use bailiwick_core::event::TaskEvent;
use bailiwick_core::value::Value;
use bailiwick_core::{AgentId, DecisionId, PrincipalId, TaskId};
use clap::Args;

use super::agent::capability;
use super::task::event_line;
use crate::ctx::Ctx;
use crate::fail::{Done, Failure};
use crate::out::{Paint, moment, plain, table};

/// Which decision.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// A decision's id, `last` for the newest, or `refused` for the newest that was no yes
    decision: String,
}

pub(crate) async fn why(ctx: &Ctx, which: Which) -> Done {
    let decision = meant(ctx, &which.decision).await?;
    let view = ctx.people()?.why(&decision).await?;
    ctx.out.show(&view, |paint| explained(&view, paint));
    Ok(())
}

/// Which decision, or which task's data.
#[derive(Debug, Args)]
pub(crate) struct Traced {
    /// A decision's id, or `last` for the newest refusal or question
    #[arg(required_unless_present = "data", conflicts_with = "data")]
    decision: Option<String>,
    /// What data moved where in this task: what was read, handed on, written and kept back, under which label
    #[arg(long, value_name = "TASK")]
    data: Option<TaskId>,
}

pub(crate) async fn trace(ctx: &Ctx, which: Traced) -> Done {
    match (&which.data, &which.decision) {
        (Some(task), _) => data(ctx, task).await,
        (None, Some(decision)) => one(ctx, decision).await,
        (None, None) => {
            Err(Failure::usage("what is to be traced?", "Name a decision, or a task with --data."))
        }
    }
}

async fn data(ctx: &Ctx, task: &TaskId) -> Done {
    let events = ctx.people()?.task_events(task, 0).await?;
    let read = |view: &EventView| {
        let event: TaskEvent = serde_json::from_str(&view.event.canonical()).map_err(|e| {
            Failure::failed("event.unreadable", format!("event {} cannot be read: {e}", view.at), "")
        })?;
        Ok((view.at, event))
    };
    let events: Vec<(u64, TaskEvent)> = events.iter().map(read).collect::<Result<_, Failure>>()?;
    let moved = movements(events.iter().map(|(at, event)| (*at, event)));
    ctx.out.show(&moved, |paint| moved_table(&moved, paint));
    Ok(())
}

fn moved_table(moved: &[Movement], paint: Paint) -> String {
    if moved.is_empty() {
        return "no data has moved in this task".to_owned();
    }
    let rows = moved.iter().map(|m| {
        let way = match m.way {
            Way::Read => "read".to_owned(),
            Way::HandedOn => "handed on".to_owned(),
            Way::Written => "written".to_owned(),
            Way::KeptBack => paint.red("kept back"),
        };
        let label = in_words(&m.label);
        let label = if m.label.is_trusted() { label } else { paint.yellow(&plain(&label, 60)) };
        let stripped =
            if m.stripped.is_empty() { String::new() } else { format!("; not {}", m.stripped.join(", ")) };
        let what = format!("{}{stripped}", m.what.join(", "));
        vec![m.at.to_string(), way, m.from.clone(), m.to.clone(), plain(&what, 40), label, m.went.clone()]
    });
    let mut out = table(paint, &["#", "moved", "from", "to", "what", "label", "went"], rows.collect());
    for (at, words) in moved.iter().flat_map(notes) {
        out.push_str(&paint.dim(&format!("\n#{at:<4} {}", plain(&words, 200))));
    }
    out
}

/// What else is to be said of a movement: what lowered its label, what it explains, where its values came from.
fn notes(m: &Movement) -> Vec<(u64, String)> {
    let lowered = m.declassified.iter().map(|words| format!("declassified: {words}"));
    let trusted = m.explains.iter().map(|(field, n)| match n {
        1 => format!("the manifest trusts `{field}`: it explains 1 value"),
        n => format!("the manifest trusts `{field}`: it explains {n} values"),
    });
    let claimed = m.claimed.then(|| "reported by the caller itself, so it explains nothing".to_owned());
    lowered
        .chain(trusted)
        .chain(claimed)
        .chain(m.sources.iter().cloned())
        .map(|words| (m.at, words))
        .collect()
}

async fn one(ctx: &Ctx, decision: &str) -> Done {
    let decision = meant(ctx, decision).await?;
    let trace = ctx.people()?.trace(&decision).await?;
    ctx.out.show(&trace, |paint| {
        let steps: Vec<String> = trace
            .steps
            .iter()
            .map(|s| format!("{} {}", paint.dim(&format!("#{:<5}", s.index)), event_line(s, paint)))
            .collect();
        format!("{}\n\n{}", five_answers(&trace, paint), steps.join("\n"))
    });
    Ok(())
}

/// The decision that is meant: named, the newest, or the newest that was no yes.
async fn meant(ctx: &Ctx, text: &str) -> Result<DecisionId, Failure> {
    let any = match text {
        "last" => true,
        "refused" => false,
        named => return Ok(DecisionId::parse(named)?),
    };
    let people = ctx.people()?;
    let mut newest: Option<(bailiwick_core::Time, String)> = None;
    for task in people.tasks(20).await? {
        for event in people.task_events(&task.task, 0).await? {
            let text = |name: &str| event.event.get(name).and_then(Value::as_text);
            let wanted = text("outcome").is_some_and(|o| any || o != "allow");
            if let (true, Some(decision)) =
                (wanted && newest.as_ref().is_none_or(|(t, _)| event.time >= *t), text("decision"))
            {
                newest = Some((event.time, decision.to_owned()));
            }
        }
    }
    let none = || Failure::failed("not_found", "nothing of that kind was decided in the last 20 tasks", "");
    Ok(DecisionId::parse(&newest.ok_or_else(none)?.1)?)
}

/// What was decided, by which rule, and what would help.
fn explained(view: &DecisionView, paint: Paint) -> String {
    let act = match (&view.tool, &view.to) {
        _ if view.about == "amendment" => {
            format!("amend the chain by {}", plain(&view.args.canonical(), 120))
        }
        (Some(tool), _) => format!("{tool} {}", plain(&view.args.canonical(), 120)),
        (None, Some(to)) => format!("handoff to {to}"),
        _ => String::new(),
    };
    let mut lines = vec![
        format!(
            "{}  {} → {act}   (task {}, hop {})",
            paint.effect(&view.effect),
            paint.bold(view.agent.as_str()),
            view.task,
            view.hop
        ),
        format!("  {}", view.reason),
        format!("  decided in step {} by rule {}   code {}", view.step, paint.bold(&view.rule), view.code),
    ];
    for words in &view.sources {
        lines.push(format!("  {}", plain(words, 200)));
    }
    for name in &view.unexplained {
        lines.push(paint.yellow(&format!("  `{name}`: nobody in this task vouched for its value")));
    }
    for words in &view.declassified {
        lines.push(format!("  declassified: {}", plain(words, 200)));
    }
    if !view.label.is_trusted() {
        let from: Vec<&str> = view.label.untrusted.iter().map(String::as_str).collect();
        lines.push(paint.yellow(&format!("  the agent had read untrusted data from {}", from.join(", "))));
    }
    if let Some(seen) = &view.observed {
        let rules: Vec<&str> = seen.rules.iter().map(String::as_str).collect();
        lines.push(paint.yellow(&format!(
            "  only observed, not enforced: {} would have said {}: {}",
            rules.join(", "),
            seen.would.as_str(),
            plain(&seen.reason, 160)
        )));
    }
    if !view.stripped.is_empty() {
        let names: Vec<&str> = view.stripped.iter().map(String::as_str).collect();
        lines.push(format!("  not delivered: {}", names.join(", ")));
    }
    if let Some(words) = &view.agent_says {
        lines.push(paint.dim(&format!("  {}: “{}”", words.warning, plain(&words.text, 160))));
    }
    if !view.remedy.is_empty() {
        lines.push(format!("  {}", view.remedy));
    }
    lines.extend(view.weaker.iter().map(|weaker| paint.yellow(&format!("  {weaker}"))));
    lines.push(paint.dim(&format!(
        "  {}   for {} (“{}”)   policy {}   epoch {}",
        moment(view.at),
        view.initiator,
        plain(&view.intent, 80),
        view.policy.short(),
        view.epoch
    )));
    lines.join("\n")
}

/// The five questions: who initiated, who performed, with what, what was permitted and for how long, who approved.
pub(crate) fn five_answers(trace: &TraceView, paint: Paint) -> String {
    let agents: Vec<&str> = trace.agents.iter().map(AgentId::as_str).collect();
    let act = match (&trace.decision.tool, &trace.decision.to) {
        _ if trace.decision.about == "amendment" => "asked to amend the chain".to_owned(),
        (Some(tool), _) => format!("{tool} {}", plain(&trace.decision.args.canonical(), 80)),
        (None, Some(to)) => format!("handoff to {to}"),
        _ => String::new(),
    };
    let permitted: Vec<String> = trace.permitted.iter().map(capability).collect();
    let approved: Vec<&str> = trace.approved_by.iter().map(PrincipalId::as_str).collect();
    let approval = match (approved.as_slice(), trace.decision.effect.as_str()) {
        ([], "deny") => "refused before any approval".to_owned(),
        ([], _) => "not required".to_owned(),
        (who, _) => format!("required before it ran; given by {}", who.join(", ")),
    };
    let ended =
        trace.ended.as_ref().map_or("still open".to_owned(), |e| format!("{} {}", e.cause, moment(e.at)));
    let row = |name: &str, text: &str| format!("{} {text}", paint.bold(&format!("{name:<13}")));
    let mut rows = vec![
        row(
            "initiated by",
            &format!("{}: “{}” ({})", trace.initiator, plain(&trace.intent, 90), moment(trace.opened)),
        ),
        row("performed by", &agents.join(" ▸ ")),
        row("tools", &format!("{act}   {}", paint.effect(&trace.decision.effect))),
        row(
            "permitted",
            &format!(
                "{}; until {}, task {ended}",
                plain(&permitted.join(", "), 160),
                moment(trace.permitted_until)
            ),
        ),
        row("approval", &approval),
    ];
    rows.extend(
        trace.template.iter().map(|template| row("from", &format!("template {}", plain(template, 80)))),
    );
    rows.extend(trace.decision.weaker.iter().map(|weaker| row("declared", &paint.yellow(weaker))));
    rows.join("\n")
}
