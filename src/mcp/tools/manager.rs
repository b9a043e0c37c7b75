//! Tools that find and call the others: a list of five instead of one of hundreds.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::detail::page;
use super::mounts::{self, MountedName};
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::catalog::search::{self, Found, Said};
use crate::mcp::catalog::{Category, Hints, Tool};
use crate::mcp::fit::ANSWER_BYTES_MAX;
use crate::mcp::handler::{Call, Handler};
use crate::mcp::rehearsal::DRY_RUN;
use crate::mcp::text;
use crate::messages::mount::MountedTool;

/// Tools that one call shows the schemas of.
const SCHEMAS_MAX: usize = 5;
/// What the schemas of one answer take; the names of the others follow.
const SCHEMAS_BYTES_MAX: usize = ANSWER_BYTES_MAX - 512;
/// Of what a tool is for, in a list.
const SUMMARY_BYTES_MAX: usize = 240;

pub struct ListCategories;

#[derive(Deserialize, JsonSchema)]
pub struct NoInput {}

#[derive(Serialize, JsonSchema)]
pub struct CategoriesOutput {
    categories: Vec<CategoryRow>,
}

#[derive(Serialize, JsonSchema)]
struct CategoryRow {
    name: String,
    description: String,
    tools: usize,
}

impl Handler for ListCategories {
    type Input = NoInput;
    type Output = CategoriesOutput;

    async fn call(&self, _: NoInput, call: &Call<'_>) -> Result<CategoriesOutput, ToolError> {
        let row = |category: Category| CategoryRow {
            name: category.name().to_owned(),
            description: category.description().to_owned(),
            tools: call.surface.reachable().filter(|tool| tool.entry.category == category).count(),
        };
        let rows = Category::ALL.into_iter().map(row).filter(|row| row.tools > 0);
        let mut categories: Vec<CategoryRow> = rows.collect();
        let mounted = mounts::described(call).await.into_iter();
        categories.extend(mounted.map(|(name, description, tools)| CategoryRow { name, description, tools }));
        Ok(CategoriesOutput { categories })
    }
}

pub struct ListTools;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ListDetail {
    Name,
    #[default]
    Summary,
}

