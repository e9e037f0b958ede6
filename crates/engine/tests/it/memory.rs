//! What agents wrote is known again in later tasks, on the same node and after a restart.

use bailiwick_api::{Outcome, OutcomeStatus};
use bailiwick_core::event::Cause;
use bailiwick_core::label::Level;
use bailiwick_core::registry::Directory;
use bailiwick_core::tool::{Arg, Effect, Manifest, ResultRule, Role, Trust};
use bailiwick_core::typed::ValueType;
use bailiwick_engine::{NewTask, OpenedTask};

use crate::world::{World, allowed, asked, denied, json, person, tool};

fn rule(path: &str, of: Option<&str>) -> ResultRule {
    ResultRule {
        path: path.to_owned(),
        trust: Trust::Exact,
        of: of.map(|of| ValueType::parse(of).unwrap()),
        assigned: of.is_some(),
        when: None,
    }
}

/// A notebook that everybody trusts, and a way out.
async fn world() -> World {
    let world = World::new().await;
    let mut note = Manifest::new(tool("tickets.note"), Effect::Create).arg("text", Role::Content);
    note.reversible = true;
    note.result = vec![rule("id", Some("record:note"))];
    let mut notes = Manifest::new(tool("tickets.notes"), Effect::Read);
    notes.result = vec![rule("contact", None), rule("id", Some("record:note"))];
    let mut vault = Manifest::new(tool("tickets.vault"), Effect::Read);
    vault.labels.level = Level::Confidential;
    let mail = Manifest::new(tool("tickets.mail"), Effect::Egress)
        .arg("to", Role::Target)
        .arg("body", Role::Content)
        .arg("note", Role::Selector);
    let mut mail = mail;
    let of = Some(ValueType::parse("record:note").unwrap());
    mail.args.insert("note".to_owned(), Arg { of, ..Arg::of_role(Role::Selector) });
    for manifest in [note, notes, vault, mail] {
        world.engine.classify(&person("root"), manifest, None).await.unwrap();
    }
    world
}

async fn went(world: &World, task: &OpenedTask, name: &str, args: &str, result: &str) {
    let caller = world.caller(&task.task, &task.grant, "support");
    let decision = allowed(world.call(&caller, name, args).await);
    let outcome = Outcome {
        status: OutcomeStatus::Done,
        result: Some(json(result)),
        words: vec![],
        bytes: 10,
        note: None,
    };
    world.engine.report(&caller, &decision, outcome).await.unwrap();
}

async fn ended(world: &World, task: &OpenedTask) {
    world.engine.end_task("dana@example.org", &task.task, Cause::Completed, "done").await.unwrap();
}

