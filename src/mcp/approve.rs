//! Which calls of a caller wait until a person approves them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::catalog::Catalog;

/// Tools that one token names.
const TOOLS_MAX: usize = 64;

/// What a token says of its holder's calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Approve {
    All(Calls),
    /// These tools, by any of their names; those of mounted servers as `SERVER.NAME`.
    Tools(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Calls {
    /// What takes something away that is there.
    Destructive,
    /// What changes something.
    Writes,
}

/// What a policy looks at of a call.
pub struct CallFacts<'a> {
    pub name: &'a str,
    pub writes: bool,
    pub destructive: bool,
    /// Whether it is known what the tool does; it may be another's that only another node has.
    pub known: bool,
}

impl Approve {
    /// Whether the call waits. What is not known may be anything.
    pub fn holds(&self, call: &CallFacts<'_>) -> bool {
        match self {
            Self::All(Calls::Writes) => call.writes || !call.known,
            Self::All(Calls::Destructive) => call.destructive || !call.known,
            Self::Tools(tools) => !call.known || tools.iter().any(|tool| own_name(tool) == call.name),
        }
    }

    /// Whether its words name something.
    ///
    /// # Errors
    /// Which of the tools there is not.
    pub fn check(&self) -> Result<(), String> {
        let Self::Tools(tools) = self else { return Ok(()) };
        if tools.is_empty() || tools.len() > TOOLS_MAX {
            return Err(format!(
                "approve names {} tools; name 1 to {TOOLS_MAX}, or write destructive or writes",
                tools.len()
            ));
        }
        let unknown = tools.iter().find(|tool| !tool.contains('.') && Catalog::shared().find(tool).is_none());
        unknown.map_or(Ok(()), |tool| {
            Err(format!("approve names {tool:?}, which is no tool: `nodectl tool ls`, or destructive, or writes"))
        })
    }
}

/// The name under which a tool stands in the catalogue.
pub fn own_name(tool: &str) -> &str {
    Catalog::shared().find(tool).map_or(tool, |tool| tool.entry.name)
}

/// `destructive`, `writes`, or names of tools with commas between.
impl FromStr for Approve {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let approve = match text {
            "destructive" => Self::All(Calls::Destructive),
            "writes" => Self::All(Calls::Writes),
            tools => Self::Tools(tools.split(',').map(|tool| tool.trim().to_owned()).collect()),
        };
        approve.check().map(|()| approve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, writes: bool, destructive: bool) -> CallFacts<'_> {
        CallFacts { name, writes, destructive, known: true }
    }

    #[test]
    fn each_policy_holds_what_it_says_and_whatever_is_not_known() {
        let read = |text: &str| text.parse::<Approve>().unwrap();
        let (destructive, writes, named) = (read("destructive"), read("writes"), read("queue_pause, workflow_cancel"));
        for (policy, held) in
            [(&destructive, [false, false, true]), (&writes, [false, true, true]), (&named, [false, true, true])]
        {
            let calls = [
                call("list_peers", false, false),
                call("queue_pause", true, false),
                call("cancel_workflow", true, true),
            ];
            assert_eq!(calls.map(|call| policy.holds(&call)), held, "{policy:?}");
            assert!(policy.holds(&CallFacts { known: false, ..call("of_later", false, false) }), "{policy:?}");
        }
    }

    #[test]
    fn words_that_name_no_tool_are_told() {
        for wrong in ["", "destroy", "queue_pause,nothing"] {
            assert!(wrong.parse::<Approve>().unwrap_err().contains("nodectl tool ls"), "{wrong}");
        }
        assert!("shop.order".parse::<Approve>().is_ok(), "a mounted server may be away");
    }

    #[test]
    fn a_file_says_it_in_a_word_or_a_list() {
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct File {
            approve: Approve,
        }
        for (text, approve) in [
            ("approve = \"writes\"", Approve::All(Calls::Writes)),
            ("approve = [\"queue_pause\"]", Approve::Tools(vec!["queue_pause".to_owned()])),
        ] {
            assert_eq!(toml::from_str::<File>(text).unwrap(), File { approve });
        }
        assert!(toml::from_str::<File>("approve = \"all\"").is_err());
    }
}
