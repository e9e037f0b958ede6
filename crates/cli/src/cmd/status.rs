//! `status`: how the control plane is.

use bailiwick_api::wire::{HaltKind, KeptHeadView, Status};

use crate::ctx::Ctx;
use crate::fail::{Done, Exit, Failure};
use crate::out::{Paint, moment};

/// The control plane at a glance. Fails with 6 if it answers but cannot decide, with 7 if the ledger's head should be kept
/// outside and is not.
pub(crate) async fn status(ctx: &Ctx) -> Done {
    let people = ctx.people()?;
    let status = ctx.out.wait("asking", people.status()).await?;
    ctx.out.show(&status, |paint| glance(people.base(), &status, paint));
    if status.store == "up" {
        return status.kept_head.map_or(Ok(()), head_is_kept);
    }
    let why = status.trouble.unwrap_or_else(|| status.store.clone());
    let what = format!("the store is {}: {why}; every call is refused until it is back", status.store);
    Err(Failure::new(Exit::Unreachable, "store.unavailable", what, ""))
}

fn head_is_kept(head: KeptHeadView) -> Done {
    let Some(code) = head.code else { return Ok(()) };
    let next = "Ends count all the same. Until this is put right, a restart on an older copy of the ledger is not found.";
    Err(Failure::new(Exit::NotVerified, &code, head.trouble.unwrap_or_default(), next))
}

fn glance(base: &str, s: &Status, paint: Paint) -> String {
    let store = if s.store == "up" { paint.green("up") } else { paint.red(&s.store) };
    let waiting = match s.tools_waiting {
        0 => String::new(),
        n => paint.yellow(&format!(", {n} wait for a human (bailiwick tool ls)")),
    };
    let mut lines = vec![
        format!("server   {base}  version {}  {}", s.version, moment(s.now)),
        format!("store    {} {store}  ledger {} events  epoch {}", s.backend, s.ledger_size, s.epoch),
        format!("agents   {}   people {}   tools {}{waiting}", s.agents, s.people, s.tools_classified),
    ];
    if let Some(head) = &s.kept_head {
        let kept = match (&head.code, head.since) {
            (None, _) => format!("kept outside {}", paint.green("well")),
            (Some(code), since) => {
                let since = since.map(|at| format!(" since {}", moment(at))).unwrap_or_default();
                format!("kept outside {}", paint.red(&format!("no longer{since} ({code})")))
            }
        };
        lines.push(format!("head     {kept}  covers {} events", head.covers));
    }
    if s.seeking > 0 {
        let what = format!(
            "in {} open tasks an agent has tried for more than it has (bailiwick task show)",
            s.seeking
        );
        lines.push(format!("{}    {what}", paint.yellow("seeks")));
    }
    if s.test_clock {
        lines.push(
            paint.red("TEST CLOCK: an operator can move this node's time. Nothing real may depend on it."),
        );
    }
    for halt in &s.suspensions {
        let word = if halt.halt == HaltKind::Killed { "killed" } else { "frozen" };
        let what = format!("{:?} {}", halt.scope, halt.name).to_lowercase();
        lines.push(format!(
            "{}   {} by {}: {}",
            paint.red(word),
            what.trim(),
            halt.by,
            crate::out::plain(&halt.reason, 100)
        ));
    }
    lines.join("\n")
}
