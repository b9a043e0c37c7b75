//! JSON Schemas as models and clients read them best: draft 2020-12, inline, without what says nothing.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Formats that clients know; the others (`uint32`, `double`, ...) make them warn at every validation.
const FORMATS: [&str; 4] = ["date-time", "date", "time", "uri"];

/// The schema of what a tool takes.
pub fn input_of<T: JsonSchema>() -> Map<String, Value> {
    of::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

/// The schema of what a tool gives.
pub fn output_of<T: JsonSchema>() -> Map<String, Value> {
    of::<T>(SchemaSettings::draft2020_12().for_serialize())
}

fn of<T: JsonSchema>(mut settings: SchemaSettings) -> Map<String, Value> {
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    simplify(&mut schema);
    let mut schema = match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    };
    schema.remove("description");
    schema.insert("type".to_owned(), "object".into());
    schema
}

/// Takes out titles, unknown formats, empty defaults, `null` as a type: an absent value says the same.
fn simplify(schema: &mut Value) {
    if schema == &Value::Bool(true) {
        *schema = json!({});
    }
    let Value::Object(fields) = schema else { return };
    fields.retain(|key, value| !says_nothing(key, value));
    drop_null(fields);
    lift_option(fields);
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(simplify);
    }
    for key in ["items", "additionalProperties"] {
        fields.get_mut(key).into_iter().for_each(simplify);
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        fields.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().for_each(simplify);
    }
}

fn says_nothing(key: &str, value: &Value) -> bool {
    let is_empty = || value == &json!([]) || value == &json!(0) || value == &json!(false) || value.is_null();
    match key {
        "$schema" | "title" => true,
        "format" => !FORMATS.iter().any(|known| value == known),
        "minimum" => value == 0,
        "default" => is_empty(),
        "additionalProperties" => value == true,
        _ => false,
    }
}

fn drop_null(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(words)) = fields.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    let Some(Value::Array(types)) = fields.get_mut("type") else { return };
    types.retain(|name| name != "null");
    if let [only] = types.as_slice() {
        let only = only.clone();
        fields.insert("type".to_owned(), only);
    }
}

/// `anyOf: [T, null]` is `T`.
fn lift_option(fields: &mut Map<String, Value>) {
    let Some(Value::Array(branches)) = fields.get("anyOf") else { return };
    let mut others = branches.iter().filter(|branch| branch.get("type").is_none_or(|name| name != "null"));
    if let (Some(Value::Object(only)), None, true) = (others.next(), others.next(), branches.len() == 2) {
        let lifted = only.clone();
        fields.remove("anyOf");
        for (key, value) in lifted {
            fields.entry(key).or_insert(value);
        }
    }
}

/// An input's schema as a list shows it: without the arguments that are `rare`, which are taken all the same.
pub fn without(schema: &Map<String, Value>, rare: &[&str]) -> Map<String, Value> {
    let mut outline = schema.clone();
    if let Some(Value::Object(properties)) = outline.get_mut("properties") {
        properties.retain(|name, _| !rare.contains(&name.as_str()));
    }
    outline
}

/// Adds an argument that may be left out.
pub fn add(schema: &mut Map<String, Value>, name: &str, argument: Value) {
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    if let Value::Object(properties) = properties {
        properties.insert(name.to_owned(), argument);
    }
}

/// What a schema asks for, in words.
pub fn expectation(schema: &Value) -> String {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        return format!("one of {}", words.join(", "));
    }
    if let Some(Value::Array(branches)) = schema.get("anyOf").or(schema.get("oneOf")) {
        let words: Vec<String> = branches.iter().map(expectation).collect();
        return words.join(" or ");
    }
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        _ => schema.get("const").map_or_else(|| "any JSON".to_owned(), ToString::to_string),
    };
    match (schema.get("minimum"), schema.get("maximum")) {
        (Some(least), Some(most)) => format!("{kind} from {least} to {most}"),
        (Some(least), None) => format!("{kind} of at least {least}"),
        _ => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize, serde::Deserialize, JsonSchema)]
    struct Inner {
        n: u64,
    }

    #[derive(serde::Serialize, serde::Deserialize, JsonSchema)]
    struct Outer {
        /// Said.
        name: Option<String>,
        inner: Option<Inner>,
        #[schemars(range(min = 1, max = 10))]
        urgency: Option<u8>,
        any: serde_json::Value,
    }

    #[test]
    fn schemas_hold_nothing_that_says_nothing() {
        let schema = Value::from(input_of::<Outer>());
        let text = schema.to_string();
        for noise in ["$schema", "title", "uint", "null", "$ref"] {
            assert!(!text.contains(noise), "{noise} in {text}");
        }
        assert_eq!(schema["properties"]["name"], json!({"type": "string", "description": "Said."}));
        assert_eq!(schema["properties"]["inner"]["properties"]["n"]["type"], "integer");
        assert_eq!(schema["properties"]["any"], json!({}));
    }

    #[test]
    fn a_list_leaves_out_rare_arguments_only() {
        let listed = without(&input_of::<Outer>(), &["inner", "any"]);
        let names: Vec<&String> = listed["properties"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["name", "urgency"]);
    }

    #[test]
    fn expectations_are_words() {
        let schema = Value::from(input_of::<Outer>());
        assert_eq!(expectation(&schema["properties"]["urgency"]), "integer from 1 to 10");
        assert_eq!(expectation(&json!({"enum": ["a", "b"]})), "one of \"a\", \"b\"");
        assert_eq!(expectation(&json!({"anyOf": [{"type": "string"}, {"type": "array"}]})), "string or array");
    }
}
