//! A compiled set of policies: parsed, named, validated, filed, and ready to judge.
//!
//! What holds beyond Cedar:
//! - INV6: an error in any rule that can apply is an error of the whole verdict. Cedar would skip the rule, and
//!   a skipped `forbid` forbids nothing.
//! - No permit means forbidden (`no-permit`); so does an empty set.
//! - Rules marked `@ask` forbid until enough people have said yes, then they are lifted; the answer is *ask* only
//!   if every forbid in the way carries `@ask` and a permit stands behind it.
//! - INV5: the verdict depends on the facts and the texts, not on the order of texts, rules or maps.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use bailiwick_core::agent::APPROVERS;
use bailiwick_core::approval::AskTerms;
use bailiwick_core::event::Ruled;
use bailiwick_core::ids::GroupId;
use bailiwick_core::value::Digest;
use bailiwick_core::verdict::{Facts, Observed, Policy as JudgesFacts, Verdict};
use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    AuthorizationError, Authorizer, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator,
};

use crate::diff::Change;
use crate::errors::{PolicyError, PolicyErrors, did_you_mean};
use crate::index::{Bucket, Index};
use crate::needs::Needs;
use crate::request::{Prepared, Vocabulary};
use crate::rule::{Ask, Rule};
use crate::schema::SchemaInputs;
use crate::source::{self, POLICIES_MAX, Source};

/// The rule named when nothing permits.
pub const NO_PERMIT: &str = "no-permit";
/// How far an entity's attributes may be followed in a condition: those of the act itself are all there are.
const DEREF_MAX: u32 = 1;
/// Stack of the thread that validates.
const VALIDATION_STACK_BYTES: usize = 64 << 20;

/// A set in one version. It never changes what it says; share it behind an `Arc`.
#[derive(Debug)]
pub struct CompiledSet {
    rules: Vec<Rule>,
    by_id: BTreeMap<String, usize>,
    index: Index,
    vocabulary: Vocabulary,
    authorizer: Authorizer,
    version: Digest,
    warnings: Vec<PolicyError>,
    schema: String,
    observes: bool,
}

/// What the rules that can apply say to one act.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Positions of all rules that were looked at.
    pub(crate) considered: BTreeSet<usize>,
    /// Ids of the permits that apply.
    pub(crate) permits: BTreeSet<String>,
    /// Ids of the forbids that apply.
    pub(crate) forbids: BTreeSet<String>,
    /// Ids of the rules that failed, and how.
    pub(crate) errors: BTreeMap<String, String>,
}

/// Compiles policy texts against a schema. All errors are reported together, each with its place.
pub fn compile(sources: &[Source], inputs: &SchemaInputs) -> Result<CompiledSet, PolicyErrors> {
    source::check_caps(sources)?;
    let version = source::version(sources);
    let mut sources: Vec<&Source> = sources.iter().collect();
    sources.sort();
    let parsed = parse_all(&sources)?;
    let schema = inputs.to_cedar();
    let warnings = validate(&parsed, &schema, inputs)?;
    let vocabulary = Vocabulary::new(inputs).map_err(broken)?;
    let mut index = Index::default();
    for (position, (rule, policy)) in parsed.iter().enumerate() {
        index.file(position, rule.class.as_ref().map(|c| c.as_str()), policy).map_err(broken)?;
    }
    let rules: Vec<Rule> = parsed.into_iter().map(|(rule, _)| rule).collect();
    let observes = rules.iter().any(|rule| rule.observe);
    let by_id = rules.iter().enumerate().map(|(n, rule)| (rule.id.clone(), n)).collect();
    Ok(CompiledSet {
        rules,
        by_id,
        index,
        vocabulary,
        authorizer: Authorizer::new(),
        version,
        warnings,
        schema,
        observes,
    })
}

