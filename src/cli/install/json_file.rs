//! An object of servers in JSON with comments, in the midst of what a person wrote.

use serde_json::{Map, Value};

use super::entry::Entry;
use super::jsonc::{self, Object};

/// The file of a host that has nothing else.
pub fn alone(key: &str, entry: &Entry, typed: bool) -> String {
    let servers = member(&entry.name, &object(&entry.over(&Map::new(), typed), "    "));
    format!("{{\n  {}\n}}\n", member(key, &format!("{{\n    {servers}\n  }}")))
}

/// `text` with the entry; all else as it is, or an error: what is written is read again, and must say what was meant.
///
/// # Errors
/// What is wrong with the file, or why it cannot be changed safely.
pub fn with(text: &str, key: &str, entry: &Entry, typed: bool) -> Result<String, String> {
    if text.trim().is_empty() {
        return Ok(alone(key, entry, typed));
    }
    let (Value::Object(mut expected), Some(root)) = jsonc::read(text)? else {
        return Err("it holds no object".to_owned());
    };
    let mut servers = object_in(&expected, key, key)?;
    let earlier = object_in(&servers, &entry.name, &format!("{key}.{}", entry.name))?;
    let wanted = entry.over(&earlier, typed);
    let wanted_value = Value::Object(wanted.iter().cloned().collect());
    if servers.get(&entry.name) == Some(&wanted_value) {
        return Ok(text.to_owned());
    }
    let after = changed(text, &root, key, entry, &wanted);
    servers.insert(entry.name.clone(), wanted_value);
    expected.insert(key.to_owned(), Value::Object(servers));
    match jsonc::read(&after) {
        Ok((read, _)) if read == Value::Object(expected) => Ok(after),
        _ => Err("it is written in a way that cannot be changed safely".to_owned()),
    }
}

fn object_in(object: &Map<String, Value>, key: &str, path: &str) -> Result<Map<String, Value>, String> {
    match object.get(key) {
        None => Ok(Map::new()),
        Some(Value::Object(inner)) => Ok(inner.clone()),
        Some(_) => Err(format!("{path} is no object")),
    }
}

fn changed(text: &str, root: &Object, key: &str, entry: &Entry, wanted: &[(String, Value)]) -> String {
    let Some(servers) = root.member(key).and_then(|member| member.object.as_ref()) else {
        let indent = root.indent(text);
        let inner = format!("{indent}  ");
        let server = member(&entry.name, &object(wanted, &inner));
        return root.with_member(text, &member(key, &format!("{{\n{inner}{server}\n{indent}}}")));
    };
    let indent = servers.indent(text);
    match servers.member(&entry.name) {
        Some(own) => format!("{}{}{}", &text[..own.value.start], object(wanted, &indent), &text[own.value.end..]),
        None => servers.with_member(text, &member(&entry.name, &object(wanted, &indent))),
    }
}

fn member(name: &str, value: &str) -> String {
    format!("{}: {value}", Value::from(name))
}

/// A field a line, in this order, for an object whose own line is indented by `indent`.
fn object(fields: &[(String, Value)], indent: &str) -> String {
    let lines: Vec<String> =
        fields.iter().map(|(name, value)| format!("{indent}  {}", member(name, &value.to_string()))).collect();
    format!("{{\n{}\n{indent}}}", lines.join(",\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry() -> Entry {
        let args = vec!["--flat".to_owned()];
        Entry { name: "magpie".to_owned(), command: "/bin/node-mcp".to_owned(), args }
    }

    fn installed(text: &str) -> String {
        let after = with(text, "mcpServers", &entry(), false).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        assert_eq!(with(&after, "mcpServers", &entry(), false).unwrap(), after, "twice is once");
        let own = &jsonc::read(&after).unwrap().0["mcpServers"]["magpie"];
        assert_eq!((&own["command"], &own["args"]), (&json!("/bin/node-mcp"), &json!(["--flat"])));
        after
    }

    #[test]
    fn an_entry_is_added_in_the_file_s_own_form_and_comments_stay() {
        let before = "// mine\n{\n    \"theme\": \"dark\", // at night\n    \"mcpServers\": {\n        \"docs\": {\n            \
                      \"command\": \"npx\", /* or bunx */\n        }, // more to come\n    },\n}\n";
        let after = "// mine\n{\n    \"theme\": \"dark\", // at night\n    \"mcpServers\": {\n        \"docs\": {\n            \
                     \"command\": \"npx\", /* or bunx */\n        }, // more to come\n        \"magpie\": {\n          \
                     \"command\": \"/bin/node-mcp\",\n          \"args\": [\"--flat\"]\n        }\n    },\n}\n";
        assert_eq!(installed(before), after);
    }

    #[test]
    fn every_shape_of_a_file_is_taken() {
        for text in [
            "",
            " \n",
            "{}",
            "{ }\n",
            "{ // empty\n}",
            "{\"a\": 1}",
            "{\"a\": [1, 2, {\"b\": null}] /* last */ }",
            "{\"mcpServers\": {}}",
            "{\"mcpServers\": {\"docs\": {}}}",
            "{\n\t\"mcpServers\": {\n\t\t\"docs\": {}, // one\n\t\t// and no other\n\t}\n}",
            "{\"mcpServers\": {\"magpie\": {\"command\": \"old\"}}, \"z\": \"}\"}",
            "{\"s\": \"a // b /* c */ \\\" {\", \"mcpServers\": {\"docs\": {\"n\": -1.5e3}}}",
            "\u{feff}{\"a\": 1}",
        ] {
            installed(text);
        }
    }

    #[test]
    fn what_a_person_added_to_the_entry_stays() {
        let before =
            r#"{"mcpServers": {"magpie": {"command": "old", "env": {"MAGPIE_LOG": "warn"}, "disabled": true}}}"#;
        let own = jsonc::read(&installed(before)).unwrap().0["mcpServers"]["magpie"].clone();
        assert_eq!((&own["env"]["MAGPIE_LOG"], &own["disabled"]), (&json!("warn"), &json!(true)));
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        for (text, told) in [
            ("{", "line 1"),
            ("{\n  \"a\": 1,,\n}", "line 2"),
            ("{\"a\": tru}", "line 1"),
            ("{\"a\": 1} x", "line 1"),
            ("{\"a\": 1, \"a\": 2}", "\"a\" is there twice"),
            ("[]", "it holds no object"),
            ("{\"mcpServers\": []}", "mcpServers is no object"),
            ("{\"mcpServers\": {\"magpie\": 7}}", "mcpServers.magpie is no object"),
            ("{\"a\": \"\n\"}", "line 1"),
            ("{ /* no end", "line 1"),
        ] {
            let problem = with(text, "mcpServers", &entry(), false).unwrap_err();
            assert!(problem.contains(told), "{text}: {problem}");
        }
        let deep = "[".repeat(10_000);
        assert!(with(&deep, "mcpServers", &entry(), false).unwrap_err().contains("deep"));
    }
}
