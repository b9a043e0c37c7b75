//! The models of the mesh: those that a device has loaded. No other is known here, so none is recommended.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::detail::page;
use super::machines::{self, Hardware, Machine};
use super::task_queue::own_kind;
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::PATIENCE;

/// What the models that devices load are for.
const TASK: &str = "embed";
const ADDING: &str = "a model is added where its weights are: in the configuration of a node, under [inference]";

#[derive(Serialize, JsonSchema)]
struct ModelRow {
    model: String,
    /// The kind of task it is for.
    task: &'static str,
    /// What the machines that have it loaded offer.
    hardware: Vec<Hardware>,
    peers: Vec<String>,
}

/// Every model that is loaded somewhere, by name.
fn loaded<'a>(machines: &'a [Machine<'a>]) -> Vec<ModelRow> {
    let mut rows: BTreeMap<&str, ModelRow> = BTreeMap::new();
    for machine in machines {
        for model in &machine.capabilities.models {
            let new = || ModelRow { model: model.clone(), task: TASK, hardware: Vec::new(), peers: Vec::new() };
            let row = rows.entry(model).or_insert_with(new);
            row.peers.push(machine.peer_id.to_string());
            let has = [Hardware::Cpu, Hardware::Cuda].into_iter().filter(|hardware| machine.has(*hardware));
            row.hardware.extend(has);
            row.hardware.sort_unstable();
            row.hardware.dedup();
        }
    }
    rows.into_values().collect()
}

pub struct SearchModels;

#[derive(Deserialize, JsonSchema)]
pub struct SearchModelsInput {
    /// Part of a name.
    query: Option<String>,
    /// {task}.
    filter: Option<ModelFilter>,
    /// At most 100.
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct ModelFilter {
    task: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct SearchModelsOutput {
    ok: bool,
    models: Vec<ModelRow>,
    total: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    /// Where none fits: how one comes to be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl Handler for SearchModels {
    type Input = SearchModelsInput;
    type Output = SearchModelsOutput;

    async fn call(&self, input: SearchModelsInput, call: &Call<'_>) -> Result<SearchModelsOutput, ToolError> {
        let status = call.link.status(PATIENCE).await?;
        let task = input.filter.and_then(|filter| filter.task);
        let words: Vec<String> = input.query.iter().flat_map(|query| query.split_whitespace()).map(lower).collect();
        let mut models = loaded(&machines::alive(&status));
        models.retain(|row| task.as_ref().is_none_or(|task| own_kind(task) == row.task));
        // A model's name is matched by any of the words, since the others may say what it is for.
        models.retain(|row| words.is_empty() || words.iter().any(|word| lower(&row.model).contains(word.as_str())));
        let total = models.len();
        let (models, next_cursor) = page(models, input.cursor.as_deref(), input.limit)?;
        let why = (total == 0).then(|| format!("no node that is alive has such a model loaded; {ADDING}"));
        Ok(SearchModelsOutput { ok: true, models, total, next_cursor, why })
    }
}

fn lower(word: &str) -> String {
    word.to_lowercase()
}

pub struct RecommendModels;

#[derive(Deserialize, JsonSchema)]
pub struct RecommendModelsInput {
    /// As embed; any unless said.
    task: Option<String>,
    /// cpu or cuda; any unless said.
    hardware: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct RecommendModelsOutput {
    ok: bool,
    /// The one on the most machines is the first.
    recommendations: Vec<ModelRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl Handler for RecommendModels {
    type Input = RecommendModelsInput;
    type Output = RecommendModelsOutput;

    async fn call(&self, input: RecommendModelsInput, call: &Call<'_>) -> Result<RecommendModelsOutput, ToolError> {
        let hardware = input.hardware.as_deref().map(|name| Hardware::named("hardware", name)).transpose()?;
        let status = call.link.status(PATIENCE).await?;
        let mut machines = machines::alive(&status);
        machines.retain(|machine| hardware.is_none_or(|hardware| machine.has(hardware)));
        let mut recommendations = loaded(&machines);
        recommendations.retain(|row| input.task.as_ref().is_none_or(|task| own_kind(task) == row.task));
        recommendations.sort_by_key(|row| std::cmp::Reverse(row.peers.len()));
        recommendations.truncate(super::detail::LIMIT);
        let why = recommendations.is_empty().then(|| format!("the mesh has no model for that; {ADDING}"));
        Ok(RecommendModelsOutput { ok: true, recommendations, why })
    }
}

pub struct CheckModel;

#[derive(Deserialize, JsonSchema)]
pub struct CheckModelInput {
    model: String,
    /// cpu or cuda; any unless said.
    hardware: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct CheckModelOutput {
    ok: bool,
    model: String,
    /// Whether a task with this model runs now.
    compatible: bool,
    /// Machines that have it loaded, on such hardware.
    peers: Vec<String>,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Next>,
}

impl Handler for CheckModel {
    type Input = CheckModelInput;
    type Output = CheckModelOutput;

    async fn call(&self, input: CheckModelInput, call: &Call<'_>) -> Result<CheckModelOutput, ToolError> {
        let hardware = input.hardware.as_deref().map(|name| Hardware::named("hardware", name)).transpose()?;
        let status = call.link.status(PATIENCE).await?;
        let machines = machines::alive(&status);
        let having: Vec<&Machine<'_>> = machines.iter().filter(|machine| machine.has_model(&input.model)).collect();
        let on_it = having.iter().filter(|machine| hardware.is_none_or(|hardware| machine.has(hardware)));
        let peers: Vec<String> = on_it.map(|machine| machine.peer_id.to_string()).collect();
        let why = match (having.is_empty(), peers.is_empty()) {
            (true, _) => format!("no node that is alive has it loaded; {ADDING}"),
            (false, true) => "it is loaded, but on no machine with that hardware".to_owned(),
            (false, false) => "it is loaded there".to_owned(),
        };
        let next = peers.is_empty().then(|| Next::new("search_models", json!({}), 0));
        Ok(CheckModelOutput { ok: true, compatible: !peers.is_empty(), model: input.model, peers, why, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::ids::PeerId;
    use magpie_core::matching::{Capabilities, Gpu};

    #[test]
    fn a_model_is_listed_once_with_all_that_have_it() {
        let models = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let small = Capabilities { models: models(&["a", "b"]), ..Capabilities::default() };
        let large = Capabilities { models: models(&["b"]), gpus: vec![Gpu::default()], ..Capabilities::default() };
        let machine = |id: u8, own, capabilities| Machine {
            peer_id: PeerId([id; 32]),
            own,
            free: Default::default(),
            capabilities,
        };
        let machines = [machine(1, true, &small), machine(2, false, &large)];
        let rows = loaded(&machines);
        let shown: Vec<(&str, usize, usize)> =
            rows.iter().map(|row| (row.model.as_str(), row.peers.len(), row.hardware.len())).collect();
        assert_eq!(shown, [("a", 1, 1), ("b", 2, 2)]);
    }
}
