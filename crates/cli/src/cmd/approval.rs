//! `approvals`, `approve`, `narrow` and `deny`: questions to people, and their answers.
//!
//! A card shows what was computed first and what the agent says last, marked as words that may be manipulated.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::Duration;

use bailiwick_api::client::People;
use bailiwick_api::wire::{ApprovalCard, ApprovalSummary, CardAddition, VoteBody, VoteKind};
use bailiwick_core::ApprovalId;
use bailiwick_core::value::Value;
use clap::{Args, Subcommand};

use crate::ctx::Ctx;
use crate::fail::{Done, Failure};
use crate::out::{Paint, moment, plain, span, table};

/// How often is looked for new questions when nothing announces them.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Lists the questions that wait.
#[derive(Debug, Args)]
pub(crate) struct Approvals {
    #[command(subcommand)]
    what: Option<What>,
}

/// What else can be done with them.
#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// List them
    Ls,
    /// One question with everything that is known about it
    Show {
        /// Which
        approval: ApprovalId,
    },
    /// Show questions as they come, and answer them
    Watch,
}

/// Says yes, once, to exactly this.
#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// Which question
    approval: ApprovalId,
    /// Why
    #[arg(long)]
    reason: Option<String>,
    /// Say yes to these smaller arguments instead, as `bailiwick narrow` does
    #[arg(long, value_name = "JSON")]
    narrow: Option<String>,
}

/// Says yes to something smaller.
#[derive(Debug, Args)]
pub(crate) struct Narrow {
    /// Which question
    approval: ApprovalId,
    /// The smaller arguments, as JSON: members and list items may go, numbers may shrink
    #[arg(long, value_name = "JSON")]
    args: String,
    /// Why
    #[arg(long)]
    reason: Option<String>,
}

/// Says no.
#[derive(Debug, Args)]
pub(crate) struct Deny {
    /// Which question
    approval: ApprovalId,
    /// Why: the agent and the record need a reason
    #[arg(long)]
    reason: String,
}

pub(crate) async fn approvals(ctx: &Ctx, approvals: Approvals) -> Done {
    let people = ctx.people()?;
    match approvals.what.unwrap_or(What::Ls) {
        What::Ls => {
            let waiting = people.approvals().await?;
            ctx.out.show(&waiting, |paint| listed(&waiting, paint));
            Ok(())
        }
        What::Show { approval } => {
            let card = people.approval(&approval).await?;
            ctx.out.show(&card, |paint| shown(&card, paint));
            Ok(())
        }
        What::Watch => watch(ctx, &people).await,
    }
}

pub(crate) async fn approve(ctx: &Ctx, approve: Approve) -> Done {
    if let Some(args) = approve.narrow {
        return narrow(ctx, Narrow { approval: approve.approval, args, reason: approve.reason }).await;
    }
    let vote = VoteBody { vote: VoteKind::Approve, args: None, reason: approve.reason };
    answer(ctx, &ctx.people()?, &approve.approval, vote).await
}

pub(crate) async fn narrow(ctx: &Ctx, narrow: Narrow) -> Done {
    let args = Value::parse(narrow.args.as_bytes()).map_err(|e| {
        Failure::usage(
            format!("the smaller arguments are not JSON: {e}"),
            "Write all arguments that remain, such as '{\"to\":\"acct-7\",\"amount\":20}'.",
        )
    })?;
    if args.as_map().is_none() {
        return Err(Failure::usage(
            "the smaller arguments are not an object",
            "Write all arguments that remain, by name.",
        ));
    }
    let vote = VoteBody { vote: VoteKind::Narrow, args: Some(args), reason: narrow.reason };
    answer(ctx, &ctx.people()?, &narrow.approval, vote).await
}

pub(crate) async fn deny(ctx: &Ctx, deny: Deny) -> Done {
    let vote = VoteBody { vote: VoteKind::Deny, args: None, reason: Some(deny.reason) };
    answer(ctx, &ctx.people()?, &deny.approval, vote).await
}

async fn answer(ctx: &Ctx, people: &People, approval: &ApprovalId, vote: VoteBody) -> Done {
    let kind = vote.vote;
    let settled = people.vote(approval, &vote).await?;
    ctx.out.show(&settled, |_| match (kind, settled.state.as_str()) {
        (VoteKind::Deny, _) => format!("denied {approval}; the agent is told why"),
        (_, "used") if settled.about == "amendment" => {
            "amended: the agent may take exactly these steps. Everything else is as it was.".to_owned()
        }
        (_, "waiting") => format!("noted; {} of {} people have said yes", settled.yes.len(), settled.quorum),
        _ => format!(
            "approved once, for exactly these arguments, until {}. Not transferable to another agent.",
            moment(settled.until)
        ),
    });
    Ok(())
}

