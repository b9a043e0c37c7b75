//! Every tool, said once: lists, categories, search, read-only mode, documentation and the golden files follow from it.

mod core;
mod entry;
pub mod schema;
pub mod search;
mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};

use super::rehearsal;

pub use core::CORE;
pub use entry::{Action, Category, Hints, Reach, Scope, ToolEntry};

/// A tool of the table with its schemas, which are made once.
pub struct Tool {
    pub entry: &'static ToolEntry,
    pub input_schema: Map<String, Value>,
    pub output_schema: Map<String, Value>,
    /// What a list shows of the input.
    pub listed_input: Arc<Map<String, Value>>,
}

/// The table, indexed.
pub struct Catalog {
    tools: Vec<Tool>,
    by_name: BTreeMap<&'static str, usize>,
}

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::of(table::TABLES.into_iter().flatten()));

impl Catalog {
    /// The catalogue of this program, built at the first use.
    pub fn shared() -> &'static Self {
        &CATALOG
    }

    /// The catalogue of a table.
    pub fn of(table: impl IntoIterator<Item = &'static ToolEntry>) -> Self {
        let tools: Vec<Tool> = table.into_iter().map(Tool::of).collect();
        let names = |(place, tool): (usize, &Tool)| {
            tool.entry.aliases.iter().copied().chain([tool.entry.name]).map(move |name| (name, place))
        };
        Self { by_name: tools.iter().enumerate().flat_map(names).collect(), tools }
    }

    /// The tools in the order of the table, which never changes while the program runs.
    pub fn tools(&self) -> &[Tool] {
        &self.tools
    }

    /// The tool of a name or an alias.
    pub fn find(&self, name: &str) -> Option<&Tool> {
        self.by_name.get(name).map(|place| &self.tools[*place])
    }
}

impl Tool {
    fn of(entry: &'static ToolEntry) -> Self {
        let mut input_schema = entry.action.input_schema();
        // Lists leave it out: all that change something have it, and the instructions say so.
        let listed_input = Arc::new(schema::without(&input_schema, entry.rare));
        if rehearsal::has_dry_run(entry) {
            schema::add(&mut input_schema, rehearsal::DRY_RUN, rehearsal::schema());
        }
        Self { entry, output_schema: entry.action.output_schema(), input_schema, listed_input }
    }

    /// The schema of one argument.
    pub fn argument(&self, name: &str) -> Option<&Value> {
        self.input_schema.get("properties")?.get(name)
    }

    /// The names of the arguments.
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        self.input_schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(Map::keys)
            .map(String::as_str)
    }

    /// The names of the arguments that every call has.
    pub fn required(&self) -> impl Iterator<Item = &str> {
        let required = self.input_schema.get("required").and_then(Value::as_array);
        required.into_iter().flatten().filter_map(Value::as_str)
    }

    /// The arguments of a call that is right in form.
    pub fn example(&self) -> Map<String, Value> {
        serde_json::from_str(self.entry.example).expect("a test reads every example of the table")
    }
}