impl CompiledSet {
    /// All rules, ordered by source and line.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
    /// A rule by its name.
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.by_id.get(id).and_then(|n| self.rules.get(*n))
    }
    /// What is not wrong but odd: rules that can never apply, agents nobody registered.
    pub fn warnings(&self) -> &[PolicyError] {
        &self.warnings
    }
    /// The schema the set was validated against, as people read it.
    pub fn schema(&self) -> &str {
        &self.schema
    }
    /// Every rule as Cedar has it, by its name.
    pub(crate) fn policies(&self) -> BTreeMap<String, Policy> {
        let sets = self.index.all().flat_map(|bucket| [&bucket.permits, &bucket.forbids]);
        sets.flat_map(PolicySet::policies).map(|policy| (policy.id().to_string(), policy.clone())).collect()
    }
    /// The rules an act is held against. The error says why it cannot be judged.
    pub fn considered(&self, facts: &Facts<'_>) -> Result<Vec<&Rule>, String> {
        let seen = self.vocabulary.see(facts)?;
        let positions: BTreeSet<usize> =
            self.index.find(&seen.names).iter().flat_map(|b| b.rules.clone()).collect();
        Ok(positions.into_iter().filter_map(|n| self.rules.get(n)).collect())
    }

    /// Holds the act against every rule that can apply.
    pub(crate) fn find(&self, facts: &Facts<'_>) -> Result<Findings, String> {
        let seen = self.vocabulary.see(facts)?;
        let buckets = self.index.find(&seen.names);
        let needs = buckets.iter().map(|bucket| bucket.needs).fold(Needs::default(), Needs::and);
        let prepared = self.vocabulary.prepare(facts, seen, needs)?;
        let mut findings = Findings::default();
        for bucket in buckets {
            findings.considered.extend(&bucket.rules);
            self.weigh(bucket, &prepared, &mut findings);
        }
        Ok(findings)
    }

    /// Permits and forbids apart, because Cedar names no permits where a forbid applies.
    fn weigh(&self, bucket: &Bucket, prepared: &Prepared, findings: &mut Findings) {
        for (set, applying) in
            [(&bucket.forbids, &mut findings.forbids), (&bucket.permits, &mut findings.permits)]
        {
            if set.is_empty() {
                continue;
            }
            let response = self.authorizer.is_authorized(&prepared.request, set, &prepared.entities);
            let diagnostics = response.diagnostics();
            applying.extend(diagnostics.reason().map(ToString::to_string));
            for AuthorizationError::PolicyEvaluationError(e) in diagnostics.errors() {
                findings.errors.insert(e.policy_id().to_string(), one_line(&e.inner().to_string()));
            }
        }
    }

    /// An act with the whole context, as rules see it.
    #[cfg(test)]
    pub(crate) fn in_cedars_terms(&self, facts: &Facts<'_>) -> Result<Prepared, String> {
        self.vocabulary.prepare(facts, self.vocabulary.see(facts)?, Needs::ALL)
    }

    /// The same without the index and with the whole context, for comparison.
    #[cfg(test)]
    pub(crate) fn find_in_all(&self, facts: &Facts<'_>) -> Result<Findings, String> {
        let prepared = self.vocabulary.prepare(facts, self.vocabulary.see(facts)?, Needs::ALL)?;
        let mut findings = Findings::default();
        for bucket in self.index.all() {
            let speaks = |n: &&usize| self.rules[**n].class.as_ref().is_none_or(|c| *c == facts.agent.class);
            // Rules filed together have the same class.
            if bucket.rules.first().as_ref().is_some_and(speaks) {
                self.weigh(bucket, &prepared, &mut findings);
            }
        }
        Ok(findings)
    }

    /// What was found of the rules that are enforced.
    pub(crate) fn enforced(&self, findings: &Findings) -> Findings {
        let holds = |id: &String| self.rule(id).is_none_or(|rule| !rule.observe);
        Findings {
            considered: findings.considered.clone(),
            permits: findings.permits.iter().filter(|id| holds(id)).cloned().collect(),
            forbids: findings.forbids.iter().filter(|id| holds(id)).cloned().collect(),
            errors: findings
                .errors
                .iter()
                .filter(|(id, _)| holds(id))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
        }
    }

    /// The rules that are only observed.
    pub fn observed(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.observe)
    }

    /// The verdict that follows from what was found, whether it is enforced or not.
    pub(crate) fn conclude(&self, facts: &Facts<'_>, findings: &Findings) -> Verdict {
        if let Some((id, error)) = findings.errors.iter().next() {
            return Verdict::Error { reason: format!("rule `{id}`: {error}") };
        }
        let standing: Vec<&Rule> = findings
            .forbids
            .iter()
            .filter_map(|id| self.rule(id))
            .filter(|rule| !is_lifted(rule, facts))
            .collect();
        if let Some(plain) = standing.iter().find(|rule| rule.ask.is_none()) {
            return Verdict::Forbid { rule: plain.id.clone(), reason: plain.why() };
        }
        if findings.permits.is_empty() {
            let reason = "no rule permits this".to_owned();
            return Verdict::Forbid { rule: NO_PERMIT.to_owned(), reason };
        }
        if standing.is_empty() {
            return Verdict::Permit { rules: findings.permits.iter().cloned().collect() };
        }
        question(&standing)
    }
}

