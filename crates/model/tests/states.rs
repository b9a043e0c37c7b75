//! A state is known again, and what differs is told apart: a model that mixes them up skips what it should see.

#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test may panic where it stands")]

use magpie_model::{Action, Body, Budget, Mesh};

const BUDGET: Budget = Budget { lost: 1, late: 1, crashes: 1, pauses: 1, failures: 1, leaps: 4 };

fn actions(mesh: &Mesh) -> Vec<Action> {
    let mut actions = Vec::new();
    mesh.actions(&mut actions);
    actions
}

fn after(mesh: &Mesh, action: Action) -> Mesh {
    let mut next = mesh.clone();
    next.take(action);
    next
}

/// Lets everything arrive, up to the first state in which something else may happen.
fn settled(mut mesh: Mesh) -> Mesh {
    while let Some(action) =
        actions(&mesh).into_iter().find(|it| matches!(it, Action::Arrive(_) | Action::Sync | Action::MarkerOut))
    {
        mesh.take(action);
    }
    mesh
}

#[test]
fn the_same_steps_lead_to_the_same_state() {
    let [one, other] = [(); 2].map(|()| after(&settled(Mesh::new(BUDGET)), Action::Leap));
    assert!(one == other);
}

#[test]
fn every_action_leads_to_a_state_of_its_own() {
    let mut mesh = settled(Mesh::new(BUDGET));
    for _ in 0..4 {
        let followers: Vec<Mesh> = actions(&mesh).into_iter().map(|action| after(&mesh, action)).collect();
        for (place, follower) in followers.iter().enumerate() {
            assert!(*follower != mesh && !followers[..place].contains(follower), "{:?}", actions(&mesh)[place]);
        }
        mesh = settled(after(&mesh, Action::Leap));
    }
}

#[test]
fn both_workers_run_one_of_the_tasks() {
    let mesh = settled(Mesh::new(BUDGET));
    let running: Vec<usize> = mesh.workers.iter().map(|worker| worker.running.len()).collect();
    assert_eq!(running, [1, 1]);
    assert!(mesh.around.letters.is_empty(), "{mesh:?}");
}

#[test]
fn a_letter_that_is_held_back_waits_over_leaps_and_may_still_arrive() {
    let mut mesh = Mesh::new(BUDGET);
    let held = loop {
        let found = actions(&mesh).into_iter().find(|action| matches!(action, Action::HoldBack(_)));
        if let Some(action) = found {
            break after(&mesh, action);
        }
        mesh.take(actions(&mesh)[0]);
    };
    let mesh = settled(after(&settled_but_held(held), Action::Leap));
    assert!(mesh.around.letters.iter().all(|letter| !letter.held_back), "it arrived: {mesh:?}");
}

/// As [`settled`], but what is held back stays so.
fn settled_but_held(mut mesh: Mesh) -> Mesh {
    let free = |mesh: &Mesh, action: &Action| match action {
        Action::Arrive(place) => !mesh.around.letters[*place].held_back,
        action => matches!(action, Action::Sync | Action::MarkerOut),
    };
    while let Some(action) = actions(&mesh).into_iter().find(|action| free(&mesh, action)) {
        mesh.take(action);
    }
    assert!(mesh.around.letters.iter().any(|letter| letter.held_back && !matches!(letter.body, Body::Offer(_))));
    mesh
}

#[test]
fn in_calm_both_tasks_end() {
    let mut mesh = settled(Mesh::new(Budget { leaps: 0, ..BUDGET }));
    assert!(!mesh.everything_ended());
    mesh.take(Action::Calm);
    assert!(mesh.everything_ended() && mesh.around.checks.breach.is_none());
    assert_eq!(actions(&mesh), []);
}
