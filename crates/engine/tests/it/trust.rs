//! Who may say where data came from, what makes it less confidential, and what becomes of a question whose policies
//! have gone.

use bailiwick_api::{ApprovalState, Call, Caller, Outcome, OutcomeStatus};
use bailiwick_audit::movement::{Movement, movements};
use bailiwick_core::declassify::{Declassifier, Passing};
use bailiwick_core::event::{Cause, TaskEvent};
use bailiwick_core::label::{Label, Level};
use bailiwick_core::tool::{Effect, Manifest, ResultRule, Role, Trust, When};
use bailiwick_core::{DecisionId, ToolId};
use bailiwick_engine::{NewTask, OpenedTask, VoteAsk};

use crate::world::*;

fn address_book() -> Manifest {
    let rule =
        ResultRule { path: "email".to_owned(), trust: Trust::Exact, of: None, assigned: false, when: None };
    Manifest { result: vec![rule], ..Manifest::new(tool("tickets.contact"), Effect::Read) }
}

fn mail(name: &str) -> Manifest {
    Manifest::new(tool(name), Effect::Egress).arg("to", Role::Target).arg("mode", Role::Free)
}

async fn with_tools(tools: Vec<Manifest>) -> World {
    let world = World::new().await;
    for manifest in tools {
        world.engine.classify(&person("root"), manifest, None).await.unwrap();
    }
    let open = r#"@id("inside-the-task") permit (principal, action, resource);"#;
    world.engine.set_policy(&person("root"), &[("all.cedar".to_owned(), open.to_owned())]).await.unwrap();
    world
}

fn done(result: &str) -> Outcome {
    Outcome { status: OutcomeStatus::Done, result: Some(json(result)), words: vec![], bytes: 10, note: None }
}

async fn read(world: &World, caller: &Caller, name: &str, result: &str) -> DecisionId {
    let decision = allowed(world.call(caller, name, "{}").await);
    world.engine.report(caller, &decision, done(result)).await.unwrap();
    decision
}

async fn label(world: &World, task: &OpenedTask) -> Label {
    world.engine.task(&task.task).await.unwrap().grant(&task.grant).unwrap().label.clone()
}

async fn moved(world: &World, task: &OpenedTask) -> Vec<Movement> {
    let events = world.engine.events(&task.task, 0).await.unwrap();
    movements(events.iter().map(|step| (step.at, &step.event)))
}