impl JudgesFacts for CompiledSet {
    fn evaluate(&self, facts: &Facts<'_>) -> Verdict {
        match self.find(facts) {
            Ok(findings) if !self.observes => self.conclude(facts, &findings),
            Ok(findings) => self.conclude(facts, &self.enforced(&findings)),
            Err(reason) => Verdict::Error { reason: one_line(&reason) },
        }
    }
    fn observe(&self, facts: &Facts<'_>) -> Option<Observed> {
        if !self.observes {
            return None;
        }
        let all = self.find(facts).ok()?;
        let (is, would) = (self.conclude(facts, &self.enforced(&all)), self.conclude(facts, &all));
        let (ruled, reason) = match &would {
            Verdict::Permit { rules } => (Ruled::Allow, format!("permitted by {}", rules.join(", "))),
            Verdict::Ask { reason, .. } => (Ruled::Ask, reason.clone()),
            Verdict::Forbid { reason, .. } | Verdict::Error { reason } => (Ruled::Deny, reason.clone()),
        };
        let applies = all.permits.iter().chain(&all.forbids).chain(all.errors.keys());
        let rules = applies.filter(|id| self.rule(id).is_some_and(|r| r.observe)).cloned().collect();
        (Change::between(&is, &would).is_some()).then_some(Observed { rules, would: ruled, reason })
    }
    fn version(&self) -> Digest {
        self.version
    }
}

/// Whether enough people have said yes for this rule to step aside.
pub(crate) fn is_lifted(rule: &Rule, facts: &Facts<'_>) -> bool {
    match (&rule.ask, &facts.approval) {
        (Some(ask), Some(approval)) => ask.is_lifted(approval, facts.initiator),
        _ => false,
    }
}

