//! The order of a workflow's steps: levels, dependents, the critical path.

use std::collections::HashMap;

use super::spec::WorkflowSpec;
use crate::task::TaskKind;

/// A set of steps, by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StepSet(Vec<u64>);

impl StepSet {
    fn empty(steps: usize) -> Self {
        Self(vec![0; steps.div_ceil(64)])
    }

    pub fn contains(&self, step: usize) -> bool {
        self.0.get(step / 64).is_some_and(|word| word >> (step % 64) & 1 == 1)
    }

    fn insert(&mut self, step: usize) {
        self.0[step / 64] |= 1 << (step % 64);
    }

    fn extend(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, more)| *word |= more);
    }
}

/// For each step all that it needs, directly or not; `None` for those on a cycle or behind one.
pub(super) fn ancestors(needs: &[Vec<usize>]) -> Vec<Option<StepSet>> {
    let mut sets: Vec<Option<StepSet>> = vec![None; needs.len()];
    for step in order(needs) {
        let mut set = StepSet::empty(needs.len());
        for need in &needs[step] {
            set.insert(*need);
            sets[*need].iter().for_each(|more| set.extend(more));
        }
        sets[step] = Some(set);
    }
    sets
}

fn dependents(needs: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut dependents = vec![Vec::new(); needs.len()];
    for (step, needed) in needs.iter().enumerate() {
        needed.iter().for_each(|need| dependents[*need].push(step));
    }
    dependents
}

/// The steps in an order where each follows all that it needs, the first written first (Kahn's algorithm).
/// Those on a cycle or behind one are left out.
fn order(needs: &[Vec<usize>]) -> Vec<usize> {
    let dependents = dependents(needs);
    let mut open: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut order: Vec<usize> = (0..needs.len()).filter(|step| open[*step] == 0).collect();
    let mut next = 0;
    while let Some(step) = order.get(next).copied() {
        next += 1;
        for dependent in &dependents[step] {
            open[*dependent] -= 1;
            if open[*dependent] == 0 {
                order.push(*dependent);
            }
        }
    }
    order
}

/// Cycles without a step in common, each as the steps in the order of need; none exactly if there is no cycle.
pub(super) fn cycles(needs: &[Vec<usize>]) -> Vec<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        Not,
        Open,
        Done,
    }
    let mut visits = vec![Visit::Not; needs.len()];
    let mut taken = vec![false; needs.len()];
    let mut cycles = Vec::new();
    for start in 0..needs.len() {
        let mut path: Vec<(usize, usize)> = Vec::new();
        if visits[start] == Visit::Not {
            visits[start] = Visit::Open;
            path.push((start, 0));
        }
        while let Some((step, edge)) = path.last_mut() {
            let Some(need) = needs[*step].get(*edge).copied() else {
                visits[*step] = Visit::Done;
                path.pop();
                continue;
            };
            *edge += 1;
            match visits[need] {
                Visit::Not => {
                    visits[need] = Visit::Open;
                    path.push((need, 0));
                }
                Visit::Open if taken[need] => {}
                Visit::Open => {
                    let cycle: Vec<usize> =
                        path.iter().map(|(step, _)| *step).skip_while(|step| *step != need).collect();
                    if cycle.iter().all(|step| !taken[*step]) {
                        cycle.iter().for_each(|step| taken[*step] = true);
                        cycles.push(cycle);
                    }
                }
                Visit::Done => {}
            }
        }
    }
    cycles
}

/// Why a workflow has no graph. [`super::parse_workflow`] lets no such workflow pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    #[error("step {step} needs {need}, and there is no such step")]
    UnknownStep { step: String, need: String },
    #[error("steps need each other in a cycle: {}", path.join(" -> "))]
    Cycle { path: Vec<String> },
}

/// A step as a node of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphNode {
    pub name: String,
    pub kind: TaskKind,
    pub for_each: bool,
    /// 0 for a root, otherwise one more than the highest that it needs.
    pub level: usize,
}

/// The steps of one workflow by index, in the order they are written in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    pub(super) name: String,
    pub(super) nodes: Vec<GraphNode>,
    needs: Vec<Vec<usize>>,
    dependents: Vec<Vec<usize>>,
    order: Vec<usize>,
    /// The steps in the order of their names.
    by_name: Vec<usize>,
}

