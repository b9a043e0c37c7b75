//! What every host is told.

use serde_json::{Map, Value, json};

/// A program to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub command: String,
    pub args: Vec<String>,
}

impl Entry {
    /// The fields that are ours; `typed` for hosts that ask for the kind of transport.
    pub fn fields(&self, typed: bool) -> Vec<(&'static str, Value)> {
        let kind = typed.then(|| ("type", json!("stdio")));
        kind.into_iter().chain([("command", json!(self.command)), ("args", json!(self.args))]).collect()
    }

    /// Ours over what a person wrote beside them, as the environment.
    pub fn over(&self, earlier: &Map<String, Value>, typed: bool) -> Vec<(String, Value)> {
        let ours = self.fields(typed);
        let is_ours = |name: &str| ours.iter().any(|(own, _)| *own == name);
        let theirs: Vec<(String, Value)> = earlier
            .iter()
            .filter(|(name, _)| !is_ours(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        ours.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).chain(theirs).collect()
    }
}