/// One question for all rules that ask: the largest quorum, the shortest life, the initiator only if all let
/// them. Rules that insist on different groups cannot be answered by one question, so the answer is no.
fn question(asking: &[&Rule]) -> Verdict {
    let asks: Vec<(&Rule, &Ask)> =
        asking.iter().filter_map(|rule| Some((*rule, rule.ask.as_ref()?))).collect();
    let named: BTreeMap<&GroupId, &Rule> =
        asks.iter().rev().filter_map(|(rule, ask)| Some((ask.group.as_ref()?, *rule))).collect();
    let first = named.values().copied().min_by_key(|r| &r.id).or(asks.first().map(|(rule, _)| *rule));
    let Some(first) = first else {
        return Verdict::Error { reason: "a question without a rule".to_owned() };
    };
    if named.len() > 1 {
        let groups: Vec<&str> = named.keys().map(|g| g.as_str()).collect();
        let reason =
            format!("rules ask different groups ({}), and one question reaches only one", groups.join(", "));
        return Verdict::Forbid { rule: first.id.clone(), reason };
    }
    let Ok(group) = named.keys().next().map_or_else(|| GroupId::parse(APPROVERS), |g| Ok((*g).clone()))
    else {
        return Verdict::Error { reason: "a question without a group".to_owned() };
    };
    let terms = AskTerms {
        group,
        quorum: asks.iter().map(|(_, ask)| ask.quorum).max().unwrap_or(1),
        initiator_may: asks.iter().all(|(_, ask)| ask.initiator_may),
        ttl_ms: asks.iter().map(|(_, ask)| ask.ttl_ms).min().unwrap_or(0),
    };
    let mut reasons: Vec<String> = vec![first.why()];
    for reason in asks.iter().map(|(rule, _)| rule.why()) {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    Verdict::Ask { rule: first.id.clone(), reason: reasons.join(" "), terms }
}

/// The names of the rules in these texts that are only observed; none if the texts cannot be read.
pub fn observed_rules(sources: &[Source]) -> Vec<String> {
    let sources: Vec<&Source> = sources.iter().collect();
    let rules = parse_all(&sources).unwrap_or_default().into_iter().map(|(rule, _)| rule);
    rules.filter(|rule| rule.observe).map(|rule| rule.id).collect()
}

type Parsed = Vec<(Rule, Policy)>;

fn parse_all(sources: &[&Source]) -> Result<Parsed, PolicyErrors> {
    let (mut parsed, mut errors): (Parsed, Vec<PolicyError>) = (Vec::new(), Vec::new());
    for source in sources {
        match parse(source) {
            Ok(policies) => read(source, &policies, &mut parsed, &mut errors),
            Err(problems) => errors.extend(problems),
        }
        if parsed.len() > POLICIES_MAX {
            let what = format!("more than {POLICIES_MAX} policies");
            let help = "Fold rules that differ only in names into one";
            return Err(PolicyError::new("policy.too_many", &source.name, what, help).into());
        }
    }
    errors.extend(repeated(&parsed));
    errors.extend(sources.windows(2).filter_map(|pair| match pair {
        [a, b] if a.name == b.name => Some(PolicyError::new(
            "policy.source_repeated",
            &a.name,
            "two sources of this name",
            "Rename one",
        )),
        _ => None,
    }));
    if errors.is_empty() { Ok(parsed) } else { Err(PolicyErrors(errors)) }
}

/// The policies of one source in their order, each with its line.
fn parse(source: &Source) -> Result<Vec<(Policy, usize)>, Vec<PolicyError>> {
    let set = PolicySet::from_str(&source.text).map_err(|e| syntax(source, &DetailedError::from(&e)))?;
    if let Some(template) = set.templates().next() {
        let what = format!("a template ({})", one_line(&template.to_string()));
        let error =
            PolicyError::new("policy.template", &source.name, what, "Name the agent or the resource itself");
        return Err(vec![error]);
    }
    let mut policies: Vec<&Policy> = set.policies().collect();
    // Cedar numbers them in the order of the text: policy0, policy1 …
    policies.sort_by_key(|p| {
        p.id().to_string().trim_start_matches("policy").parse::<usize>().unwrap_or(usize::MAX)
    });
    let (mut from, mut line) = (0, 1);
    let placed = policies.into_iter().map(|policy| {
        let text = policy.to_cedar().unwrap_or_default();
        let at =
            source.text.get(from..).and_then(|rest| rest.find(&text)).map_or(from, |offset| from + offset);
        line += newlines(source.text.get(from..at));
        let begins = line;
        from = at + text.len();
        line += newlines(Some(&text));
        (policy.clone(), begins)
    });
    Ok(placed.collect())
}

fn newlines(text: Option<&str>) -> usize {
    text.map_or(0, |t| t.matches('\n').count())
}

fn read(source: &Source, policies: &[(Policy, usize)], parsed: &mut Parsed, errors: &mut Vec<PolicyError>) {
    for (policy, line) in policies {
        match Rule::read(policy, source, *line) {
            Ok(rule) => {
                let named = policy.new_id(PolicyId::new(&rule.id));
                parsed.push((rule, named));
            }
            Err(error) => errors.push(error),
        }
    }
}

fn repeated(parsed: &Parsed) -> Vec<PolicyError> {
    let mut seen: BTreeMap<&str, &Rule> = BTreeMap::new();
    let mut errors = Vec::new();
    for (rule, _) in parsed {
        if let Some(first) = seen.insert(&rule.id, rule) {
            let what = format!("the same name as the policy at {}:{}", first.file, first.line);
            let error = PolicyError::new(
                "policy.id_repeated",
                &rule.file,
                what,
                "Names are unique in a set; rename one",
            );
            errors.push(error.at(rule.line).of(&rule.id));
        }
    }
    errors
}

fn syntax(source: &Source, error: &DetailedError) -> Vec<PolicyError> {
    let place = error.source_locations.first().map(|label| source.line(label.loc.start));
    let help = error.help.clone().or_else(|| error.source_locations.first().and_then(|l| l.label.clone()));
    let own =
        PolicyError::new("policy.syntax", &source.name, one_line(&error.message), help.unwrap_or_default());
    let own = match place {
        Some(line) => own.at(line),
        None => own,
    };
    let related = error.related.iter().flat_map(|related| syntax(source, related));
    std::iter::once(own).chain(related).collect()
}

/// Strict validation; gives the warnings.
fn validate(parsed: &Parsed, schema: &str, inputs: &SchemaInputs) -> Result<Vec<PolicyError>, PolicyErrors> {
    let schema = Schema::from_str(schema).map_err(|e| broken(e.to_string()))?;
    let set = PolicySet::from_policies(parsed.iter().map(|(_, policy)| policy.clone()))
        .map_err(|e| broken(e.to_string()))?;
    let rules: BTreeMap<&str, &Rule> = parsed.iter().map(|(rule, _)| (rule.id.as_str(), rule)).collect();
    let result = on_a_deep_stack(|| {
        Validator::new(schema).validate_with_level(&set, ValidationMode::Strict, DEREF_MAX)
    })?;
    let place = |id: &PolicyId, code, message: String, help: String| {
        let id = id.to_string();
        let rule = rules.get(id.as_str());
        let file = rule.map_or("policies", |r| r.file.as_str());
        let error = PolicyError::new(code, file, one_line(&message), help).of(&id);
        match rule {
            Some(rule) => error.at(rule.line),
            None => error,
        }
    };
    let mut errors: Vec<PolicyError> = result
        .validation_errors()
        .map(|e| {
            let detail = DetailedError::from(e);
            place(e.policy_id(), "policy.invalid", detail.message, advice(detail.help, e, inputs))
        })
        .collect();
    if !errors.is_empty() {
        errors.sort_by(|a, b| (&a.file, a.line, &a.what).cmp(&(&b.file, b.line, &b.what)));
        errors.dedup();
        return Err(PolicyErrors(errors));
    }
    let mut warnings: Vec<PolicyError> = result
        .validation_warnings()
        .map(|w| {
            let detail = DetailedError::from(w);
            place(w.policy_id(), "policy.odd", detail.message, detail.help.unwrap_or_default())
        })
        .collect();
    warnings.extend(strangers(parsed, inputs));
    warnings.sort_by(|a, b| (&a.file, a.line, &a.what).cmp(&(&b.file, b.line, &b.what)));
    Ok(warnings)
}

/// Cedar's validator passes what it has no stack left to check, so it gets more than the caps let it use.
fn on_a_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, PolicyErrors> {
    let gone = |what: &str| broken(format!("validation did not finish: {what}"));
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(VALIDATION_STACK_BYTES).spawn_scoped(scope, work);
        thread.map_err(|e| gone(&e.to_string()))?.join().map_err(|_| gone("it stopped"))
    })
}

