//! What tasks ask for, apart from what they are: tasks of one shape stand in one heap.

use serde::{Deserialize, Serialize};

use super::capabilities::Capabilities;
use super::clause::{Quoted, listed};
use super::requirement::{ParseRequirementError, Requirement};
use crate::task::{Tag, TaskKind, TaskSpec};

/// Everything about a task that decides which nodes may run it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Shape {
    pub kind: TaskKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Of a `process`: its first word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<Requirement>,
}

impl Shape {
    /// # Errors
    /// Where `requires` is not a capability expression.
    pub fn of(spec: &TaskSpec) -> Result<Self, ParseRequirementError> {
        Ok(Self {
            kind: spec.kind,
            model: spec.model.clone(),
            command: if spec.kind == TaskKind::Process { spec.run.first().cloned() } else { None },
            tag: spec.tag,
            requires: spec.requires.as_deref().map(Requirement::parse).transpose()?,
        })
    }

    /// Whether a node may run tasks of this shape.
    pub fn fits(&self, capabilities: &Capabilities) -> bool {
        self.offered(capabilities).into_iter().all(|offered| offered)
            && self.requires.as_ref().is_none_or(|requires| requires.holds(capabilities))
    }

    /// How many capability bits of a node would have to change for it to fit: ranks near misses. 0 exactly where it fits.
    pub fn distance(&self, capabilities: &Capabilities) -> u32 {
        let own: u32 = self.offered(capabilities).into_iter().map(|offered| u32::from(!offered)).sum();
        own + self.requires.as_ref().map_or(0, |requires| requires.distance(capabilities))
    }

    /// Everything that keeps a node from running tasks of this shape, with what it has instead; empty where it fits.
    pub fn unmet(&self, capabilities: &Capabilities) -> Vec<String> {
        let [kind, model, command, tag] = self.offered(capabilities);
        let mut unmet = Vec::new();
        if let (false, Some(why)) = (kind, capabilities.no_room.as_ref().filter(|_| self.kind.needs_room())) {
            unmet.push(format!("kind {}: this node has no room for it: {why}", self.kind));
        } else if !kind {
            let kinds = listed(capabilities.kinds.iter().map(|kind| kind.name()));
            unmet.push(format!("kind {}: this node offers {kinds}", self.kind));
        }
        if let (Some(name), false) = (&self.model, model) {
            let models = listed(capabilities.models.iter().map(String::as_str));
            unmet.push(format!("model {}: this node has loaded {models}", Quoted(name)));
        }
        if let (Some(name), false) = (&self.command, command) {
            let commands = listed(capabilities.commands.iter().map(String::as_str));
            unmet.push(format!("command {}: this node allows {commands}", Quoted(name)));
        }
        if let (Some(name), false) = (self.tag, tag) {
            let tags = listed(capabilities.tags.iter().map(|tag| tag.name()));
            unmet.push(format!("tag {}: this node allows, beyond the mesh's tags, {tags}", name.name()));
        }
        unmet.extend(self.requires.iter().flat_map(|requires| requires.unmet(capabilities)));
        unmet
    }

