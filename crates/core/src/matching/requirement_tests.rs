use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::matching::Gpu;
use crate::matching::clause::{Attribute, Clause, Quantity, Relation};
use crate::task::TaskKind;

fn node() -> Capabilities {
    Capabilities {
        labels: [("ssd", ""), ("zone", "eu")].map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        kinds: BTreeSet::from([TaskKind::Embed, TaskKind::Noop]),
        models: BTreeSet::from(["minilm".to_owned()]),
        gpus: [8, 24].map(|gib| Gpu { name: "L4".to_owned(), vram_bytes: gib << 30 }).into(),
        cpus: 8,
        memory_bytes: 32 << 30,
        arch: "x86_64".to_owned(),
        os: "linux".to_owned(),
        version: "0.10.0".to_owned(),
        ..Capabilities::default()
    }
}

fn requirement(text: &str) -> Requirement {
    Requirement::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn clauses_ask_what_they_say() {
    let node = node();
    for (text, holds) in [
        ("gpu.count >= 1", true),
        ("gpu.count == 2", true),
        ("gpu.count > 2", false),
        ("gpu.vram >= 24GiB", true),
        ("gpu.vram > 24GiB", false),
        ("gpu.vram < 24GiB", false),
        ("memory <= 32GiB", true),
        ("memory >= 33GB", true),
        ("cpus != 8", false),
        ("arch == \"x86_64\"", true),
        ("arch == aarch64", false),
        ("os != \"linux\"", false),
        ("version >= 0.9.1", true),
        ("version < 0.10.0-rc.1", false),
        ("version == 0.10.0", true),
        ("label.zone == \"eu\"", true),
        ("label.zone != \"us\"", true),
        ("label.rack == \"\"", false),
        ("label.rack != \"r1\"", true),
        ("label:ssd", true),
        ("label:rack", false),
        ("model:minilm", true),
        ("kind:embed", true),
        ("kind:docker", false),
        ("!kind:docker && !(label:rack || cpus < 8)", true),
        ("label:rack || label:ssd && cpus >= 8", true),
        ("(label:rack || label:ssd) && cpus > 8", false),
        ("!!label:ssd", true),
    ] {
        let requirement = requirement(text);
        assert_eq!(requirement.holds(&node), holds, "{text}");
        assert_eq!(requirement.unmet(&node).is_empty(), holds, "{text}");
        assert_eq!(requirement.distance(&node) == 0, holds, "{text}");
    }
}

#[test]
fn a_node_of_unknown_version_meets_no_order() {
    let node = Capabilities { version: "yesterday".to_owned(), ..node() };
    for (text, holds) in [("version >= 0.0.0", false), ("version < 9.0.0", false), ("version != 1.0.0", true)] {
        assert_eq!(requirement(text).holds(&node), holds, "{text}");
    }
}

#[test]
fn what_is_unmet_is_said_with_what_the_node_has() {
    let bare = Capabilities { cpus: 2, version: "0.1.0".to_owned(), ..Capabilities::default() };
    for (text, node, unmet) in [
        ("gpu.vram >= 16GiB", &bare, "gpu.vram >= 16GiB: this node has no GPU"),
        ("gpu.vram >= 48GiB", &node(), "gpu.vram >= 48GiB: this node has at most 24GiB on a GPU"),
        ("gpu.count >= 4", &node(), "gpu.count >= 4: this node has 2"),
        ("memory >= 64GiB", &node(), "memory >= 64GiB: this node has 32GiB"),
        ("arch == aarch64", &node(), "arch == \"aarch64\": this node has \"x86_64\""),
        ("label.zone == us", &node(), "label.zone == \"us\": this node has \"eu\""),
        ("label.zone == us", &bare, "label.zone == \"us\": this node does not have this label"),
        ("!label:ssd", &node(), "!label:ssd: this node has this label"),
        ("version >= 0.2.0", &bare, "version >= 0.2.0: this node has \"0.1.0\""),
        ("model:llama3", &node(), "model:llama3: this node has loaded minilm"),
        ("model:llama3", &bare, "model:llama3: this node has loaded none"),
        ("kind:wasm", &node(), "kind:wasm: this node offers embed, noop"),
        (
            "label:a || label:b && cpus >= 8",
            &bare,
            "label:a: this node does not have this label, \
            or cpus >= 8: this node has 2 and label:b: this node does not have this label",
        ),
    ] {
        assert_eq!(requirement(text).unmet(node), [unmet], "{text}");
    }
    assert_eq!(requirement("cpus >= 4 && label:ssd && !(cpus < 4)").unmet(&bare).len(), 3);
}

#[test]
fn what_cannot_be_parsed_is_refused_with_its_column() {
    for (text, column, problem) in [
        ("", 1, "expected a clause"),
        ("gpu.vrma >= 1GiB", 1, "\"gpu.vrma\" is not known (gpu.count, gpu.vram,"),
        ("gpu.vram >= 16", 13, "expected a whole size with its unit, as 16GiB, found \"16\""),
        ("gpu.vram >= 1.5GiB", 13, "expected a whole size"),
        ("cpus >= -1", 9, "expected a whole number"),
        ("cpus => 1", 6, "expected ==, !=, >=, <=, > or <, found \"=>\""),
        ("cpus", 5, "expected ==, !=, >=, <=, > or <, found the end"),
        ("cpus >= 4 &&", 13, "expected a clause"),
        ("cpus >= 4 & os == linux", 11, "expected \"&&\", \"||\" or the end, found \"&\""),
        ("(cpus >= 4", 11, "expected \"&&\", \"||\" or \")\", found the end"),
        ("cpus >= 4)", 10, "expected \"&&\", \"||\" or the end"),
        ("arch >= \"x86_64\"", 6, "expected \"==\" or \"!=\""),
        ("arch == ", 9, "expected a value"),
        ("label.zone == \"eu", 15, "this quotation mark has no partner"),
        ("label.zone == \"\u{7}\"", 15, "a control character"),
        ("label:", 7, "expected a name, found the end"),
        ("label:\"\"", 9, "expected a name"),
        ("label:a\"b\"", 11, "expected a name, quoted as a whole"),
        ("kind:quantum", 1, "\"quantum\" is not a kind (inference,"),
        ("version >= 1", 12, "expected a version without build metadata, as 0.1.0, found \"1\""),
        ("version >= 1.0.0+x", 12, "expected a version without build metadata"),
        ("größe >= 1", 1, "\"gr\" is not known"),
        ("label.ort == \"Köln\" cpus >= 1", 21, "expected \"&&\""),
    ] {
        let error = Requirement::parse(text).unwrap_err();
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.problem.starts_with(problem), "{text}: {error}");
    }
}