fn listed(waiting: &[ApprovalSummary], paint: Paint) -> String {
    let rows = waiting.iter().map(|a| {
        let left = span(a.until.since(a.asked));
        vec![
            a.approval.to_string(),
            if a.about == "amendment" { format!("amendment: {}", a.tool) } else { a.tool.to_string() },
            a.agent.to_string(),
            a.task.to_string(),
            format!("{}/{}", a.yes.len(), a.quorum),
            moment(a.asked),
            left,
        ]
    });
    table(paint, &["question", "about", "agent", "task", "yes", "asked", "lives"], rows.collect())
}

/// What somebody is asked to approve is shown to its end; what is too long for that was never asked.
fn whole(args: &Value) -> String {
    plain(&args.canonical(), usize::MAX)
}

/// The card, in the order in which a person should read it.
fn shown(card: &ApprovalCard, paint: Paint) -> String {
    let mut lines =
        vec![format!("{}   {}   {}", paint.bold(&plain(&card.title, 160)), card.approval, card.state)];
    lines.extend(card.risks.iter().map(|risk| paint.yellow(&format!("  risk     {}", plain(risk, 160)))));
    lines.push(format!(
        "  who      {}",
        card.who.iter().map(|w| plain(w, 80)).collect::<Vec<_>>().join(" ▸ ")
    ));
    let planned = if card.task.planned { "in the plan" } else { "not in the plan" };
    lines.push(format!("  task     {} “{}”, {planned}", card.task.id, plain(&card.task.intent, 160)));
    lines.push(format!("  expires  {}, then {}", moment(card.expiry.until), card.expiry.then));
    if card.adds.is_empty() {
        lines.push(format!("  args     {}", whole(&card.args)));
    }
    for add in &card.adds {
        lines.extend(addition(add, paint));
    }
    lines.extend(card.values.iter().map(|words| format!("  from     {}", plain(words, 300))));
    lines.extend(card.narrowed.iter().map(|n| format!("  narrowed {}", whole(n))));
    lines.extend(card.task.weaker.iter().map(|w| paint.yellow(&format!("  declared {}", plain(w, 160)))));
    let undo = if card.touches.reversible { "can be undone" } else { "cannot be undone" };
    lines.push(format!(
        "  touches  {} ({}), {undo}",
        card.touches.tool,
        card.touches.effect.as_deref().unwrap_or("unclassified")
    ));
    let may = if card.asked_of.you_may { "you may answer" } else { "you may not answer" };
    lines.push(format!(
        "  asked    {} of {}: {} ({}); {may}",
        card.asked_of.quorum,
        card.asked_of.group,
        plain(&card.asked_of.reason, 160),
        card.asked_of.rule
    ));
    if let Some(words) = &card.agent_says {
        lines.push(paint.dim(&format!("  {}: “{}”", words.warning, plain(&words.text, 300))));
    }
    lines.join("\n")
}

/// One line of an authority diff: what becomes possible, and why it is not until now.
fn addition(add: &CardAddition, paint: Paint) -> Vec<String> {
    let times = if add.times == 1 { "once".to_owned() } else { format!("up to {} times", add.times) };
    let undo = if add.reversible { "can be undone" } else { "cannot be undone" };
    let grows = if add.grant_grows { ", and its grant grows by it" } else { "" };
    vec![
        paint.green(&format!(
            "  +        {} may call {} {times} ({}, {undo}{grows})",
            add.agent, add.tool, add.effect
        )),
        format!("           with {}", whole(&add.args)),
        format!("           until now: {}", plain(&add.until_now, 160)),
    ]
}

/// Shows each question once. On a terminal it can be answered at once.
async fn watch(ctx: &Ctx, people: &People) -> Done {
    let mut seen: BTreeSet<ApprovalId> = BTreeSet::new();
    let asks = std::io::stdin().is_terminal() && ctx.out.is_table();
    ctx.out.say("waiting for questions; Ctrl-C stops");
    loop {
        for waiting in people.approvals().await? {
            if !seen.insert(waiting.approval.clone()) {
                continue;
            }
            let card = people.approval(&waiting.approval).await?;
            ctx.out.show(&card, |paint| shown(&card, paint));
            if asks
                && card.asked_of.you_may
                && let Some(vote) = prompted(ctx).await?
                && let Err(failure) = answer(ctx, people, &waiting.approval, vote).await
            {
                ctx.out.complain(&failure);
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What the person types: approve, deny with a reason, or nothing for now.
async fn prompted(ctx: &Ctx) -> Result<Option<VoteBody>, Failure> {
    ctx.out.say("  [a]pprove once   [d REASON] deny   [enter] later");
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        let _ = std::io::stdin().read_line(&mut line);
        line
    });
    let line = line.await.map_err(|e| Failure::failed("stream.broken", e.to_string(), ""))?;
    let vote = |vote, reason| Some(VoteBody { vote, args: None, reason });
    Ok(match line.trim().split_once(' ').unwrap_or((line.trim(), "")) {
        ("a" | "approve", _) => vote(VoteKind::Approve, None),
        ("d" | "deny", reason) => vote(VoteKind::Deny, Some(reason.to_owned())),
        _ => None,
    })
}
