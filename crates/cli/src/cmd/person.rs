//! `person add|ls`: who can open tasks, answer questions, and administer.

use std::collections::BTreeSet;

use bailiwick_api::wire::{PersonSet, key_digest};
use bailiwick_core::{GroupId, PrincipalId};
use clap::{Args, Subcommand};

use crate::ctx::Ctx;
use crate::fail::{Done, Failure};
use crate::out::table;

/// What can be done with people.
#[derive(Debug, Subcommand)]
pub(crate) enum Person {
    /// Register a person or workflow, and make the key they sign in with
    Add(Add),
    /// List people and workflows
    Ls,
}

/// Registers a person.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Who, usually a mail address
    person: PrincipalId,
    /// A group they belong to; `operators` administer
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<GroupId>,
    /// A workflow or service: it opens tasks and never approves
    #[arg(long)]
    workload: bool,
}

pub(crate) async fn run(ctx: &Ctx, person: Person) -> Done {
    match person {
        Person::Add(add) => self::add(ctx, add).await,
        Person::Ls => ls(ctx).await,
    }
}

async fn add(ctx: &Ctx, add: Add) -> Done {
    let (people, keys) = (ctx.people()?, ctx.keys()?);
    let held = people.people().await?.into_iter().find(|p| p.id == add.person);
    let key = keys.found_person(&add.person)?;
    let digest =
        key_digest(&key).ok_or_else(|| Failure::failed("key.damaged", "the key cannot be used", ""))?;
    let mut groups: BTreeSet<GroupId> = add.groups.into_iter().collect();
    groups.extend(held.into_iter().flat_map(|p| p.groups));
    let set =
        PersonSet { id: add.person.clone(), groups, workload: add.workload, keys: Some([digest].into()) };
    let view = people.set_person(&set).await?;
    ctx.out.show(&view, |paint| format!("registered {}", paint.bold(view.id.as_str())));
    ctx.out.say(&format!(
        " their key is at {}; hand it over and delete it here",
        keys.person_path(&add.person).display()
    ));
    Ok(())
}

async fn ls(ctx: &Ctx) -> Done {
    let people = ctx.people()?.people().await?;
    ctx.out.show(&people, |paint| {
        let rows = people.iter().map(|p| {
            let groups: Vec<&str> = p.groups.iter().map(GroupId::as_str).collect();
            let kind = if p.workload { "workflow" } else { "person" };
            vec![p.id.to_string(), kind.to_owned(), groups.join(", "), p.keys.len().to_string()]
        });
        table(paint, &["who", "kind", "groups", "keys"], rows.collect())
    });
    Ok(())
}