#[test]
fn length_and_depth_are_bounded() {
    let nested = |depth| format!("{}cpus >= 1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Requirement::parse(&nested(limits::DEPTH_MAX)).is_ok());
    let error = Requirement::parse(&nested(limits::DEPTH_MAX + 1)).unwrap_err();
    assert_eq!((error.column, error.problem.as_str()), (limits::DEPTH_MAX + 1, "brackets nest deeper than 64"));

    assert!(Requirement::parse(&format!("{}cpus >= 1", "!".repeat(1_000))).is_ok());
    let long = |clauses: usize| (0..clauses).map(|n| format!("cpus!={n}")).collect::<Vec<_>>().join("||");
    for text in [" ".repeat(limits::REQUIREMENT_BYTES_MAX + 1), long(180)] {
        assert_eq!(Requirement::parse(&text).unwrap_err().problem, "the expression is longer than 2048 bytes");
    }
    let name = "x".repeat(limits::NAME_BYTES_MAX + 1);
    for text in [format!("label:{name}"), format!("os == \"{name}\""), format!("os == {name}")] {
        assert!(Requirement::parse(&text).unwrap_err().problem.contains("longer than 256 bytes"), "{text}");
    }
}

#[test]
fn one_requirement_has_one_text() {
    let canonical = r#"cpus >= 4 && memory >= 8GiB && (label:ssd || model:"my model") && !kind:docker"#;
    for text in [canonical, r#"(model:"my model"||label:ssd)&&memory>=8192MiB&&!!!kind:docker&&(cpus>=4&&cpus>=4)"#] {
        assert_eq!(requirement(text).as_str(), requirement(canonical).as_str());
        assert_eq!(requirement(text), requirement(canonical));
    }
    assert_ne!(requirement("label.zone == \"eu\""), requirement("label.zone != \"eu\""));
}

fn relation() -> impl Strategy<Value = Relation> {
    proptest::sample::select(Relation::ALL.map(|(_, relation)| relation).to_vec())
}

fn clause() -> impl Strategy<Value = Clause> {
    let quantity = proptest::sample::select(Quantity::ALL.map(|(_, quantity)| quantity).to_vec());
    let name = || "[a-z./:@+ \"\\\\é]{1,8}";
    let attribute = prop_oneof![Just(Attribute::Arch), Just(Attribute::Os), name().prop_map(Attribute::Label)];
    prop_oneof![
        (quantity, relation(), any::<u64>(), 0u32..64)
            .prop_map(|(quantity, relation, amount, shift)| Clause::Quantity(quantity, relation, amount >> shift)),
        (attribute, any::<bool>(), "[a-z \"\\\\!&|()é]{0,8}").prop_map(|(attribute, equal, value)| Clause::Attribute {
            attribute,
            equal,
            value
        }),
        (relation(), "(0|[1-9][0-9]{0,3})\\.0\\.[1-9](-rc\\.[1-9])?")
            .prop_map(|(relation, version)| Clause::Version(relation, version.parse().unwrap())),
        name().prop_map(Clause::Label),
        name().prop_map(Clause::Model),
        proptest::sample::select(TaskKind::ALL.to_vec()).prop_map(Clause::Kind),
    ]
}

fn expression(clause: impl Strategy<Value = Clause> + 'static) -> impl Strategy<Value = Expression> {
    clause.prop_map(Expression::Clause).prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(Expression::not),
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Expression::all),
            proptest::collection::vec(inner, 1..4).prop_map(Expression::any),
        ]
    })
}