    /// Whether kind, model, command and tag are offered, in this order; what is not asked for counts as offered.
    fn offered(&self, capabilities: &Capabilities) -> [bool; 4] {
        [
            self.kind.runs_at_workers() && capabilities.kinds.contains(&self.kind),
            self.model.as_ref().is_none_or(|model| capabilities.models.contains(model)),
            self.command.as_ref().is_none_or(|command| capabilities.allows_command(command)),
            self.tag.is_none_or(|tag| capabilities.allows_tag(tag)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn node() -> Capabilities {
        Capabilities {
            kinds: BTreeSet::from([TaskKind::Noop, TaskKind::Process, TaskKind::Embed]),
            models: names(&["minilm"]),
            commands: names(&["python3"]),
            tags: BTreeSet::from([Tag::UnitTest]),
            cpus: 4,
            ..Capabilities::default()
        }
    }

    fn spec(kind: TaskKind) -> TaskSpec {
        TaskSpec::new(kind)
    }

    fn process(run: &[&str]) -> TaskSpec {
        TaskSpec { run: run.iter().map(|word| (*word).to_owned()).collect(), ..spec(TaskKind::Process) }
    }

    fn embed(model: &str) -> TaskSpec {
        TaskSpec { model: Some(model.to_owned()), ..spec(TaskKind::Embed) }
    }

    #[test]
    fn a_node_that_lacks_something_says_what() {
        let tagged = |tag| TaskSpec { tag: Some(tag), ..spec(TaskKind::Noop) };
        let requires = |text: &str| TaskSpec { requires: Some(text.to_owned()), ..spec(TaskKind::Noop) };
        for (spec, unmet) in [
            (spec(TaskKind::Noop), &[][..]),
            (spec(TaskKind::Wasm), &["kind wasm: this node offers embed, process, noop"]),
            (embed("minilm"), &[]),
            (embed("e5"), &["model \"e5\": this node has loaded minilm"]),
            (process(&["python3", "cut.py"]), &[]),
            (process(&["rm", "-rf"]), &["command \"rm\": this node allows python3"]),
            (tagged(Tag::CodeGeneration), &[]),
            (tagged(Tag::UnitTest), &[]),
            (tagged(Tag::GithubApi), &["tag github-api: this node allows, beyond the mesh's tags, unit-test"]),
            (
                requires("cpus >= 8 && label:ssd"),
                &["cpus >= 8: this node has 4", "label:ssd: this node does not have this label"],
            ),
        ] {
            let shape = Shape::of(&spec).unwrap();
            assert_eq!(shape.unmet(&node()), unmet, "{spec:?}");
            assert_eq!(shape.fits(&node()), unmet.is_empty(), "{spec:?}");
            assert_eq!(shape.distance(&node()) as usize, unmet.len(), "{spec:?}");
        }
    }

    #[test]
    fn a_node_without_room_says_so_of_what_needs_some() {
        let kinds = BTreeSet::from([TaskKind::Noop]);
        let full = Capabilities { no_room: Some("the disk is full".to_owned()), kinds, ..node() };
        let unmet = |spec| Shape::of(&spec).unwrap().unmet(&full);
        assert_eq!(unmet(process(&["python3"])), ["kind process: this node has no room for it: the disk is full"]);
        assert_eq!(unmet(embed("minilm")), ["kind embed: this node offers noop"]);
        assert!(unmet(spec(TaskKind::Noop)).is_empty());
    }

    #[test]
    fn any_command_is_allowed_by_a_star() {
        let open = Capabilities { commands: names(&[Capabilities::ANY_COMMAND]), ..node() };
        assert!(Shape::of(&process(&["anything"])).unwrap().fits(&open));
    }

    #[test]
    fn tasks_that_ask_for_the_same_have_one_shape() {
        let requires = |text: &str| TaskSpec { requires: Some(text.to_owned()), ..process(&["python3", "a"]) };
        let other_words = TaskSpec { run: vec!["python3".to_owned(), "b".to_owned()], ..requires("label:b&&label:a") };
        assert_eq!(Shape::of(&requires("label:a && label:b")), Shape::of(&other_words));
        assert_ne!(Shape::of(&requires("label:a")), Shape::of(&requires("label:b")));
        let error = Shape::of(&requires("label:a &&")).unwrap_err();
        assert!(error.to_string().starts_with("column 11: expected a clause"), "{error}");
    }

    #[test]
    fn only_a_process_has_a_command() {
        let odd = TaskSpec { kind: TaskKind::Noop, ..process(&["rm"]) };
        assert!(Shape::of(&odd).unwrap().fits(&node()));
    }

    fn shape() -> impl Strategy<Value = Shape> {
        let requires = proptest::sample::select(vec!["cpus >= 4", "cpus >= 8", "label:a || model:e5", "!model:minilm"]);
        (
            proptest::sample::select(TaskKind::ALL.to_vec()),
            proptest::option::of("minilm|e5"),
            proptest::option::of("python3|rm"),
            proptest::option::of(proptest::sample::select(Tag::ALL.to_vec())),
            proptest::option::of(requires.prop_map(|text| Requirement::parse(text).unwrap())),
        )
            .prop_map(|(kind, model, command, tag, requires)| Shape { kind, model, command, tag, requires })
    }

    proptest! {
        #[test]
        fn a_shape_survives_both_formats(shape in shape()) {
            prop_assert_eq!(&serde_json::from_value::<Shape>(serde_json::to_value(&shape).unwrap()).unwrap(), &shape);
            prop_assert_eq!(rmp_serde::from_slice::<Shape>(&rmp_serde::to_vec_named(&shape).unwrap()).unwrap(), shape);
        }

        #[test]
        fn fits_unmet_and_distance_agree(shape in shape(), cpus in 0u32..10) {
            for node in [Capabilities { cpus, ..node() }, Capabilities::default()] {
                prop_assert_eq!(shape.fits(&node), shape.unmet(&node).is_empty());
                prop_assert_eq!(shape.fits(&node), shape.distance(&node) == 0);
            }
        }
    }
}
