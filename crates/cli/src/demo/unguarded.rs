//! Round one: how it is today. Agents start the tool servers themselves, with keys that work at any time.

use std::path::Path;

use serde_json::json;

use super::Stage;
use super::mcp::Direct;
use super::story::Story;
use super::verdict::Round;
use super::world::{self, State, System, TICKET};

/// The two agents do what the ticket says.
pub(crate) async fn play(stage: &Stage, story: &Story) -> anyhow::Result<Round> {
    let folder = stage.folder("unguarded")?;
    let (tickets, cloud) = (stage.found(&folder, System::Tickets)?, stage.found(&folder, System::Cloud)?);
    story.chapter("Round 1, unguarded.", "Two agents, two standing keys, nobody in between.");
    let mut support = start(stage, System::Tickets, &tickets).await?;
    let mut remediator = start(stage, System::Cloud, &cloud).await?;
    let mut back_office = start(stage, System::Tickets, &tickets).await?;
    let standing = reach(&mut [&mut support, &mut remediator, &mut back_office]).await?;

    let ticket = support.call("get", json!({"id": TICKET})).await?;
    let body = ticket.data()["body"].as_str().unwrap_or_default().to_owned();
    story.act("support", &format!("tickets.get {TICKET}"), "allow", "");
    story.note(&format!("            “{}”", story.paint().yellow(&body)));
    for (tool, name) in world::obeyed(&body) {
        let called = remediator.call(tool, json!({"name": name})).await?;
        let gone = tool == "vm.delete" && !called.is_error();
        story.act("remediator", &format!("cloud.{tool} {name}"), if gone { "gone" } else { "allow" }, "");
    }
    back_office.call("comment", json!({"id": TICKET, "text": "web-3 was restarted"})).await?;
    let after = reach(&mut [&mut support, &mut remediator, &mut back_office]).await?;
    for agent in [support, remediator, back_office] {
        agent.stop().await;
    }
    judge(&tickets, &cloud, standing, after, story)
}

async fn start(stage: &Stage, system: System, state: &Path) -> anyhow::Result<Direct> {
    Direct::start(&stage.program, &stage.server_args(system, state), stage.key(system)).await
}

/// How many tools the agents can call, right now and at any time.
async fn reach(agents: &mut [&mut Direct]) -> anyhow::Result<u64> {
    let mut all = 0;
    for agent in agents {
        all += agent.tools().await?.len() as u64;
    }
    Ok(all)
}

/// What the systems' own files say.
fn judge(tickets: &Path, cloud: &Path, before: u64, after: u64, story: &Story) -> anyhow::Result<Round> {
    let (tickets, cloud) = (State::read(tickets)?, State::read(cloud)?);
    let round = Round {
        name: "unguarded".to_owned(),
        harm_done: !cloud.vms.contains_key("db-1"),
        legitimate_work_done: super::restarted(&cloud, "web-3") && super::commented(&tickets),
        standing_before: before,
        standing_after: after,
        ..Round::default()
    };
    if round.harm_done {
        let paint = story.paint();
        story.note(&format!(
            "{} One sentence by a stranger, and nobody was asked. {after} privileges still stand.",
            paint.red("The production database is gone.")
        ));
    }
    Ok(round)
}