/// Its own idea of an expression over the labels `a`..`f`, evaluated by the truth tables and nothing else.
#[derive(Debug, Clone)]
enum Formula {
    Label(u8),
    Not(Box<Formula>),
    And(Box<Formula>, Box<Formula>),
    Or(Box<Formula>, Box<Formula>),
}

const LABELS: u8 = 6;

impl Formula {
    fn any() -> impl Strategy<Value = Self> {
        (0..LABELS).prop_map(Self::Label).prop_recursive(6, 24, 2, |inner| {
            let pair = (inner.clone(), inner.clone());
            prop_oneof![
                inner.prop_map(|a| Self::Not(Box::new(a))),
                pair.clone().prop_map(|(a, b)| Self::And(Box::new(a), Box::new(b))),
                pair.prop_map(|(a, b)| Self::Or(Box::new(a), Box::new(b))),
            ]
        })
    }

    /// The same formula in which no label stands twice; None if there are too few labels for that.
    fn read_once(&self, next: &mut u8) -> Option<Self> {
        Some(match self {
            Self::Label(_) if *next == LABELS => return None,
            Self::Label(_) => {
                *next += 1;
                Self::Label(*next - 1)
            }
            Self::Not(a) => Self::Not(Box::new(a.read_once(next)?)),
            Self::And(a, b) => Self::And(Box::new(a.read_once(next)?), Box::new(b.read_once(next)?)),
            Self::Or(a, b) => Self::Or(Box::new(a.read_once(next)?), Box::new(b.read_once(next)?)),
        })
    }

    fn text(&self) -> String {
        match self {
            Self::Label(n) => format!("label:{}", char::from(b'a' + n)),
            Self::Not(a) => format!("!({})", a.text()),
            Self::And(a, b) => format!("({}) && ({})", a.text(), b.text()),
            Self::Or(a, b) => format!("({}) || ({})", a.text(), b.text()),
        }
    }

    fn holds(&self, labels: u8) -> bool {
        match self {
            Self::Label(n) => labels >> n & 1 == 1,
            Self::Not(a) => !a.holds(labels),
            Self::And(a, b) => a.holds(labels) && b.holds(labels),
            Self::Or(a, b) => a.holds(labels) || b.holds(labels),
        }
    }
}

fn node_with(labels: u8) -> Capabilities {
    let present = (0..LABELS).filter(|n| labels >> n & 1 == 1);
    let labels = present.map(|n| (char::from(b'a' + n).to_string(), String::new())).collect();
    Capabilities { labels, ..Capabilities::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_canonical_text_parses_back(expression in expression(clause())) {
        let text = expression.to_string();
        prop_assume!(text.len() <= limits::REQUIREMENT_BYTES_MAX);
        let parsed = requirement(&text);
        prop_assert_eq!(&*parsed.expression, &expression);
        prop_assert_eq!(parsed.as_str(), text);
    }

    #[test]
    fn any_text_is_parsed_or_refused_within_itself(text in "([a-z.:!&|()=<>\" 0-9é]|gpu.vram|cpus|label|>=|&&){0,40}") {
        if let Err(error) = Requirement::parse(&text) {
            prop_assert!((1..=text.chars().count() + 1).contains(&error.column), "{}", error);
        }
    }

    #[test]
    fn evaluation_agrees_with_the_truth_tables(formula in Formula::any()) {
        let requirement = requirement(&formula.text());
        for labels in 0..1 << LABELS {
            let (node, holds) = (node_with(labels), formula.holds(labels));
            prop_assert_eq!(requirement.holds(&node), holds);
            prop_assert_eq!(requirement.unmet(&node).is_empty(), holds);
            prop_assert_eq!(requirement.distance(&node) == 0, holds);
        }
    }

    #[test]
    fn distance_is_to_the_nearest_node_that_fits(formula in Formula::any()) {
        let read_once = formula.read_once(&mut 0);
        prop_assume!(read_once.is_some());
        let formula = read_once.unwrap();
        let requirement = requirement(&formula.text());
        let fitting: Vec<u8> = (0..1 << LABELS).filter(|labels| formula.holds(*labels)).collect();
        for labels in 0..1 << LABELS {
            let nearest = fitting.iter().map(|fits| (fits ^ labels).count_ones()).min().unwrap();
            prop_assert_eq!(requirement.distance(&node_with(labels)), nearest);
        }
    }
}