impl Graph {
    /// # Errors
    /// [`GraphError`] if a need is unknown or the steps need each other in a cycle.
    pub fn of(spec: &WorkflowSpec) -> Result<Self, GraphError> {
        let needs = needs(spec)?;
        if let Some(cycle) = cycles(&needs).first() {
            let path = cycle.iter().chain(cycle.first()).map(|step| spec.steps[*step].name.clone());
            return Err(GraphError::Cycle { path: path.collect() });
        }
        let order = order(&needs);
        let mut levels = vec![0; needs.len()];
        for step in &order {
            levels[*step] = needs[*step].iter().map(|need| levels[*need] + 1).max().unwrap_or(0);
        }
        let node = |(step, level): (&super::StepSpec, usize)| GraphNode {
            name: step.name.clone(),
            kind: step.kind,
            for_each: step.for_each.is_some(),
            level,
        };
        let nodes: Vec<GraphNode> = spec.steps.iter().zip(levels).map(node).collect();
        let mut by_name: Vec<usize> = (0..nodes.len()).collect();
        by_name.sort_by(|a, b| nodes[*a].name.cmp(&nodes[*b].name));
        Ok(Self { name: spec.name.clone(), nodes, dependents: dependents(&needs), needs, order, by_name })
    }

    pub fn nodes(&self) -> &[GraphNode] {
        &self.nodes
    }

    /// The step of this name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        let place = self.by_name.binary_search_by(|step| self.nodes[*step].name.as_str().cmp(name));
        place.ok().map(|place| self.by_name[place])
    }

    /// Each edge as (needed, dependent).
    pub fn edges(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.needs.iter().enumerate().flat_map(|(step, needs)| needs.iter().map(move |need| (*need, step)))
    }

    /// What a step needs directly.
    pub fn needs(&self, step: usize) -> &[usize] {
        self.needs.get(step).map_or(&[], Vec::as_slice)
    }

    /// The steps that need this one directly.
    pub fn dependents(&self, step: usize) -> &[usize] {
        self.dependents.get(step).map_or(&[], Vec::as_slice)
    }

    /// The steps that need nothing.
    pub fn roots(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(|step| self.needs[*step].is_empty())
    }

    /// Every step after all that it needs.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The steps by level; those of one level do not wait for each other.
    pub fn levels(&self) -> Vec<Vec<usize>> {
        let count = self.nodes.iter().map(|node| node.level + 1).max().unwrap_or(0);
        let mut levels = vec![Vec::new(); count];
        self.nodes.iter().enumerate().for_each(|(step, node)| levels[node.level].push(step));
        levels
    }

    /// The path of needs with the greatest sum of `weight`, of equal ones the one with more steps.
    ///
    /// With durations as weights it is what the workflow's time is made of; with 1 the longest path.
    pub fn critical_path(&self, weight: impl Fn(usize) -> u64) -> Vec<usize> {
        let mut best: Vec<((u64, usize), Option<usize>)> = vec![((0, 0), None); self.nodes.len()];
        for step in &self.order {
            let before = self.needs[*step].iter().max_by_key(|need| (best[**need].0, std::cmp::Reverse(**need)));
            let (sum, count) = before.map_or((0, 0), |need| best[*need].0);
            best[*step] = ((sum.saturating_add(weight(*step)), count + 1), before.copied());
        }
        let last = (0..self.nodes.len()).max_by_key(|step| (best[*step].0, std::cmp::Reverse(*step)));
        let mut path: Vec<usize> = std::iter::successors(last, |step| best[*step].1).collect();
        path.reverse();
        path
    }
}

