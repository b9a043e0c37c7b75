//! Partitions of every shape: which endpoints do not hear which others.

use std::collections::BTreeSet;

use crate::network::Endpoint;
use crate::rng::Rng;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// One node is cut off from most of the others.
    Alone,
    Halves,
    /// One half hears the other, which does not hear it.
    OneWay,
    /// Two halves that both reach one node.
    Bridge,
    /// Three parts, none of which hears another.
    ThreeWay,
    /// Halves that come together and part again, many times.
    Flapping,
}

impl Shape {
    pub const ALL: [Self; 6] = [Self::Alone, Self::Halves, Self::OneWay, Self::Bridge, Self::ThreeWay, Self::Flapping];
}

/// Who does not reach whom, in this direction.
pub type Cuts = BTreeSet<(Endpoint, Endpoint)>;

/// Draws a partition of `nodes` nodes and the clients and agents behind them, up to `endpoints`.
pub fn draw(rng: &mut Rng, nodes: usize, endpoints: usize) -> (Shape, Cuts) {
    let shape = rng.pick(&Shape::ALL).copied().unwrap_or(Shape::Halves);
    let some_node = rng.below(nodes as u64) as usize;
    let parts: Vec<u64> = match shape {
        Shape::Alone => (0..endpoints).map(|at| u64::from(at != some_node && rng.chance(800))).collect(),
        Shape::ThreeWay => split(rng, nodes, endpoints, 3),
        Shape::Halves | Shape::OneWay | Shape::Bridge | Shape::Flapping => split(rng, nodes, endpoints, 2),
    };
    let parted = |from: usize, to: usize| match shape {
        Shape::Alone => (from == some_node || to == some_node) && parts[from] != parts[to],
        Shape::OneWay => parts[from] < parts[to],
        Shape::Bridge => from != some_node && to != some_node && parts[from] != parts[to],
        Shape::Halves | Shape::ThreeWay | Shape::Flapping => parts[from] != parts[to],
    };
    let pairs = (0..endpoints).flat_map(|from| (0..endpoints).map(move |to| (from, to)));
    (shape, pairs.filter(|(from, to)| parted(*from, *to)).collect())
}

/// Deals the nodes out in turn, so that no part is without one if there are enough; clients fall anywhere.
fn split(rng: &mut Rng, nodes: usize, endpoints: usize, parts: u64) -> Vec<u64> {
    let first = rng.below(parts);
    let of = |at: usize| if at < nodes { (first + at as u64) % parts } else { rng.below(parts) };
    (0..endpoints).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// One partition of each shape, of five nodes and two clients.
    fn drawn() -> BTreeMap<Shape, Cuts> {
        (0..200).map(|seed| draw(&mut Rng::new(seed), 5, 7)).collect()
    }

    fn is_symmetric(cuts: &Cuts) -> bool {
        cuts.iter().all(|(from, to)| cuts.contains(&(*to, *from)))
    }

    #[test]
    fn every_shape_is_drawn_and_none_cuts_a_node_from_itself() {
        let drawn = drawn();
        assert_eq!(drawn.len(), Shape::ALL.len());
        assert!(drawn.values().flatten().all(|(from, to)| from != to));
    }

    #[test]
    fn one_way_cuts_one_direction_and_halves_both() {
        let drawn = drawn();
        assert!(!drawn[&Shape::OneWay].iter().any(|(from, to)| drawn[&Shape::OneWay].contains(&(*to, *from))));
        for shape in [Shape::Alone, Shape::Halves, Shape::Bridge, Shape::ThreeWay, Shape::Flapping] {
            assert!(is_symmetric(&drawn[&shape]), "{shape:?}");
        }
    }

    #[test]
    fn a_bridge_reaches_all_and_three_parts_reach_none() {
        let drawn = drawn();
        let bridge = &drawn[&Shape::Bridge];
        let whole = |node: usize| bridge.iter().all(|(from, to)| *from != node && *to != node);
        assert!((0..5).any(whole));
        let three = &drawn[&Shape::ThreeWay];
        let parts_of = |node: usize| (0..5).filter(|other| !three.contains(&(node, *other))).count();
        assert!((0..5).all(|node| parts_of(node) <= 2));
    }
}
