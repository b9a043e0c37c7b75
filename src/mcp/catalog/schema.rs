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

/// Whether a value is what a schema of ours asks for.
pub fn fits(schema: &Value, value: &Value) -> bool {
    let among = |key: &str| schema.get(key).and_then(Value::as_array);
    let is_a = |kind: &Value| kind.as_str().is_none_or(|kind| is_of(kind, value));
    let has_type = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(is_a),
        Some(kind) => is_a(kind),
        None => true,
    };
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64).zip(value.as_f64());
    has_type
        && among("enum").is_none_or(|words| words.contains(value))
        && schema.get("const").is_none_or(|word| word == value)
        && ["anyOf", "oneOf"].into_iter().filter_map(among).all(|branches| branches.iter().any(|one| fits(one, value)))
        && bound("minimum").is_none_or(|(least, number)| number >= least)
        && bound("maximum").is_none_or(|(most, number)| number <= most)
        && has_fitting_parts(schema, value)
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => true,
    }
}

fn has_fitting_parts(schema: &Value, value: &Value) -> bool {
    match value {
        Value::Array(items) => schema.get("items").is_none_or(|of| items.iter().all(|item| fits(of, item))),
        Value::Object(fields) => {
            let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
            let is_known = |(name, field): (&String, &Value)| match schema.get("properties").and_then(|of| of.get(name))
            {
                Some(_) if field.is_null() => true,
                Some(of) => fits(of, field),
                None => schema.get("additionalProperties").is_none_or(|of| *of != false && fits(of, field)),
            };
            required.filter_map(Value::as_str).all(|name| fields.contains_key(name)) && fields.iter().all(is_known)
        }
        _ => true,
    }
}

/// The schema of what stands at a place as `leases[0].epoch`.
pub fn at<'a>(schema: &'a Value, place: &str) -> Option<&'a Value> {
    place.split(['.', '[']).try_fold(schema, |schema, key| match key.strip_suffix(']') {
        Some(_) => schema.get("items"),
        None => schema.get("properties")?.get(key),
    })
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
        Some(Value::String(kind)) if kind == "object" && schema.get("properties").is_some() => fields(schema),
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

/// The fields of an object, those that may be left out with a question mark.
fn fields(schema: &Value) -> String {
    let required =
        |name: &String| schema["required"].as_array().is_some_and(|names| names.iter().any(|one| one == name));
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let names = properties.map(|(name, _)| if required(name) { name.clone() } else { format!("{name}?") });
    format!("object {{{}}}", names.collect::<Vec<_>>().join(", "))
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
    fn a_value_fits_in_its_kind_its_bounds_and_its_parts() {
        let schema = Value::from(input_of::<Outer>());
        let right = json!({"name": "a", "inner": {"n": 1}, "urgency": 10, "any": [null]});
        assert!(fits(&schema, &right));
        for (name, wrong) in [
            ("name", json!(5)),
            ("inner", json!({})),
            ("inner", json!({"n": "1"})),
            ("urgency", json!(11)),
            ("urgency", json!(1.5)),
        ] {
            let mut document = right.clone();
            document[name] = wrong;
            assert!(!fits(&schema, &document), "{document}");
        }
        let either = json!({"anyOf": [{"enum": ["a"]}, {"type": "array", "items": {"type": "integer"}}]});
        assert!(fits(&either, &json!("a")) && fits(&either, &json!([1])));
        assert!(!fits(&either, &json!("b")) && !fits(&either, &json!(["1"])));
        let closed = json!({"additionalProperties": false, "properties": {"a": {}}});
        assert!(fits(&closed, &json!({"a": 1})) && !fits(&closed, &json!({"b": 1})));
    }

    #[test]
    fn expectations_are_words() {
        let schema = Value::from(input_of::<Outer>());
        assert_eq!(expectation(&schema["properties"]["urgency"]), "integer from 1 to 10");
        assert_eq!(expectation(&json!({"enum": ["a", "b"]})), "one of \"a\", \"b\"");
        assert_eq!(expectation(&schema["properties"]["inner"]), "object {n}");
        let list = json!({"properties": {"rows": {"items": schema}}});
        assert_eq!(at(&list, "rows[3].inner.n").map(expectation).as_deref(), Some("integer"));
        assert_eq!(at(&list, "rows[3].none"), None);
        assert_eq!(expectation(&json!({"anyOf": [{"type": "string"}, {"type": "array"}]})), "string or array");
    }
}
