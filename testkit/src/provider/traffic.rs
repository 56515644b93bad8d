//! The requests to the provider: their order, results and concurrency.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use oidc_gate_provider_model::{Content, Grant, Reply, Request};

use super::state::State;
use super::target::Target;

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
    pub recorded: Vec<Request>,
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

    /// Counts the answer of the token endpoint.
    pub fn count(&mut self, request: &Request, reply: &Reply) {
        let Some(grant) = request.grant() else { return };
        match &reply.content {
            Content::Json(refusal) if reply.status != 200 => {
                let text = |name: &str| refusal[name].as_str().unwrap_or_default().to_owned();
                let (error, description) = (text("error"), text("error_description"));
                self.refused.push(Refusal { grant, error, description });
            }
            _ => self.granted.push(grant),
        }
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
    state: Arc<Mutex<State>>,
    targets: Vec<Target>,
}

impl UnderWay {
    /// Records the request.
    pub fn begin(state: &Arc<Mutex<State>>, request: &Request) -> Self {
        let mut targets = vec![Target::from(request.endpoint)];
        targets.extend(request.grant().map(Target::from));
        {
            let mut state = State::lock(state);
            state.traffic.begin(&targets);
            state.traffic.recorded.push(request.clone());
        }
        Self { state: Arc::clone(state), targets }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        State::lock(&self.state).traffic.end(&self.targets);
    }
}
