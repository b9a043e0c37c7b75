//! Columns for people: no frames, no colours, no wrapping, so that `grep` and `awk` work too.

use comfy_table::{ContentArrangement, Table, presets};

/// Rows under a header in capitals.
pub fn rows<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = bare();
    table.set_header(header);
    table.add_rows(rows.into_iter().map(|row| row.map(|cell| printable(&cell))));
    text(table)
}

/// A name and a value a line.
pub fn details<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = bare();
    table.add_rows(pairs.into_iter().map(|(name, value)| [name.to_owned(), printable(&value)]));
    text(table)
}

fn bare() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn text(mut table: Table) -> String {
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The text without what a terminal would obey: names and messages come from anywhere.
pub fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other_without_frames() {
        let shown = rows(["ID", "STATE"], [["a".to_owned(), "ready".to_owned()], ["long".to_owned(), "-".to_owned()]]);
        assert_eq!(shown, "ID    STATE\na     ready\nlong  -\n");
        assert_eq!(details([("id", "x".to_owned()), ("state", "dead".to_owned())]), "id     x\nstate  dead\n");
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        let shown = rows(["NAME"], [["\x1b[31mred\nline".to_owned()]]);
        assert_eq!(shown, "NAME\n [31mred line\n");
    }
}
