//! Tools as a person reads them.

use serde_json::Value;

use super::failure;
use crate::cli::table;
use crate::mcp::catalog::schema::expectation;

pub fn list(tools: &[Value]) -> String {
    let text = |tool: &Value, name: &str| tool[name].as_str().unwrap_or("-").to_owned();
    let row = |tool: &Value| {
        let does = if tool["writes"] == true { "writes" } else { "reads" };
        [text(tool, "name"), text(tool, "category"), does.to_owned(), text(tool, "summary")]
    };
    table::rows(["TOOL", "CATEGORY", "DOES", "SUMMARY"], tools.iter().map(row))
}

pub fn schema(tool: &Value) -> String {
    let text = |name: &str| tool[name].as_str().unwrap_or_default();
    let writes = if tool["writes"] == true { "changes something" } else { "changes nothing" };
    let head = format!("{}: {}\nneeds the scope {}, {writes}\n", text("name"), text("description"), text("scope"));
    let example = format!("\nexample: {}\n", failure::command(text("name"), &tool["example"]));
    format!("{}{}{example}", head, arguments(&tool["input_schema"]))
}

fn arguments(schema: &Value) -> String {
    let Some(properties) = schema["properties"].as_object().filter(|properties| !properties.is_empty()) else {
        return "\nit takes no arguments\n".to_owned();
    };
    let is_required =
        |name: &String| schema["required"].as_array().is_some_and(|names| names.iter().any(|n| n == name));
    let row = |(name, wanted): (&String, &Value)| {
        let needed = if is_required(name) { "yes" } else { "-" };
        let says = wanted["description"].as_str().unwrap_or("-").to_owned();
        [name.clone(), expectation(wanted), needed.to_owned(), says]
    };
    format!("\n{}", table::rows(["ARGUMENT", "TYPE", "NEEDED", "DESCRIPTION"], properties.iter().map(row)))
}
