//! What it costs to know who calls: token and proof of possession, beside the bare signatures inside them.

use std::hint::black_box;
use std::time::{SystemTime, UNIX_EPOCH};

use bailiwick_token::{
    Actor, Claims, Confirmation, Digest, Jwks, KeyAlgorithm, Mint, ReplayWindow, Request, SignatureCache,
    SigningKey, SpiffeId, TaskAuthorization, TaskContext, Verifier, dpop, random_id,
};

use super::decision::take;
use super::rounds::{each, rotate};
use super::{Effort, Goal, Line};

const HERE: &str = "http://127.0.0.1:7777/mcp";
/// Requests in one figure.
const CALLS: usize = 64;

/// Measures and compares.
pub(crate) fn measure(effort: Effort) -> anyhow::Result<Vec<Line>> {
    let agent = SigningKey::generate(KeyAlgorithm::Ed25519)?;
    let mint = Mint::new("http://127.0.0.1:7777", SigningKey::generate(KeyAlgorithm::Ed25519)?);
    let verifier = Verifier::new(mint.issuer(), HERE, &Jwks::new([mint.public().clone()]));
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let token = mint.mint(&claims(&mint, &agent, now)?, now + 120)?;
    let signature = agent.sign(token.as_bytes())?;
    let (mut wrong, mut cache, mut window) =
        (0, SignatureCache::new(16), ReplayWindow::new(1 << 20, 1 << 20));
    let (mut window_seen, mut wrong_seen) = (ReplayWindow::new(1 << 20, 1 << 20), 0);
    let figures = rotate(
        effort.rounds_short,
        &mut [
            &mut || {
                each(CALLS, || {
                    let good = agent.public().verify(black_box(token.as_bytes()), black_box(&signature));
                    assert!(good, "the signature is good");
                })
            },
            &mut || {
                let mut proofs = proofs(&agent, &token, now).into_iter();
                each(CALLS, || {
                    let request = Request { htm: "POST", htu: HERE, nonce: None, now_secs: now };
                    let known = verifier.verify(black_box(&token), now).and_then(|verified| {
                        verified.proven_by_dpop(&proofs.next().unwrap_or_default(), &request)
                    });
                    wrong += usize::from(!admitted(&mut window, known.as_ref().ok(), now));
                })
            },
            &mut || {
                let mut proofs = proofs(&agent, &token, now).into_iter();
                each(CALLS, || {
                    let request = Request { htm: "POST", htu: HERE, nonce: None, now_secs: now };
                    let known =
                        verifier.verify_cached(&mut cache, black_box(&token), now).and_then(|verified| {
                            verified.proven_by_dpop(&proofs.next().unwrap_or_default(), &request)
                        });
                    wrong_seen += usize::from(!admitted(&mut window_seen, known.as_ref().ok(), now));
                })
            },
        ],
    );
    anyhow::ensure!(wrong + wrong_seen == 0, "{wrong} and {wrong_seen} good callers were turned away");
    let [raw, first, again] = take(figures)?;
    let line = |id: &str, what: &str| {
        Line::new(id, what, "µs").floor("one bare Ed25519 verification", raw.median() / 1e3)
    };
    Ok(vec![
        line("token.first", "caller proven, token seen for the first time")
            .product(first.median() / 1e3)
            .goal(first.over(&raw), Goal::AtMost(2.2), "x one verification (two are needed)"),
        line("token.again", "caller proven, token seen before").product(again.median() / 1e3).goal(
            again.over(&raw),
            Goal::AtMost(1.15),
            "x one verification",
        ),
    ])
}

fn admitted(window: &mut ReplayWindow, caller: Option<&bailiwick_token::Caller>, now: u64) -> bool {
    caller.and_then(|c| c.proof_id()).is_some_and(|id| window.admit(id, now).is_ok())
}

/// Fresh proofs for one figure; one that cannot be made is refused by the check and counted there.
fn proofs(agent: &SigningKey, token: &str, now: u64) -> Vec<String> {
    let proof = |_| proof(agent, HERE, token, now).unwrap_or_default();
    (0..CALLS).map(proof).collect()
}

/// A proof of possession for one POST.
pub(super) fn proof(agent: &SigningKey, url: &str, token: &str, now: u64) -> anyhow::Result<String> {
    Ok(dpop::prove(agent, "POST", url, Some(token), None, now, &random_id()?)?)
}

fn claims(mint: &Mint, agent: &SigningKey, now: u64) -> anyhow::Result<Claims> {
    let worker = SpiffeId::parse("spiffe://example.org/agent/worker-1")?;
    Ok(Claims {
        iss: mint.issuer().to_owned(),
        aud: HERE.to_owned(),
        exp: now + 120,
        iat: now,
        nbf: now,
        jti: random_id()?,
        client_id: worker.to_string(),
        sub: "dana@example.org".to_owned(),
        act: Actor::first(mint.issuer(), worker),
        cnf: Confirmation::Jkt(agent.public().jkt()),
        authorization_details: vec![TaskAuthorization::new(vec![])],
        txn: "t-1".to_owned(),
        tctx: TaskContext { intent: Digest::of(b"i"), chain: Digest::of(b"c"), policy: Digest::of(b"p") },
        del_depth: 0,
        del_max_depth: 0,
        par_hash: None,
        grant: "g-1-0".to_owned(),
        tenant: "acme".to_owned(),
        taint: vec![],
    })
}
