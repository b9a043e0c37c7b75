//! A table of servers in TOML, in the midst of what a person wrote.

use toml::{Table, Value};

use super::entry::Entry;

const KEY: &str = "mcp_servers";

/// The file of a host that has nothing else.
pub fn alone(entry: &Entry) -> String {
    section(entry, &Table::new())
}

/// `text` with the entry; all else as it is, or an error: what is written is read again, and must say what was meant.
///
/// # Errors
/// What is wrong with the file, or why it cannot be changed safely.
pub fn with(text: &str, entry: &Entry) -> Result<String, String> {
    let before: Table = toml::from_str(text).map_err(|error| format!("it is no TOML: {}", error.message()))?;
    let servers = match before.get(KEY) {
        None => Table::new(),
        Some(Value::Table(servers)) => servers.clone(),
        Some(_) => return Err(format!("{KEY} is no table")),
    };
    let earlier = match servers.get(&entry.name) {
        None => None,
        Some(Value::Table(earlier)) => Some(earlier),
        Some(_) => return Err(format!("{KEY}.{} is no table", entry.name)),
    };
    let wanted = merged(entry, earlier.unwrap_or(&Table::new()));
    if earlier == Some(&wanted) {
        return Ok(text.to_owned());
    }
    let section = section(entry, earlier.unwrap_or(&Table::new()));
    let after = match (earlier, place(text, &entry.name)) {
        (None, _) => appended(text, &section),
        (Some(_), Some(place)) => format!("{}{section}{}", &text[..place.start], &text[place.end..]),
        (Some(_), None) => return Err(format!("the table {KEY}.{} is not written as one", entry.name)),
    };
    let mut expected = before;
    let mut servers = servers;
    servers.insert(entry.name.clone(), Value::Table(wanted));
    expected.insert(KEY.to_owned(), Value::Table(servers));
    match toml::from_str::<Table>(&after) {
        Ok(read) if read == expected => Ok(after),
        _ => Err("it is written in a way that cannot be changed safely".to_owned()),
    }
}

/// Ours over what is there.
fn merged(entry: &Entry, earlier: &Table) -> Table {
    let args = entry.args.iter().cloned().map(Value::String).collect();
    let ours = [("command", Value::String(entry.command.clone())), ("args", Value::Array(args))];
    let mut merged = earlier.clone();
    merged.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    merged
}

/// The table with its plain fields. Tables below it, as its environment, stand under headers of their own.
fn section(entry: &Entry, earlier: &Table) -> String {
    let merged = merged(entry, earlier);
    let mut text = format!("[{KEY}.{}]\n", entry.name);
    let ours = ["command", "args"];
    let theirs = merged.keys().map(String::as_str).filter(|name| !ours.contains(name));
    for name in ours.into_iter().chain(theirs) {
        match &merged[name] {
            Value::Table(_) => {}
            value => text += &format!("{} = {value}\n", key(name)),
        }
    }
    text
}

fn key(name: &str) -> String {
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    if !name.is_empty() && name.chars().all(is_bare) { name.to_owned() } else { Value::from(name).to_string() }
}

fn appended(text: &str, section: &str) -> String {
    match text.trim_end() {
        "" => section.to_owned(),
        head => format!("{head}\n\n{section}"),
    }
}

/// From the table's header to the next, without the blank lines and comments that belong to that one.
fn place(text: &str, name: &str) -> Option<std::ops::Range<usize>> {
    let header = format!("[{KEY}.{name}]");
    let (mut start, mut end, mut at) = (None, text.len(), 0);
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        match start {
            None if trimmed == header => (start, end) = (Some(at), at + line.len()),
            None => {}
            Some(_) if trimmed.starts_with('[') => break,
            Some(_) if trimmed.is_empty() || trimmed.starts_with('#') => {}
            Some(_) => end = at + line.len(),
        }
        at += line.len();
    }
    start.map(|start| start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(args: &[&str]) -> Entry {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Entry { name: "magpie".to_owned(), command: "/bin/node-mcp".to_owned(), args }
    }

    #[test]
    fn an_entry_is_added_once_and_all_else_stays() {
        let before = "# mine\nmodel = \"o\" # the best\n\n[mcp_servers.docs]\ncommand = \"npx\"\n";
        let after = with(before, &entry(&[])).unwrap();
        assert_eq!(after, format!("{before}\n[mcp_servers.magpie]\ncommand = \"/bin/node-mcp\"\nargs = []\n"));
        assert_eq!(with(&after, &entry(&[])).unwrap(), after, "twice is once");
        assert_eq!(with("", &entry(&[])).unwrap(), alone(&entry(&[])));
    }

    #[test]
    fn an_entry_is_changed_where_it_stands_and_keeps_what_a_person_added() {
        let before = "[mcp_servers.magpie]\ncommand = \"old\"\nenabled = false\n\n# of the next\n[mcp_servers.magpie.env]\n\
                      MAGPIE_LOG = \"warn\"\n\n[tui]\n";
        let after = with(before, &entry(&["--flat"])).unwrap();
        let expected = "[mcp_servers.magpie]\ncommand = \"/bin/node-mcp\"\nargs = [\"--flat\"]\nenabled = false\n\n\
                        # of the next\n[mcp_servers.magpie.env]\nMAGPIE_LOG = \"warn\"\n\n[tui]\n";
        assert_eq!(after, expected);
    }

    #[test]
    fn what_cannot_be_changed_safely_is_left_alone() {
        for (text, told) in [
            ("model = ", "it is no TOML"),
            ("mcp_servers = 7", "mcp_servers is no table"),
            ("mcp_servers = {docs = {command = \"x\"}}", "cannot be changed safely"),
            ("[mcp_servers]\nmagpie = {command = \"x\"}", "is not written as one"),
            ("a = '''\n[mcp_servers.magpie]\n'''\n[mcp_servers]\nmagpie.command = 'x'", "cannot be changed safely"),
        ] {
            let problem = with(text, &entry(&[])).unwrap_err();
            assert!(problem.contains(told), "{text}: {problem}");
        }
    }
}
