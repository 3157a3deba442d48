//! Columns, for people and for `cut`: two spaces between them, nothing drawn, nothing wrapped.

use std::fmt;

use comfy_table::{ContentArrangement, Table as Columns, presets};

/// Rows under the names of their columns.
pub(crate) struct Table(Columns);

impl Table {
    pub(crate) fn new(columns: &[&str]) -> Table {
        let mut table = Columns::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(columns);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Table(table)
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.add_row(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.lines().try_for_each(|line| writeln!(f, "{}", line.trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = Table::new(&["A", "LONG"]);
        table.row(["日本".into(), "x".into()]);
        table.row([String::new(), "y".repeat(200)]);
        assert_eq!(table.to_string(), format!("A     LONG\n日本  x\n      {}\n", "y".repeat(200)));
    }
}
