//! The mesh as stateright sees it: where it begins, what may happen, what must hold.

use std::time::{Duration, Instant};

use magpie_core::invariant::InvariantId;
use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::action::Action;
use crate::mesh::{Budget, Mesh};

/// All interleavings within a budget of faults.
#[derive(Debug, Clone, Copy)]
pub struct Interleavings {
    pub budget: Budget,
    /// A bug that the core has on purpose.
    #[cfg(feature = "canary")]
    pub planted: Option<magpie_core::canary::Bug>,
}

impl Interleavings {
    pub fn within(budget: Budget) -> Self {
        Self {
            budget,
            #[cfg(feature = "canary")]
            planted: None,
        }
    }

    /// Bugs are planted per thread, and the checker has its own.
    fn plant(&self) {
        #[cfg(feature = "canary")]
        magpie_core::canary::plant(self.planted);
    }
}

impl Model for Interleavings {
    type State = Mesh;
    type Action = Action;

    fn init_states(&self) -> Vec<Mesh> {
        self.plant();
        vec![Mesh::new(self.budget)]
    }

    fn actions(&self, mesh: &Mesh, actions: &mut Vec<Action>) {
        mesh.actions(actions);
    }

    fn next_state(&self, mesh: &Mesh, action: Action) -> Option<Mesh> {
        self.plant();
        let mut next = mesh.clone();
        next.take(action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I2 one worker holds an epoch, and epochs only grow", |_, mesh: &Mesh| {
                keeps(mesh, InvariantId::I2)
            }),
            Property::always("I3 a stale fence changes nothing", |_, mesh: &Mesh| keeps(mesh, InvariantId::I3)),
            Property::always("I4 a task is committed at most once", |_, mesh: &Mesh| keeps(mesh, InvariantId::I4)),
            Property::always("I5 a task has one live lease", |_, mesh: &Mesh| keeps(mesh, InvariantId::I5)),
            Property::eventually("every task becomes terminal", |_, mesh: &Mesh| {
                mesh.everything_ended() || mesh.around.checks.breach.is_some()
            }),
            Property::sometimes("a lease expires", |_, mesh: &Mesh| mesh.around.checks.witnessed.expired),
            Property::sometimes("a task is granted again", |_, mesh: &Mesh| mesh.around.checks.witnessed.granted_again),
            Property::sometimes("an expired epoch is revived", |_, mesh: &Mesh| mesh.around.checks.witnessed.revived),
            Property::sometimes("an outcome is fenced", |_, mesh: &Mesh| mesh.around.checks.witnessed.fenced),
            Property::sometimes("a failed attempt is retried", |_, mesh: &Mesh| mesh.around.checks.witnessed.retried),
            Property::sometimes("an outcome outlives its process", |_, mesh: &Mesh| {
                mesh.around.checks.witnessed.recovered_outcome
            }),
        ]
    }
}

fn keeps(mesh: &Mesh, id: InvariantId) -> bool {
    mesh.around.checks.breach.as_ref().is_none_or(|breach| breach.id != id)
}

/// What an exploration came to.
#[derive(Debug, Clone)]
pub struct Explored {
    pub states: usize,
    pub unique: usize,
    pub depth: usize,
    /// Whether it saw all there is.
    pub exhaustive: bool,
    pub seconds: f64,
    /// Names of the properties that do not hold, each with the steps to where it shows.
    pub broken: Vec<(&'static str, String)>,
    /// Names of the properties that must show somewhere, and do not.
    pub missed: Vec<&'static str>,
}

/// Goes through everything, depth first, on one core, for `time_max` at most; or to the first invariant that breaks.
pub fn explore(model: Interleavings, time_max: Duration) -> Explored {
    let began = Instant::now();
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).timeout(time_max).spawn_dfs().join();
    let discoveries = checker.discoveries();
    let (mut broken, mut missed) = (Vec::new(), Vec::new());
    for property in checker.model().properties() {
        match discoveries.get(property.name) {
            Some(path) if property.expectation.discovery_is_failure() => {
                let last = path.last_state().around.checks.breach.clone();
                broken.push((property.name, format!("{last:?} after {:#?}", path.clone().into_actions())));
            }
            None if !property.expectation.discovery_is_failure() => missed.push(property.name),
            Some(_) | None => {}
        }
    }
    Explored {
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        exhaustive: began.elapsed() < time_max && broken.is_empty(),
        seconds: began.elapsed().as_secs_f64(),
        broken,
        missed,
    }
}
