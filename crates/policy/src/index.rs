//! Which rules can apply to an act, found without looking at the others.
//!
//! A rule is filed under what its head names: class, principal, action, resource, each possibly *any*. An act
//! has a handful of names in each place (itself, what it is in), and a rule whose head matches is filed under
//! one of their combinations. So the cost of a decision follows the rules that can apply, not the whole set.

use std::collections::HashMap;

use cedar_policy::{
    ActionConstraint, Effect, EntityTypeName, EntityUid, Policy, PolicySet, PrincipalConstraint,
    ResourceConstraint,
};

use crate::needs::Needs;

/// What one place of a head names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    Class(String),
    Entity(EntityUid),
    Type(EntityTypeName),
}

/// The number of a name; 0 is *any*.
type Number = u32;
const ANY: Number = 0;

/// Class, principal, action, resource.
type Place = [Number; 4];

/// Rules that are filed under the same names.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    pub(crate) permits: PolicySet,
    pub(crate) forbids: PolicySet,
    /// Positions of the rules in the set.
    pub(crate) rules: Vec<usize>,
    /// What they speak of.
    pub(crate) needs: Needs,
}

/// The names an act answers to, apart from *any*.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) class: [Name; 1],
    pub(crate) principal: [Name; 2],
    pub(crate) action: Vec<Name>,
    pub(crate) resource: [Name; 3],
}

/// All rules, filed.
#[derive(Debug, Default)]
pub(crate) struct Index {
    numbers: HashMap<Name, Number>,
    buckets: HashMap<Place, Bucket>,
}

impl Index {
    /// Files one rule. Fails only if two rules have the same id.
    pub(crate) fn file(
        &mut self,
        position: usize,
        class: Option<&str>,
        policy: &Policy,
    ) -> Result<(), String> {
        let class = self.number(class.map(|c| Name::Class(c.to_owned())));
        let principal = self.number(principal(policy));
        let resource = self.number(resource(policy));
        let needs = Needs::of(policy);
        for action in actions(policy) {
            let place = [class, principal, self.number(action), resource];
            let bucket = self.buckets.entry(place).or_default();
            if bucket.rules.last() == Some(&position) {
                continue;
            }
            bucket.rules.push(position);
            bucket.needs = bucket.needs.and(needs);
            let set = match policy.effect() {
                Effect::Permit => &mut bucket.permits,
                Effect::Forbid => &mut bucket.forbids,
            };
            set.add(policy.clone()).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// The buckets whose rules can apply.
    pub(crate) fn find(&self, names: &Names) -> Vec<&Bucket> {
        let classes = self.numbers_of(&names.class);
        let principals = self.numbers_of(&names.principal);
        let actions = self.numbers_of(&names.action);
        let resources = self.numbers_of(&names.resource);
        let mut found = Vec::new();
        for class in &classes {
            for principal in &principals {
                for action in &actions {
                    for resource in &resources {
                        found.extend(self.buckets.get(&[*class, *principal, *action, *resource]));
                    }
                }
            }
        }
        found
    }

    /// Every bucket.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Bucket> {
        self.buckets.values()
    }

    fn number(&mut self, name: Option<Name>) -> Number {
        let Some(name) = name else { return ANY };
        // More than 2^32 names cannot come from a text that is capped far below that.
        let next = Number::try_from(self.numbers.len() + 1).unwrap_or(Number::MAX);
        *self.numbers.entry(name).or_insert(next)
    }

    fn numbers_of(&self, names: &[Name]) -> Vec<Number> {
        let mut numbers: Vec<Number> = names.iter().filter_map(|n| self.numbers.get(n).copied()).collect();
        numbers.push(ANY);
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

fn principal(policy: &Policy) -> Option<Name> {
    match policy.principal_constraint() {
        // Every principal is an agent, so a type names nobody in particular.
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        PrincipalConstraint::Eq(uid) | PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => {
            Some(Name::Entity(uid))
        }
    }
}

fn resource(policy: &Policy) -> Option<Name> {
    match policy.resource_constraint() {
        ResourceConstraint::Any => None,
        ResourceConstraint::Is(kind) => Some(Name::Type(kind)),
        ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
            Some(Name::Entity(uid))
        }
    }
}

fn actions(policy: &Policy) -> Vec<Option<Name>> {
    match policy.action_constraint() {
        ActionConstraint::Any => vec![None],
        ActionConstraint::Eq(uid) => vec![Some(Name::Entity(uid))],
        ActionConstraint::In(uids) => uids.into_iter().map(|uid| Some(Name::Entity(uid))).collect(),
    }
}