/// Cedar's help, or the nearest thing that exists.
fn advice(help: Option<String>, error: &cedar_policy::ValidationError, inputs: &SchemaInputs) -> String {
    use cedar_policy::ValidationError as E;
    match (help, error) {
        (Some(help), _) => help,
        (None, E::UnrecognizedActionId(_)) => {
            "See `bailiwick policy schema` for the actions that exist".to_owned()
        }
        (None, E::UnrecognizedEntityType(_)) => {
            format!("Types: Agent, Class, Person, Task, {}", inputs.kinds.keys().cloned().collect::<Vec<_>>().join(", "))
        }
        (None, E::UnsafeOptionalAttributeAccess(_)) => "Test with `has` first".to_owned(),
        (None, E::UnsafeAttributeAccess(_)) => {
            "It is not there for every action this policy speaks about; narrow the action, or see `bailiwick policy schema`".to_owned()
        }
        _ => "See `bailiwick policy schema` for what policies can speak about".to_owned(),
    }
}

/// Agents and classes that a policy names and nobody registered: usually a slip of the pen.
fn strangers(parsed: &Parsed, inputs: &SchemaInputs) -> Vec<PolicyError> {
    let mut odd = Vec::new();
    for (rule, policy) in parsed {
        for uid in policy.entity_literals() {
            let known = match uid.type_name().to_string().as_str() {
                "Agent" => &inputs.agents,
                "Class" => &inputs.classes,
                _ => continue,
            };
            let name = uid.id().unescaped();
            if !known.contains(name) {
                let what = format!("{uid} is not registered");
                let help = did_you_mean(name, known.iter().map(String::as_str));
                odd.push(
                    PolicyError::new("policy.stranger", &rule.file, what, help).at(rule.line).of(&rule.id),
                );
            }
        }
    }
    odd
}

fn broken(what: String) -> PolicyErrors {
    PolicyError::new(
        "policy.internal",
        "policies",
        one_line(&what),
        "This is a fault of bailiwick; please report it",
    )
    .into()
}

/// One line of at most 300 characters, without controls.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

/// Stands in for a set that could not be compiled: denies everything, saying why.
#[derive(Debug, Clone)]
pub struct Unusable {
    reason: String,
    version: Digest,
}

impl Unusable {
    /// For texts that do not compile any more, for instance since a tool was reclassified.
    pub fn new(sources: &[Source], errors: &PolicyErrors) -> Self {
        let first = errors.0.first().map(ToString::to_string).unwrap_or_default();
        Unusable {
            reason: one_line(&format!("the policy set does not compile: {first}")),
            version: source::version(sources),
        }
    }
}

impl JudgesFacts for Unusable {
    fn evaluate(&self, _: &Facts<'_>) -> Verdict {
        Verdict::Error { reason: self.reason.clone() }
    }
    fn version(&self) -> Digest {
        self.version
    }
}