#[derive(Deserialize, JsonSchema)]
pub struct ListToolsInput {
    category: Option<String>,
    /// Words of what you want to do.
    query: Option<String>,
    #[serde(default)]
    #[schemars(with = "Option<ListDetail>")]
    detail: ListDetail,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct ListToolsOutput {
    tools: Vec<ToolRow>,
    total: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct ToolRow {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    /// Call it with tools_dispatch, not tools_dispatch_read.
    writes: bool,
}

/// A tool that this client may find: of the node, or of a server that it mounts.
enum Findable {
    Own(&'static Tool),
    Mounted(Box<MountedTool>),
}

impl Found for Findable {
    fn said(&self) -> Said<'_> {
        match self {
            Self::Own(tool) => tool.said(),
            Self::Mounted(tool) => Said {
                names: vec![&tool.tool],
                keywords: &[],
                title: &tool.title,
                description: &tool.description,
                category: &tool.server,
            },
        }
    }
}

impl ToolRow {
    fn of(tool: &Findable, detail: ListDetail) -> Self {
        let (name, writes) = match tool {
            Findable::Own(tool) => (tool.entry.name.to_owned(), tool.entry.writes()),
            Findable::Mounted(tool) => (tool.full_name(), !tool.read_only),
        };
        let (said, summary) = (tool.said(), detail == ListDetail::Summary);
        let text = || text::beginning(first_sentence(said.description), SUMMARY_BYTES_MAX).to_owned();
        Self { name, category: summary.then(|| said.category.to_owned()), summary: summary.then(text), writes }
    }
}

fn first_sentence(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.split_once(". ").map_or(line, |(first, _)| first)
}

impl Handler for ListTools {
    type Input = ListToolsInput;
    type Output = ListToolsOutput;

    async fn call(&self, input: ListToolsInput, call: &Call<'_>) -> Result<ListToolsOutput, ToolError> {
        let findable = findable(input.category.as_deref(), call).await?;
        let tools: Vec<&Findable> = match input.query.as_deref().filter(|query| !query.trim().is_empty()) {
            Some(query) => search::ranked(&findable, query),
            None => findable.iter().collect(),
        };
        let total = tools.len();
        let (tools, next_cursor) = page(tools, input.cursor.as_deref(), None)?;
        Ok(ListToolsOutput {
            tools: tools.iter().map(|tool| ToolRow::of(tool, input.detail)).collect(),
            total,
            next_cursor,
        })
    }
}

/// The tools of a category, or all: the node's own first.
async fn findable(category: Option<&str>, call: &Call<'_>) -> Result<Vec<Findable>, ToolError> {
    let in_category = |tool: &&Tool| category.is_none_or(|category| tool.entry.category.name() == category);
    let mut found: Vec<Findable> = call.surface.reachable().filter(in_category).map(Findable::Own).collect();
    if category.is_none() || found.is_empty() {
        let mounted = mounts::offered(call, category).await.into_iter();
        found.extend(mounted.map(|tool| Findable::Mounted(Box::new(tool))));
    }
    match category.filter(|_| found.is_empty()) {
        Some(name) => known_category(name, call).await.map(|()| found),
        None => Ok(found),
    }
}

/// Whether a category without a tool is one at all: a server that is down may have none.
async fn known_category(name: &str, call: &Call<'_>) -> Result<(), ToolError> {
    let mut known: Vec<String> = call.surface.reachable().map(|tool| tool.entry.category.name().to_owned()).collect();
    known.dedup();
    known.extend(mounts::described(call).await.into_iter().map(|(server, ..)| server));
    let found = known.iter().any(|known| known == name).then_some(());
    found.ok_or_else(|| {
        let shown: String = name.chars().take(40).collect();
        let expected = format!("one of {}", known.join(", "));
        let fix = "name one of them, or leave category out";
        ToolError::wrong_argument("category", format!("there is no category {shown:?}"), &expected, fix)
            .next(Next::new("tools_list_categories", json!({}), 0))
    })
}

pub struct GetSchema;

#[derive(Deserialize, JsonSchema)]
pub struct GetSchemaInput {
    /// At most 5.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    names: Vec<String>,
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a list of tools' names")]
    enum Names {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Names::deserialize(deserializer)? {
        Names::One(name) => vec![name],
        Names::Many(names) => names,
    })
}

#[derive(Serialize, JsonSchema)]
pub struct GetSchemaOutput {
    tools: Vec<ToolSchema>,
    /// Named, but not shown for want of room: ask for them by themselves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Next>,
}

#[derive(Serialize, JsonSchema)]
struct ToolSchema {
    name: String,
    category: String,
    title: String,
    description: String,
    scope: String,
    writes: bool,
    #[schemars(with = "Map<String, Value>")]
    annotations: Hints,
    #[schemars(with = "Map<String, Value>")]
    input_schema: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    output_schema: Option<Value>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    aliases: &'static [&'static str],
    /// Other names of arguments, and what they are here.
    #[serde(skip_serializing_if = "Map::is_empty")]
    also_accepts: Map<String, Value>,
    /// Of a tool of the node itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    example: Option<Map<String, Value>>,
}

impl ToolSchema {
    fn of(tool: &Tool) -> Self {
        let also = tool.entry.also.iter().filter(|(_, own)| !own.is_empty());
        Self {
            name: tool.entry.name.to_owned(),
            category: tool.entry.category.name().to_owned(),
            title: tool.entry.title.to_owned(),
            description: tool.entry.description.to_owned(),
            scope: tool.entry.scope.name().to_owned(),
            writes: tool.entry.writes(),
            annotations: tool.entry.hints,
            input_schema: Value::Object(tool.input_schema.clone()),
            output_schema: Some(Value::Object(tool.output_schema.clone())),
            aliases: tool.entry.aliases,
            also_accepts: also.map(|(other, own)| ((*other).to_owned(), (*own).into())).collect(),
            example: Some(tool.example()),
        }
    }

    fn of_mounted(tool: MountedTool) -> Self {
        let MountedTool { read_only, destructive, idempotent, open_world, .. } = tool;
        Self {
            name: tool.full_name(),
            category: tool.server,
            title: tool.title,
            description: tool.description,
            scope: tool.scope,
            writes: !read_only,
            annotations: Hints { read_only, destructive, idempotent, open_world },
            input_schema: tool.input_schema.to_value(),
            output_schema: tool.output_schema.map(|schema| schema.to_value()),
            aliases: &[],
            also_accepts: Map::new(),
            example: None,
        }
    }

