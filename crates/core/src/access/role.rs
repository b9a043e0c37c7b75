//! Who speaks at a door.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Who speaks at a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// An admitted node.
    Peer,
    /// An AI agent: submits and reads.
    Agent,
    /// A person: at the control socket, or with a ticket.
    Operator,
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{presented:?} is no role: peer, agent or operator")]
pub struct ParseRoleError {
    pub presented: String,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Peer, Self::Agent, Self::Operator];

    pub fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Agent => "agent",
            Self::Operator => "operator",
        }
    }

    /// How a signed statement writes it.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Peer => 1,
            Self::Agent => 2,
            Self::Operator => 3,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.code() == code)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = ParseRoleError;

    fn from_str(text: &str) -> Result<Self, ParseRoleError> {
        let named = Self::ALL.into_iter().find(|role| role.name() == text);
        named.ok_or_else(|| ParseRoleError { presented: text.chars().take(80).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_survives_its_name_and_its_code_and_nothing_else_is_one() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
            assert_eq!(Role::from_code(role.code()), Some(role));
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{role}\""));
        }
        assert!("root".parse::<Role>().unwrap_err().to_string().contains("peer, agent or operator"));
        assert_eq!((Role::from_code(0), Role::from_code(4)), (None, None));
    }
}
