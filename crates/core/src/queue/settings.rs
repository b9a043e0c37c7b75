//! What a node's configuration says about the order of work at its home. Handed over when the ledger opens.

use std::collections::BTreeMap;

use crate::limits;

/// Settings of one home. The default has no namespace before another.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueueSettings {
    /// Shares of grants by namespace; one that is not named has [`Self::WEIGHT_DEFAULT`].
    pub weights: BTreeMap<String, u32>,
}

impl QueueSettings {
    pub const WEIGHT_DEFAULT: u32 = 1;

    pub fn weight(&self, namespace: &str) -> u32 {
        self.weights.get(namespace).copied().unwrap_or(Self::WEIGHT_DEFAULT)
    }

    /// # Errors
    /// The first setting out of bounds, beginning with its name.
    pub fn validate(&self) -> Result<(), String> {
        if self.weights.len() > limits::QUEUE_SETTINGS_MAX {
            return Err(format!(
                "namespaces has {} entries: at most {}",
                self.weights.len(),
                limits::QUEUE_SETTINGS_MAX
            ));
        }
        for (namespace, weight) in &self.weights {
            check_name(namespace)?;
            if !(1..=limits::NAMESPACE_WEIGHT_MAX).contains(weight) {
                let most = limits::NAMESPACE_WEIGHT_MAX;
                return Err(format!("{namespace} is {weight}: a namespace's weight is 1 to {most}"));
            }
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > limits::NAME_BYTES_MAX {
        return Err(format!("{name:?} is no name: use 1 to {} bytes", limits::NAME_BYTES_MAX));
    }
    Ok(())
}
