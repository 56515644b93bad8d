//! The requests to the provider: their order, results and concurrency.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::realm::Realm;
use super::{Endpoint, Grant, Recorded, Target, lock};

/// A grant that the token endpoint refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The requested grant.
    pub grant: Grant,
    /// `error`.
    pub error: String,
    /// `error_description`.
    pub description: String,
}

/// The recorded requests of a provider.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub recorded: Vec<Recorded>,
    pub granted: Vec<Grant>,
    pub refused: Vec<Refusal>,
    at_once: HashMap<Target, AtOnce>,
}

#[derive(Clone, Copy, Debug, Default)]
struct AtOnce {
    now: usize,
    most: usize,
}

impl Traffic {
    pub fn most_at_once(&self, target: Target) -> usize {
        self.at_once.get(&target).map_or(0, |count| count.most)
    }

    pub fn now(&self, target: Target) -> usize {
        self.at_once.get(&target).map_or(0, |count| count.now)
    }

    fn begin(&mut self, targets: &[Target]) {
        for target in targets {
            let count = self.at_once.entry(*target).or_default();
            count.now += 1;
            count.most = count.most.max(count.now);
        }
    }

    fn end(&mut self, targets: &[Target]) {
        for target in targets {
            if let Some(count) = self.at_once.get_mut(target) {
                count.now = count.now.saturating_sub(1);
            }
        }
    }
}

/// A request in progress. It ends when this is dropped.
pub(super) struct UnderWay {
    realm: Arc<Mutex<Realm>>,
    targets: Vec<Target>,
}

impl UnderWay {
    /// Records the request.
    pub fn begin(realm: &Arc<Mutex<Realm>>, request: &Recorded) -> Self {
        let mut targets = vec![Target::from(request.endpoint)];
        targets.extend(request.grant().map(Target::from));
        {
            let mut realm = lock(realm);
            realm.traffic.begin(&targets);
            realm.traffic.recorded.push(request.clone());
        }
        Self { realm: Arc::clone(realm), targets }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.realm).traffic.end(&self.targets);
    }
}

impl Recorded {
    /// The grant that a request to the token endpoint asks for.
    pub fn grant(&self) -> Option<Grant> {
        let at_token = self.endpoint == Endpoint::Token;
        self.form_field("grant_type").filter(|_| at_token).and_then(Grant::named)
    }
}