fn needs(spec: &WorkflowSpec) -> Result<Vec<Vec<usize>>, GraphError> {
    let names: HashMap<&str, usize> =
        spec.steps.iter().enumerate().map(|(index, step)| (step.name.as_str(), index)).collect();
    let unknown = |step: &str, need: &str| GraphError::UnknownStep { step: step.to_owned(), need: need.to_owned() };
    let of_step = |step: &super::StepSpec| {
        let index = |need: &String| names.get(need.as_str()).copied().ok_or_else(|| unknown(&step.name, need));
        step.needs.iter().map(index).collect()
    };
    spec.steps.iter().map(of_step).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::dag::StepSpec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A workflow of no-ops `s0`, `s1`, ... with these needs.
    pub fn workflow(needs: &[Vec<usize>]) -> WorkflowSpec {
        let step = |(index, needs): (usize, &Vec<usize>)| StepSpec {
            needs: needs.iter().map(|need| format!("s{need}")).collect(),
            ..StepSpec::new(&format!("s{index}"), TaskKind::Noop)
        };
        WorkflowSpec {
            name: "w".into(),
            tag: None,
            namespace: "default".into(),
            durability: crate::task::Durability::Sync,
            priority: crate::task::Priority::default(),
            schedule: None,
            parent: None,
            input: BTreeMap::new(),
            labels: BTreeMap::new(),
            on_fail: crate::dag::OnFail::FailFast,
            steps: needs.iter().enumerate().map(step).collect(),
            outputs: BTreeMap::new(),
        }
    }

    /// Needs among up to 24 steps, in an order that is not that of writing.
    pub fn any_dag() -> impl Strategy<Value = Vec<Vec<usize>>> {
        let places = (1usize..24).prop_flat_map(|steps| Just((0..steps).collect::<Vec<_>>()).prop_shuffle());
        (places, prop::collection::vec(any::<u32>(), 24)).prop_map(|(places, bits)| {
            let mut needs = vec![Vec::new(); places.len()];
            for (later, step) in places.iter().enumerate() {
                needs[*step] = places[..later]
                    .iter()
                    .enumerate()
                    .filter(|(bit, _)| bits[later] >> bit & 3 == 3)
                    .map(|(_, need)| *need)
                    .collect();
            }
            needs
        })
    }

    #[test]
    fn a_diamond_has_levels_roots_dependents_and_a_critical_path() {
        let graph = Graph::of(&workflow(&[vec![], vec![0], vec![0], vec![1, 2]])).unwrap();
        assert_eq!(graph.levels(), [vec![0], vec![1, 2], vec![3]]);
        assert_eq!(graph.roots().collect::<Vec<_>>(), [0]);
        assert_eq!(graph.dependents(0), [1, 2]);
        assert_eq!(graph.needs(3), [1, 2]);
        assert_eq!(graph.critical_path(|_| 1), [0, 1, 3]);
        assert_eq!(graph.critical_path(|step| if step == 2 { 100 } else { 1 }), [0, 2, 3]);
        assert_eq!(graph.critical_path(|_| u64::MAX), [0, 1, 3]);
    }

    #[test]
    fn a_workflow_that_nobody_checked_is_refused() {
        let cycle = Graph::of(&workflow(&[vec![1], vec![0]])).unwrap_err();
        assert_eq!(cycle.to_string(), "steps need each other in a cycle: s0 -> s1 -> s0");
        let unknown = Graph::of(&workflow(&[vec![5]])).unwrap_err();
        assert_eq!(unknown, GraphError::UnknownStep { step: "s0".into(), need: "s5".into() });
    }

    #[test]
    fn a_chain_of_a_thousand_steps_needs_no_deep_stack() {
        let chain: Vec<Vec<usize>> = (0..1_000).map(|step| if step == 999 { vec![] } else { vec![step + 1] }).collect();
        assert_eq!(Graph::of(&workflow(&chain)).unwrap().critical_path(|_| 1).len(), 1_000);
        assert!(ancestors(&chain)[0].as_ref().unwrap().contains(999));
    }

    proptest! {
        #[test]
        fn a_dag_is_ordered_with_every_need_first(needs in any_dag()) {
            prop_assert!(cycles(&needs).is_empty());
            let graph = Graph::of(&workflow(&needs)).unwrap();
            let place = |step: usize| graph.order().iter().position(|other| *other == step).unwrap();
            for (need, step) in graph.edges() {
                prop_assert!(place(need) < place(step));
                prop_assert!(graph.nodes()[need].level < graph.nodes()[step].level);
            }
            let path = graph.critical_path(|_| 1);
            prop_assert_eq!(path.len(), graph.levels().len());
            prop_assert!(path.windows(2).all(|pair| needs[pair[1]].contains(&pair[0])));
        }

        #[test]
        fn ancestors_are_what_a_search_reaches(needs in any_dag()) {
            for (step, set) in ancestors(&needs).iter().enumerate() {
                let mut reached = vec![false; needs.len()];
                let mut open = needs[step].clone();
                while let Some(next) = open.pop() {
                    reached[next] = true;
                    open.extend(&needs[next]);
                }
                let set = set.as_ref().unwrap();
                prop_assert!((0..needs.len()).all(|other| set.contains(other) == reached[other]));
            }
        }

        #[test]
        fn a_back_edge_gives_a_real_cycle(mut needs in any_dag(), from: prop::sample::Index) {
            let graph = Graph::of(&workflow(&needs)).unwrap();
            let path = graph.critical_path(|_| 1);
            let (first, last) = (path[0], path[path.len() - 1]);
            let from = from.index(path.len());
            let back = if from == 0 { first } else { path[from] };
            needs[first].push(if from == 0 { last } else { back });
            let cycles = cycles(&needs);
            prop_assert!(!cycles.is_empty());
            for cycle in cycles {
                for (step, need) in cycle.iter().zip(cycle.iter().cycle().skip(1)) {
                    prop_assert!(needs[*step].contains(need), "{cycle:?}");
                }
            }
            prop_assert!(ancestors(&needs)[first].is_none());
        }
    }
}
