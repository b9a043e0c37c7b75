use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// The codes that executors construct, with their class, outside tests.
fn constructed() -> BTreeSet<(String, &'static str)> {
    let mut found = BTreeSet::new();
    for file in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/executor")) {
        let text = fs::read_to_string(file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (constructor, class) in [("permanent(\"", "permanent"), ("retryable(\"", "transient")] {
            let codes = text.split(constructor).skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(codes.map(|code| (code.to_owned(), class)));
        }
    }
    found
}

#[test]
fn every_error_code_of_an_executor_is_documented_with_its_class() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/attempts.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let codes = constructed();
    assert!(codes.len() > 10, "{codes:?}");
    for (code, class) in codes {
        let documented = rows.iter().any(|row| row.contains(&format!("`{code}`")) && row.contains(class));
        assert!(documented, "docs/attempts.md has no row for {code}, {class}");
    }
}