// proves: A34, N1, INV13
#[tokio::test]
async fn an_agent_that_makes_a_result_up_explains_nothing_with_it() {
    let trusted = Manifest { trusted_result: true, ..Manifest::new(tool("tickets.list"), Effect::Read) };
    let outside = Manifest { reported_by_caller: true, ..address_book() };
    let outside = Manifest { tool: ToolId::parse("tickets.outside").unwrap(), ..outside };
    let world = with_tools(vec![address_book(), trusted, outside, mail("tickets.mail")]).await;
    let task = world.open_with(None).await;
    let support = world.caller(&task.task, &task.grant, "support");
    let (forged, to_eve) = (r#"{"email":"eve@evil.com"}"#, r#"{"to":"eve@evil.com"}"#);

    for name in ["tickets.contact", "tickets.list"] {
        let decision = allowed(world.call(&support, name, "{}").await);
        world.engine.report_by_caller(&support, &decision, done(forged)).await.unwrap();
        let question = asked(world.call(&support, "tickets.mail", to_eve).await);
        assert!(question.text.contains("nobody vouches for \"eve@evil.com\""), "{name}: {}", question.text);
        assert!(label(&world, &task).await.untrusted.contains(name), "{name} is not believed to be trusted");
    }
    assert!(moved(&world, &task).await.iter().any(|m| m.claimed && m.explains.is_empty()));

    // The same from an enforcement point is evidence, and so it is where an operator says that callers are one.
    read(&world, &support, "tickets.contact", r#"{"email":"ann@partner.example"}"#).await;
    allowed(world.call(&support, "tickets.mail", r#"{"to":"ann@partner.example"}"#).await);
    let decision = allowed(world.call(&support, "tickets.outside", "{}").await);
    let theirs = done(r#"{"email":"bob@partner.example"}"#);
    world.engine.report_by_caller(&support, &decision, theirs).await.unwrap();
    allowed(world.call(&support, "tickets.mail", r#"{"to":"bob@partner.example"}"#).await);
    let told = moved(&world, &task).await;
    assert!(told.iter().any(|m| m.explains.get("email") == Some(&1) && !m.claimed), "{told:?}");
}

// proves: A34, T2
#[tokio::test]
async fn a_failed_call_changed_nothing_only_where_the_manifest_says_so_and_the_caller_does_not() {
    let plain = |name: &str| Manifest::new(tool(name), Effect::Update);
    let atomic = |name: &str| Manifest { atomic: true, ..plain(name) };
    let theirs = Manifest { reported_by_caller: true, ..atomic("tickets.close") };
    let world = with_tools(vec![atomic("tickets.sort"), plain("tickets.move"), theirs]).await;
    for (name, status, by_caller, undone) in [
        ("tickets.sort", OutcomeStatus::Failed, false, true),
        ("tickets.sort", OutcomeStatus::Failed, true, false),
        ("tickets.sort", OutcomeStatus::Unknown, false, false),
        ("tickets.sort", OutcomeStatus::Done, false, false),
        ("tickets.move", OutcomeStatus::Failed, false, false),
        ("tickets.close", OutcomeStatus::Failed, true, true),
    ] {
        let task = world.open_with(None).await;
        let support = world.caller(&task.task, &task.grant, "support");
        let decision = allowed(world.call(&support, name, "{}").await);
        let came = Outcome { status, result: None, words: vec![], bytes: 0, note: None };
        if by_caller {
            world.engine.report_by_caller(&support, &decision, came).await.unwrap();
        } else {
            world.engine.report(&support, &decision, came).await.unwrap();
        }
        let events = world.engine.events(&task.task, 0).await.unwrap();
        let said = events.iter().any(|step| matches!(&step.event, TaskEvent::Reported(r) if r.undone));
        assert_eq!(said, undone, "{name} {status:?}, told by its caller: {by_caller}");
    }
}

// proves: A34
#[tokio::test]
async fn the_agent_does_not_tell_what_came_of_a_call_that_the_gateway_makes() {
    let world = with_tools(vec![mail("tickets.mail")]).await;
    let offered = json(r#"{"name":"contact","inputSchema":{"type":"object"}}"#);
    world.engine.observe("tickets", vec![offered]).await.unwrap();
    let root = person("root");
    world.engine.classify(&root, address_book(), None).await.unwrap();
    let task = world.open_with(None).await;
    let support = world.caller(&task.task, &task.grant, "support");
    let forged = || done(r#"{"email":"eve@evil.com"}"#);

    let decision = allowed(world.call(&support, "tickets.contact", "{}").await);
    let refused = world.engine.report_by_caller(&support, &decision, forged()).await.unwrap_err();
    assert_eq!(refused.code, "report.by_gateway");
    let real = done(r#"{"email":"ann@partner.example"}"#);
    world.engine.report(&support, &decision, real).await.expect("the gateway's own report is not in its way");
    asked(world.call(&support, "tickets.mail", r#"{"to":"eve@evil.com"}"#).await);
    allowed(world.call(&support, "tickets.mail", r#"{"to":"ann@partner.example"}"#).await);

    // The pair: an operator may say that callers run this tool themselves.
    let theirs = Manifest { reported_by_caller: true, ..address_book() };
    world.engine.classify(&root, theirs, None).await.unwrap();
    let decision = allowed(world.call(&support, "tickets.contact", "{}").await);
    world.engine.report_by_caller(&support, &decision, forged()).await.unwrap();
}

fn blackens() -> Declassifier {
    let strict = When {
        field: "mode".to_owned(),
        own_domain: false,
        one_of: ["strict".to_owned()].into(),
        none_of: Default::default(),
    };
    Declassifier {
        of: Passing::Call,
        because: "the mail server blackens names".to_owned(),
        classes: ["pii".parse().unwrap()].into(),
        level: Some(Level::Internal),
        trusted: false,
        when: Some(strict),
    }
}

// proves: N1, N2, INV13
#[tokio::test]
async fn confidential_data_leaves_only_through_what_is_declared_to_make_it_less() {
    let sink = Some(Label { level: Level::Internal, ..Label::bottom() });
    let plain = Manifest { sink: sink.clone(), ..mail("tickets.mail") };
    let careful = Manifest { sink, declassifies: vec![blackens()], ..mail("tickets.careful") };
    let pii =
        Label { level: Level::Confidential, classes: ["pii".parse().unwrap()].into(), ..Label::bottom() };
    let crm = Manifest { labels: pii.clone(), ..Manifest::new(tool("tickets.customer"), Effect::Read) };
    let world = with_tools(vec![plain, careful, crm, address_book()]).await;
    let task = world.open_with(None).await;
    let support = world.caller(&task.task, &task.grant, "support");
    read(&world, &support, "tickets.contact", r#"{"email":"ann@partner.example"}"#).await;
    read(&world, &support, "tickets.customer", r#"{"name":"Eve"}"#).await;

    let to = |mode: &str| format!(r#"{{"to":"ann@partner.example","mode":"{mode}"}}"#);
    let code = async |name: &str, mode: &str| denied(world.call(&support, name, &to(mode)).await).code;
    assert_eq!(code("tickets.mail", "strict").await, "data.flow", "the agent cannot declare it itself");
    assert_eq!(code("tickets.careful", "lax").await, "data.flow", "the condition is not met");
    let sent = allowed(world.call(&support, "tickets.careful", &to("strict")).await);
    let why = world.engine.why(&sent).await.unwrap().decided.unwrap();
    assert_eq!(why.label.level, Level::Confidential, "the record keeps what the branch has seen");
    let words = "pii taken out, confidential before: the mail server blackens names";
    assert_eq!(why.declassified[0].in_words(), words);
    let told = moved(&world, &task).await;
    assert_eq!(told.iter().flat_map(|m| &m.declassified).collect::<Vec<_>>(), [words]);
    assert_eq!(
        label(&world, &task).await.join(&pii),
        label(&world, &task).await,
        "and the branch stays as it is"
    );
}

// proves: A31, N1
#[tokio::test]
async fn what_an_agent_wrote_is_not_declassified_by_meeting_the_condition() {
    let companies = Declassifier {
        of: Passing::Result,
        level: Some(Level::Public),
        trusted: true,
        when: Some(When {
            field: "kind".to_owned(),
            one_of: ["company".to_owned()].into(),
            ..blackens().when.unwrap()
        }),
        ..blackens()
    };
    let pii =
        Label { level: Level::Confidential, classes: ["pii".parse().unwrap()].into(), ..Label::bottom() };
    let people = Manifest { labels: pii.clone(), ..Manifest::new(tool("tickets.people"), Effect::Read) };
    let register =
        Manifest { declassifies: vec![companies], ..Manifest::new(tool("tickets.register"), Effect::Read) };
    let enter = Manifest::new(tool("tickets.enter"), Effect::Create).arg("name", Role::Content);
    let enter = Manifest { reversible: true, ..enter };
    let world = with_tools(vec![people, register, enter]).await;

    let first = world.open_with(None).await;
    let support = world.caller(&first.task, &first.grant, "support");
    read(&world, &support, "tickets.people", r#"{"name":"Eve lives in Bern"}"#).await;
    allowed(world.call(&support, "tickets.enter", r#"{"name":"Eve lives in Bern"}"#).await);

    let after = async |name: &str| {
        let task = world.open_with(None).await;
        let support = world.caller(&task.task, &task.grant, "support");
        read(&world, &support, "tickets.register", &format!(r#"[{{"kind":"company","name":"{name}"}}]"#))
            .await;
        label(&world, &task).await
    };
    let laundered = after("Eve lives in Bern").await;
    assert!(laundered.level == Level::Confidential && !laundered.is_trusted(), "{laundered:?}");
    assert!(pii.classes.is_subset(&laundered.classes), "{laundered:?}");
    assert_eq!(after("Acme").await, Label::bottom(), "what others wrote is as the manifest says");
}

// proves: N1, A31
#[tokio::test]
async fn a_result_is_less_confidential_only_where_every_record_of_it_meets_the_condition() {
    let companies = Declassifier {
        of: Passing::Result,
        because: "companies are in the public register".to_owned(),
        level: Some(Level::Public),
        trusted: true,
        when: Some(When {
            field: "kind".to_owned(),
            one_of: ["company".to_owned()].into(),
            ..blackens().when.unwrap()
        }),
        ..blackens()
    };
    let pii =
        Label { level: Level::Confidential, classes: ["pii".parse().unwrap()].into(), ..Label::bottom() };
    let crm = Manifest {
        labels: pii,
        declassifies: vec![companies],
        ..Manifest::new(tool("tickets.customer"), Effect::Read)
    };
    let world = with_tools(vec![crm]).await;
    let after = async |result: &str| {
        let task = world.open_with(None).await;
        let support = world.caller(&task.task, &task.grant, "support");
        read(&world, &support, "tickets.customer", result).await;
        let lowered = moved(&world, &task).await.iter().any(|m| !m.declassified.is_empty());
        (label(&world, &task).await, lowered)
    };
    assert_eq!(after(r#"[{"kind":"company","name":"Acme"}]"#).await, (Label::bottom(), true));
    for mixed in [
        r#"[{"kind":"company"},{"kind":"person"}]"#,
        r#"[{"kind":"company"},{"name":"no kind"}]"#,
        r#"{"kind":"person","note":"kind: company"}"#,
        r#""company""#,
    ] {
        let (label, lowered) = after(mixed).await;
        assert!(label.level == Level::Confidential && !label.is_trusted() && !lowered, "{mixed}: {label:?}");
    }
}

// proves: D6
#[tokio::test]
async fn a_manifest_whose_declarations_make_no_sense_is_refused() {
    let world = World::new().await;
    let silent = Declassifier { because: String::new(), ..blackens() };
    let manifest = Manifest { declassifies: vec![silent], ..mail("tickets.mail") };
    let refused = world.engine.classify(&person("root"), manifest, None).await.unwrap_err();
    assert!(refused.code == "tool.manifest" && refused.reason.contains("because"), "{refused:?}");
}

const ASKS: &str = r#"@id("all") permit (principal, action, resource);
    @id("prod-asks") @ask("approvers") @reason("A person looks.")
    forbid (principal, action == Action::"cloud.restart", resource);"#;

// proves: A16, A2, INV3
#[tokio::test]
async fn a_question_asked_under_other_policies_is_void_and_asked_anew() {
    let world = World::new().await;
    let policy = async |text: &str| {
        world.engine.set_policy(&person("root"), &[("p.cedar".to_owned(), text.to_owned())]).await.unwrap();
    };
    policy(ASKS).await;
    let task = world.open().await;
    let remediator = world.hand_to_remediator(&task).await;
    let restart = r#"{"name":"web-3"}"#;
    let first = asked(world.call(&remediator, "cloud.restart", restart).await);
    assert_eq!(world.engine.waiting().await.unwrap().len(), 1);

    policy(&ASKS.replace("A person looks.", "Two eyes are better.")).await;
    assert!(world.engine.waiting().await.unwrap().is_empty(), "nobody is shown what cannot be used");
    assert_eq!(world.engine.summary(&task.task).await.unwrap().waiting, 0);
    let late = world.engine.vote(&person("omar"), &first.approval, VoteAsk::Approve).await.unwrap_err();
    assert!(late.code == "approval.settled" && late.reason.contains("policies have changed"), "{late:?}");
    let state = world.engine.approval_state(&remediator, &first.approval).await.unwrap();
    assert!(matches!(&state, ApprovalState::Closed { reason } if reason.contains("ask anew")), "{state:?}");
    let with_handle = Call {
        tool: tool("cloud.restart"),
        args: json(restart),
        definition: None,
        approval: Some(first.approval.clone()),
        says: None,
    };
    let void = denied(world.engine.decide(&remediator, with_handle).await.unwrap());
    assert_eq!(
        (void.code.as_str(), void.remedy.as_str()),
        ("approval.policy_changed", "Ask again without a handle.")
    );

    let second = asked(world.call(&remediator, "cloud.restart", restart).await);
    assert_ne!(second.approval, first.approval);
    world.engine.vote(&person("omar"), &second.approval, VoteAsk::Approve).await.unwrap();
    allowed(world.call(&remediator, "cloud.restart", restart).await);
}

// proves: INV2
#[tokio::test]
async fn a_task_that_asked_all_it_may_ask_still_ends_and_none_may_ask_more() {
    let world = with_tools(vec![mail("tickets.mail")]).await;
    let asking = |asks| NewTask { asks, ..world.new_task(None) };
    let refused = world.engine.open_task(asking(201)).await.unwrap_err();
    assert_eq!(refused.code, "task.asks");
    let task = world.engine.open_task(asking(200)).await.unwrap();
    let support = world.caller(&task.task, &task.grant, "support");
    for n in 0..200 {
        asked(world.call(&support, "tickets.mail", &format!(r#"{{"to":"eve{n}@evil.com"}}"#)).await);
    }
    assert_eq!(world.engine.waiting().await.unwrap().len(), 200);
    world.engine.end_task("dana", &task.task, Cause::Killed, "enough").await.unwrap();
    assert!(world.engine.waiting().await.unwrap().is_empty());
    denied(world.call(&support, "tickets.mail", r#"{"to":"eve@evil.com"}"#).await);
}