    async fn named(name: &str, call: &Call<'_>) -> Result<Self, ToolError> {
        match MountedName::of(name).filter(|_| call.surface.reaches_mounts()) {
            Some(mounted) => mounted.find(call).await.map(|tool| Self::of_mounted(Arc::unwrap_or_clone(tool))),
            None => call.surface.find(name).map(Self::of),
        }
    }
}

impl Handler for GetSchema {
    type Input = GetSchemaInput;
    type Output = GetSchemaOutput;

    async fn call(&self, input: GetSchemaInput, call: &Call<'_>) -> Result<GetSchemaOutput, ToolError> {
        if input.names.is_empty() || input.names.len() > SCHEMAS_MAX {
            let problem = format!("{} names", input.names.len());
            let first: Vec<&String> = input.names.iter().take(SCHEMAS_MAX).collect();
            let fix = format!("name 1 to {SCHEMAS_MAX} tools, as tools_list_tools shows them");
            return Err(ToolError::wrong_argument("names", problem, "1 to 5 names", fix).next(if first.is_empty() {
                Next::new("tools_list_tools", json!({}), 0)
            } else {
                Next::new("tools_get_schema", json!({"names": first}), 0)
            }));
        }
        let (mut tools, mut left_out, mut bytes) = (Vec::new(), Vec::new(), 0);
        for name in &input.names {
            let schema = ToolSchema::named(name, call).await?;
            bytes += json!(schema).to_string().len();
            if tools.is_empty() || bytes <= SCHEMAS_BYTES_MAX {
                tools.push(schema);
            } else {
                left_out.push(schema.name);
            }
        }
        let next = (!left_out.is_empty()).then(|| Next::new("tools_get_schema", json!({"names": left_out}), 0));
        Ok(GetSchemaOutput { tools, left_out, next })
    }
}

/// A call of a tool by its name.
#[derive(Deserialize, JsonSchema)]
pub struct DispatchInput {
    pub name: String,
    /// As tools_get_schema says.
    #[serde(default, deserialize_with = "object_or_its_text")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub arguments: Map<String, Value>,
    /// Repeat it, and nothing is done twice.
    pub idempotency_key: Option<String>,
    /// Wait for the result, at most 25000.
    pub wait_ms: Option<u64>,
    /// Check all of it, and change nothing.
    pub dry_run: Option<bool>,
}

/// Models write the arguments as JSON in a string now and then.
pub(super) fn object_or_its_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Object(arguments) => Ok(arguments),
        Value::Null => Ok(Map::new()),
        Value::String(text) => serde_json::from_str(&text)
            .map_err(|_| serde::de::Error::invalid_type(serde::de::Unexpected::Str(&text), &"object")),
        other => Err(serde::de::Error::custom(format_args!("invalid type: {other}, expected object"))),
    }
}

impl DispatchInput {
    /// The arguments of the tool itself. A tool that answers at once, or changes nothing, needs no `wait_ms`,
    /// no key and no dry run.
    ///
    /// # Errors
    /// If a key stands in both places and is not the same.
    pub fn arguments_for(self, target: &Tool) -> Result<Map<String, Value>, ToolError> {
        let mut arguments = self.arguments;
        let key = self.idempotency_key.map(Value::from);
        if let (Some(outer), Some(inner)) = (&key, arguments.get("idempotency_key"))
            && outer != inner
        {
            let fix = "give idempotency_key once";
            return Err(ToolError::wrong_argument("idempotency_key", "two keys for one call", "one string", fix));
        }
        let wait_ms = self.wait_ms.map(Value::from);
        let dry_run = self.dry_run.map(Value::from);
        for (name, value) in [("idempotency_key", key), ("wait_ms", wait_ms), (DRY_RUN, dry_run)] {
            if let Some(value) = value.filter(|_| target.argument(name).is_some()) {
                arguments.entry(name).or_insert(value);
            }
        }
        Ok(arguments)
    }
}

/// What a dispatched tool gives.
#[derive(Serialize, JsonSchema)]
pub struct DispatchOutput {}
