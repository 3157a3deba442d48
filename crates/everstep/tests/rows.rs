//! `docs/faults.md` against the sources: every test that it names is there and says for which row it stands, and every
//! row that a source names has that source.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Row by row: the files and tests that hold it.
fn table() -> BTreeMap<u32, Vec<(String, String)>> {
    let page = fs::read_to_string(root().join("docs/faults.md")).expect("is there");
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.trim_matches('|').split(" | ");
        let row = cells.next()?.trim().parse().ok()?;
        Some((row, held_by(cells.nth(1)?)))
    });
    rows.collect()
}

/// `` `a/file.rs` `one_test`, `another_test` ``
fn held_by(cell: &str) -> Vec<(String, String)> {
    let (mut file, mut tests) = (None, Vec::new());
    for word in cell.split('`').skip(1).step_by(2) {
        match &file {
            _ if word.ends_with(".rs") => file = Some(word.to_string()),
            // A command.
            _ if word.contains(' ') => {}
            Some(file) => tests.push((file.clone(), word.to_string())),
            None => panic!("`{word}` is in no file: {cell}"),
        }
    }
    tests
}

/// The rows that a file names: `faults.md row 7`, `faults.md rows 9 and 14`, `faults.md rows 17 to 19`.
fn named_in(text: &str) -> BTreeSet<u32> {
    let mut named = BTreeSet::new();
    for after in text.split("faults.md row").skip(1) {
        let words = after.trim_start_matches('s').split([' ', ',', '.', ':', ')', '\n']);
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).take(3).collect();
        let number = |word: Option<&&str>| word.and_then(|word| word.parse::<u32>().ok());
        let first =
            number(words.first()).unwrap_or_else(|| panic!("no row after `faults.md row`: `{after:.30}`"));
        match (words.get(1).copied(), number(words.get(2))) {
            (Some("to"), Some(last)) => named.extend(first..=last),
            (Some("and"), Some(second)) => named.extend([first, second]),
            _ => named.extend([first]),
        }
    }
    named
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("reads").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|ending| ending == "rs") => found.push(path),
            false => {}
        }
    }
}

#[test]
fn there_are_all_rows() {
    assert_eq!(table().into_keys().collect::<Vec<_>>(), (1..=43).collect::<Vec<_>>());
}

#[test]
fn every_test_that_the_table_names_is_there_and_names_its_row() {
    for (row, tests) in table() {
        for (file, test) in tests {
            let text =
                fs::read_to_string(root().join(&file)).unwrap_or_else(|e| panic!("row {row}: {file}: {e}"));
            assert!(text.contains(&format!("fn {test}(")), "row {row}: there is no `{test}` in {file}");
            assert!(named_in(&text).contains(&row), "{file} does not say that it stands for row {row}");
        }
    }
}

#[test]
fn every_row_that_a_source_names_is_in_the_table() {
    let (table, mut found) = (table(), Vec::new());
    sources(&root().join("crates"), &mut found);
    for path in found.into_iter().filter(|path| !path.ends_with("everstep/tests/rows.rs")) {
        let name = path.strip_prefix(root()).expect("is below").display().to_string();
        for row in named_in(&fs::read_to_string(&path).expect("reads")) {
            let held = table.get(&row).is_some_and(|tests| tests.iter().any(|(file, _)| *file == name));
            assert!(held, "{name} names row {row}, and docs/faults.md does not say so");
        }
    }
}
