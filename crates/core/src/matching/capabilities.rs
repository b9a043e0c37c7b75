//! What a node offers: its configuration and its hardware, announced to its peers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

use crate::limits;
use crate::task::{Tag, TaskKind};

/// Everything that decides whether a task may run on a node. A field that a peer does not send offers nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    pub labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "known_kinds")]
    pub kinds: BTreeSet<TaskKind>,
    /// Names of the models that are loaded.
    pub models: BTreeSet<String>,
    /// Commands that the node's configuration allows for `process`; [`ANY_COMMAND`](Self::ANY_COMMAND) allows all.
    pub commands: BTreeSet<String>,
    /// Tags allowed beyond those that run on the whole mesh.
    #[serde(deserialize_with = "known_tags")]
    pub tags: BTreeSet<Tag>,
    pub gpus: Vec<Gpu>,
    pub cpus: u32,
    pub memory_bytes: u64,
    /// As Rust names it: `x86_64`, `aarch64`.
    pub arch: String,
    /// As Rust names it: `linux`, `macos`.
    pub os: String,
    /// Of this software, as `0.1.0`.
    pub version: String,
    /// Why the node offers no kind that needs room on its disk for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_room: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    pub name: String,
    pub vram_bytes: u64,
}

/// Capabilities beyond what a peer may announce.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapabilitiesError {
    #[error("{presented} capabilities are announced, at most {} are kept", limits::CAPABILITIES_LEN_MAX)]
    TooMany { presented: usize },
    #[error("a capability's name of {presented} bytes is announced, at most {} are kept", limits::NAME_BYTES_MAX)]
    NameTooLong { presented: usize },
    #[error("a reason of {presented} bytes is announced, at most {} are kept", limits::ERROR_BYTES_MAX)]
    ReasonTooLong { presented: usize },
}

impl Capabilities {
    /// The entry of `commands` that allows every command.
    pub const ANY_COMMAND: &str = "*";

    /// # Errors
    /// More entries or longer names than one node may offer ([`limits`]).
    pub fn validate(&self) -> Result<(), CapabilitiesError> {
        let entries = [
            self.labels.len(),
            self.kinds.len(),
            self.models.len(),
            self.commands.len(),
            self.tags.len(),
            self.gpus.len(),
        ];
        let presented = entries.iter().sum();
        if presented > limits::CAPABILITIES_LEN_MAX {
            return Err(CapabilitiesError::TooMany { presented });
        }
        if let Some(presented) = self.no_room.as_ref().map(String::len).filter(|len| *len > limits::ERROR_BYTES_MAX) {
            return Err(CapabilitiesError::ReasonTooLong { presented });
        }
        let labels = self.labels.iter().flat_map(|(key, value)| [key, value]);
        let named = labels.chain(&self.models).chain(&self.commands).chain(self.gpus.iter().map(|gpu| &gpu.name));
        let longest = named.chain([&self.arch, &self.os, &self.version]).map(String::len).max();
        match longest {
            Some(presented) if presented > limits::NAME_BYTES_MAX => Err(CapabilitiesError::NameTooLong { presented }),
            _ => Ok(()),
        }
    }

    pub(super) fn allows_command(&self, command: &str) -> bool {
        self.commands.contains(Self::ANY_COMMAND) || self.commands.contains(command)
    }

    pub(super) fn allows_tag(&self, tag: Tag) -> bool {
        tag.runs_on_the_mesh() || self.tags.contains(&tag)
    }

    /// The memory of the largest GPU; 0 without one.
    pub(super) fn vram_bytes(&self) -> u64 {
        self.gpus.iter().map(|gpu| gpu.vram_bytes).max().unwrap_or(0)
    }
}

/// A later version may offer kinds that this one does not know, and never asks for.
fn known_kinds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<TaskKind>, D::Error> {
    let names = BTreeSet::<String>::deserialize(deserializer)?;
    Ok(TaskKind::ALL.into_iter().filter(|kind| names.contains(kind.name())).collect())
}

fn known_tags<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Tag>, D::Error> {
    let names = BTreeSet::<String>::deserialize(deserializer)?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_announced_is_not_offered() {
        assert_eq!(serde_json::from_str::<Capabilities>("{}").unwrap(), Capabilities::default());
    }

    #[test]
    fn kinds_and_tags_of_a_later_version_are_passed_over() {
        let later = r#"{"kinds": ["noop", "quantum"], "tags": ["unit_test", "moon-only"], "novel": 1}"#;
        let read: Capabilities = serde_json::from_str(later).unwrap();
        assert_eq!(read.kinds, BTreeSet::from([TaskKind::Noop]));
        assert_eq!(read.tags, BTreeSet::from([Tag::UnitTest]));
    }

    #[test]
    fn capabilities_survive_both_formats() {
        let all = Capabilities {
            labels: BTreeMap::from([("zone".to_owned(), "eu".to_owned())]),
            kinds: TaskKind::ALL.into(),
            models: BTreeSet::from(["minilm".to_owned()]),
            commands: BTreeSet::from(["python3".to_owned()]),
            tags: Tag::ALL.into(),
            gpus: vec![Gpu { name: "H200".to_owned(), vram_bytes: 141 << 30 }],
            cpus: 16,
            memory_bytes: 128 << 30,
            arch: "x86_64".to_owned(),
            os: "linux".to_owned(),
            version: "0.1.0".to_owned(),
            no_room: Some("the disk is full".to_owned()),
        };
        assert_eq!(serde_json::from_value::<Capabilities>(serde_json::to_value(&all).unwrap()).unwrap(), all);
        let packed = rmp_serde::to_vec_named(&all).unwrap();
        assert_eq!(rmp_serde::from_slice::<Capabilities>(&packed).unwrap(), all);
    }

    #[test]
    fn an_announcement_has_bounds() {
        let models =
            |len| Capabilities { models: (0..len).map(|n| n.to_string()).collect(), ..Capabilities::default() };
        assert_eq!(models(limits::CAPABILITIES_LEN_MAX).validate(), Ok(()));
        let presented = limits::CAPABILITIES_LEN_MAX + 1;
        assert_eq!(models(presented).validate(), Err(CapabilitiesError::TooMany { presented }));
        let presented = limits::NAME_BYTES_MAX + 1;
        let reason = |len| Capabilities { no_room: Some("x".repeat(len)), ..Capabilities::default() };
        assert_eq!(reason(limits::ERROR_BYTES_MAX).validate(), Ok(()));
        let too_long = limits::ERROR_BYTES_MAX + 1;
        assert_eq!(reason(too_long).validate(), Err(CapabilitiesError::ReasonTooLong { presented: too_long }));
        let long = Capabilities { arch: "x".repeat(presented), ..Capabilities::default() };
        assert_eq!(long.validate(), Err(CapabilitiesError::NameTooLong { presented }));
    }
}