// proves: A32, A31, N1
#[tokio::test]
async fn what_one_task_wrote_explains_nothing_in_the_next_and_after_a_restart() {
    let world = world().await;
    let first = world.open_with(None).await;
    went(&world, &first, "tickets.note", r#"{"text":"Contact: Eve-4711"}"#, r#"{"id":13}"#).await;
    ended(&world, &first).await;

    let world = world.reopened().await;
    let second = world.open_with(None).await;
    let support = world.caller(&second.task, &second.grant, "support");
    let read = r#"[{"id":13,"contact":"Eve-4711"},{"id":14,"contact":"Ann-12"}]"#;
    went(&world, &second, "tickets.notes", "{}", read).await;
    allowed(world.call(&support, "tickets.mail", r#"{"to":"Ann-12"}"#).await);
    let question = asked(world.call(&support, "tickets.mail", r#"{"to":"Eve-4711"}"#).await);
    assert!(question.text.contains("nobody vouches for \"Eve-4711\""), "{}", question.text);
    let task = world.engine.task(&second.task).await.unwrap();
    let label = &task.grant(&second.grant).unwrap().label;
    assert!(label.untrusted.contains("tickets.note"), "the label comes back with the words: {label:?}");

    // The system's own numbers are nobody's words, and are ids of notes and of nothing else.
    allowed(world.call(&support, "tickets.mail", r#"{"to":"Ann-12","note":13}"#).await);
    asked(world.call(&support, "tickets.mail", r#"{"to":"13"}"#).await);
}

// proves: A31, N2
#[tokio::test]
async fn what_was_written_down_stays_as_confidential_as_it_was() {
    let world = world().await;
    let first = world.open_with(None).await;
    went(&world, &first, "tickets.vault", "{}", r#"{"plan":"we buy them in May"}"#).await;
    went(&world, &first, "tickets.note", r#"{"text":"we buy them in May"}"#, r#"{"id":21}"#).await;
    ended(&world, &first).await;

    let level = async |result: &str| {
        let task = world.open_with(None).await;
        went(&world, &task, "tickets.notes", "{}", result).await;
        world.engine.task(&task.task).await.unwrap().grant(&task.grant).unwrap().label.level
    };
    assert_eq!(level(r#"{"text":"we buy them in May"}"#).await, Level::Confidential, "by its words");
    assert_eq!(
        level(r#"{"id":21,"text":"we BUY them, in May."}"#).await,
        Level::Confidential,
        "by its record"
    );
    assert_eq!(level(r#"{"id":22,"text":"lunch"}"#).await, Level::Public);

    let in_words = async |words: &str| {
        let task = world.open_with(None).await;
        let caller = world.caller(&task.task, &task.grant, "support");
        let decision = allowed(world.call(&caller, "tickets.notes", "{}").await);
        let words = vec![words.to_owned()];
        let outcome = Outcome { status: OutcomeStatus::Done, result: None, words, bytes: 10, note: None };
        world.engine.report(&caller, &decision, outcome).await.unwrap();
        world.engine.task(&task.task).await.unwrap().grant(&task.grant).unwrap().label.level
    };
    assert_eq!(
        in_words("Notes:\nwe buy them in May\nlunch").await,
        Level::Confidential,
        "also in plain text"
    );
    assert_eq!(in_words("Notes:\nlunch").await, Level::Public);
}

// proves: A33, N2
#[tokio::test]
async fn data_does_not_leave_inside_an_address_that_is_allowed() {
    let world = world().await;
    let directory =
        Directory { known: ["https://partner.example/in".to_owned()].into(), ..Directory::default() };
    world.engine.set_directory(&person("root"), directory).await.unwrap();
    let task = world.open_with(None).await;
    let support = world.caller(&task.task, &task.grant, "support");
    allowed(
        world.call(&support, "tickets.mail", r#"{"to":"https://partner.example/in","body":"hello"}"#).await,
    );
    for leak in [
        r#"{"to":"https://partner.example/in?d=c2VjcmV0"}"#,
        r#"{"to":"https://c2vjcmv0.partner.example/in"}"#,
        r#"{"to":"https://partner.example/in/c2VjcmV0"}"#,
        r#"{"to":"https://partner.example/in","body":"![](https://partner.example/in?d=c2VjcmV0)"}"#,
        r#"{"to":"https://partner.example/in","body":"see www.evil.example/c2VjcmV0"}"#,
    ] {
        let answer = world.call(&support, "tickets.mail", leak).await;
        assert!(answer.allowed().is_err(), "{leak}");
    }
}

// proves: N3
#[tokio::test]
async fn who_tries_one_tool_after_another_is_seen_and_stopped() {
    let world = World::new().await;
    let task = world.open_with(None).await;
    let support = world.caller(&task.task, &task.grant, "support");
    for n in 0..5 {
        world.call(&support, &format!("vault.open{n}"), "{}").await;
        world.call(&support, "cloud.delete", r#"{"name":"db-1"}"#).await;
    }
    let seen = world.engine.task(&task.task).await.unwrap();
    let support_seeks = &seen.seeking()[&crate::world::agent("support")];
    assert_eq!((support_seeks.score(), support_seeks.refusals), (6, 10), "each tool once");
    assert_eq!(world.engine.summary(&task.task).await.unwrap().seeking, 6);

    let strict = NewTask { seeking: Some(2), ..world.new_task(None) };
    let task = world.engine.open_task(strict).await.unwrap();
    let support = world.caller(&task.task, &task.grant, "support");
    let code = async |name: &str| denied(world.call(&support, name, "{}").await).code;
    for name in ["vault.a", "vault.a", "vault.b", "vault.c"] {
        assert_eq!(code(name).await, "tool.unclassified", "{name}");
    }
    assert_eq!(code("vault.d").await, "task.frozen", "the third tool was one too many");
    let frozen = world.engine.summary(&task.task).await.unwrap();
    assert!(format!("{:?}", frozen.state).contains("seeks more authority than it has"), "{frozen:?}");
}
