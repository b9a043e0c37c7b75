//! Atomic clauses: one question to a node's capabilities, true or false.

use std::cmp::Ordering;
use std::fmt;

use semver::Version;

use super::capabilities::Capabilities;
use super::size::Size;
use crate::task::TaskKind;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Relation {
    Equal,
    NotEqual,
    AtLeast,
    AtMost,
    Above,
    Below,
}

impl Relation {
    /// Longer symbols stand before those they begin with.
    pub const ALL: [(&str, Self); 6] = [
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
        (">=", Self::AtLeast),
        ("<=", Self::AtMost),
        (">", Self::Above),
        ("<", Self::Below),
    ];

    fn holds(self, held: Ordering) -> bool {
        match self {
            Self::Equal => held.is_eq(),
            Self::NotEqual => held.is_ne(),
            Self::AtLeast => held.is_ge(),
            Self::AtMost => held.is_le(),
            Self::Above => held.is_gt(),
            Self::Below => held.is_lt(),
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symbol = Self::ALL.iter().find(|(_, relation)| relation == self).map_or("", |(symbol, _)| symbol);
        formatter.write_str(symbol)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Quantity {
    GpuCount,
    /// Of the largest GPU; 0 without one.
    GpuVram,
    Cpus,
    Memory,
}

impl Quantity {
    pub const ALL: [(&str, Self); 4] =
        [("gpu.count", Self::GpuCount), ("gpu.vram", Self::GpuVram), ("cpus", Self::Cpus), ("memory", Self::Memory)];

    pub fn is_size(self) -> bool {
        matches!(self, Self::GpuVram | Self::Memory)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, quantity)| *quantity == self).map_or("", |(name, _)| name)
    }

    fn held(self, capabilities: &Capabilities) -> u64 {
        match self {
            Self::GpuCount => capabilities.gpus.len() as u64,
            Self::GpuVram => capabilities.vram_bytes(),
            Self::Cpus => u64::from(capabilities.cpus),
            Self::Memory => capabilities.memory_bytes,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Attribute {
    Arch,
    Os,
    Label(String),
}

impl Attribute {
    fn held<'a>(&self, capabilities: &'a Capabilities) -> Option<&'a str> {
        match self {
            Self::Arch => Some(&capabilities.arch),
            Self::Os => Some(&capabilities.os),
            Self::Label(key) => capabilities.labels.get(key).map(String::as_str),
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arch => formatter.write_str("arch"),
            Self::Os => formatter.write_str("os"),
            Self::Label(key) => write!(formatter, "label.{}", Name(key)),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Clause {
    Quantity(Quantity, Relation, u64),
    /// A label that a node does not have equals nothing.
    Attribute {
        attribute: Attribute,
        equal: bool,
        value: String,
    },
    /// False for a node whose version cannot be read, but for `!=`.
    Version(Relation, Version),
    Label(String),
    Model(String),
    Kind(TaskKind),
}

impl Clause {
    pub fn holds(&self, capabilities: &Capabilities) -> bool {
        match self {
            Self::Quantity(quantity, relation, amount) => relation.holds(quantity.held(capabilities).cmp(amount)),
            Self::Attribute { attribute, equal, value } => {
                (attribute.held(capabilities) == Some(value.as_str())) == *equal
            }
            Self::Version(relation, required) => Version::parse(&capabilities.version)
                .map_or(*relation == Relation::NotEqual, |held| relation.holds(held.cmp_precedence(required))),
            Self::Label(key) => capabilities.labels.contains_key(key),
            Self::Model(name) => capabilities.models.contains(name),
            Self::Kind(kind) => capabilities.kinds.contains(kind),
        }
    }

    /// What the node has where the clause asks, after "this node ".
    pub fn held(&self, capabilities: &Capabilities) -> String {
        match self {
            Self::Quantity(Quantity::GpuCount | Quantity::GpuVram, ..) if capabilities.gpus.is_empty() => {
                "has no GPU".to_owned()
            }
            Self::Quantity(Quantity::GpuVram, ..) => {
                format!("has at most {} on a GPU", Size(capabilities.vram_bytes()))
            }
            Self::Quantity(Quantity::Memory, ..) => format!("has {}", Size(capabilities.memory_bytes)),
            Self::Quantity(quantity, ..) => format!("has {}", quantity.held(capabilities)),
            Self::Attribute { attribute, .. } => match attribute.held(capabilities) {
                Some(held) => format!("has {}", Quoted(held)),
                None => "does not have this label".to_owned(),
            },
            Self::Version(..) => format!("has {}", Quoted(&capabilities.version)),
            Self::Label(key) if capabilities.labels.contains_key(key) => "has this label".to_owned(),
            Self::Label(_) => "does not have this label".to_owned(),
            Self::Model(_) => format!("has loaded {}", listed(capabilities.models.iter().map(String::as_str))),
            Self::Kind(_) => format!("offers {}", listed(capabilities.kinds.iter().map(|kind| kind.name()))),
        }
    }
}

impl fmt::Display for Clause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quantity(quantity, relation, amount) if quantity.is_size() => {
                write!(formatter, "{} {relation} {}", quantity.name(), Size(*amount))
            }
            Self::Quantity(quantity, relation, amount) => write!(formatter, "{} {relation} {amount}", quantity.name()),
            Self::Attribute { attribute, equal, value } => {
                let relation = if *equal { Relation::Equal } else { Relation::NotEqual };
                write!(formatter, "{attribute} {relation} {}", Quoted(value))
            }
            Self::Version(relation, version) => write!(formatter, "version {relation} {version}"),
            Self::Label(key) => write!(formatter, "label:{}", Name(key)),
            Self::Model(name) => write!(formatter, "model:{}", Name(name)),
            Self::Kind(kind) => write!(formatter, "kind:{kind}"),
        }
    }
}

/// At most five names, and how many more there are.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.len() {
        0 => "none".to_owned(),
        len @ 1..=5 => names[..len].join(", "),
        len => format!("{} and {} more", names[..5].join(", "), len - 5),
    }
}

/// Whether a name may stand without quotation marks.
pub(super) fn is_bare(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-' | '/' | ':' | '@' | '+')
}

struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.chars().all(is_bare) { formatter.write_str(self.0) } else { Quoted(self.0).fmt(formatter) }
    }
}

pub(super) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}
