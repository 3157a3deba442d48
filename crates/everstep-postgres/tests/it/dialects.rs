//! What the crate says to the database, and what databases that speak PostgreSQL's SQL do not accept or do not mean.

use std::{fs, path::Path};

/// Words of SQL that keep one of those databases out or make it wrong, why, and the files that may have them all the same.
///
/// CockroachDB: no LISTEN (cockroachdb/cockroach#41522), advisory locks that are granted to everybody, `SKIP LOCKED` that
/// passes over free rows (#121917), INTEGER of 8 bytes, no DO, no CONCURRENTLY. Aurora DSQL: no advisory locks, sequences,
/// triggers, TRUNCATE, temporary tables. Citus: no foreign keys between distributed tables. Neon's and other poolers in
/// transaction mode: nothing of a session.
const FORBIDDEN: &[(&str, &str, &[&str])] = &[
    ("advisory", "CockroachDB grants them all, and behind a pooler they are anybody's", &[]),
    ("LISTEN", "CockroachDB has none; a hint only, and tested before it is trusted", &["listen.rs"]),
    ("NOTIFY", "as LISTEN", &[]),
    ("pg_notify", "as LISTEN", &["hints.rs"]),
    ("SKIP LOCKED", "only by `Conn::free_rows`", &["claim.rs", "worker.rs"]),
    ("SEQUENCE", "hot in distributed databases, and not in all of them", &[]),
    ("nextval", "as SEQUENCE", &[]),
    ("SERIAL", "as SEQUENCE", &[]),
    ("IDENTITY", "as SEQUENCE", &[]),
    ("TRIGGER", "not in all of them", &[]),
    ("LANGUAGE", "PL/pgSQL is not in all of them", &[]),
    ("FUNCTION", "as LANGUAGE", &[]),
    ("DO $", "CockroachDB has none", &[]),
    ("EXTENSION", "PostgreSQL's own", &[]),
    ("REFERENCES", "Citus cannot keep it, and hot tables pay for it", &[]),
    ("FOREIGN KEY", "as REFERENCES", &[]),
    ("INTEGER", "8 bytes in CockroachDB: int4 or int8", &[]),
    ("BIGINT", "int8, as everywhere", &[]),
    ("CONCURRENTLY", "CockroachDB does not know the word", &[]),
    ("TRUNCATE", "not in all of them", &[]),
    ("TEMP", "not in all of them, and not behind a pooler", &[]),
    ("UNLOGGED", "PostgreSQL's own", &[]),
    ("CURSOR", "behind a pooler it is anybody's", &[]),
    ("PREPARE ", "behind a pooler it is anybody's", &[]),
    ("ctid", "PostgreSQL's own", &[]),
    ("xmin", "PostgreSQL's own", &[]),
    ("SAVEPOINT", "only around users' statements", &["transact.rs", "guest.rs"]),
    ("LOCK TABLE", "only where there are table locks: see `Dialect::locks_tables`", &["mark.rs"]),
];

#[test]
fn no_statement_has_a_word_that_one_of_the_databases_does_not_accept() {
    let statements = statements();
    for file in ["statement.rs", "transact.rs", "0001_first.sql"] {
        assert!(
            statements.iter().any(|(of, text)| of == file && text.contains("@journal")),
            "{file} is read"
        );
    }
    let wrong = |(file, text): &(String, String)| {
        let has = |(word, _, but_in): &&(&str, &str, &[&str])| {
            is_in(text, word) && !but_in.contains(&file.as_str())
        };
        FORBIDDEN.iter().find(has).map(|(word, why, _)| format!("{file}: {word} ({why}) in\n{text}"))
    };
    let found: Vec<_> = statements.iter().filter_map(wrong).collect();
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}

#[test]
fn what_may_be_only_in_some_files_is_there() {
    let statements = statements();
    for (word, _, files) in FORBIDDEN {
        for file in *files {
            assert!(statements.iter().any(|(of, text)| of == file && is_in(text, word)), "{word} in {file}");
        }
    }
}

/// As a word, or the beginning of one.
fn is_in(text: &str, word: &str) -> bool {
    let begins = |at: usize| !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
    text.match_indices(word).any(|(at, _)| begins(at))
}

/// All texts of the crate that its own tests do not only say to themselves, by file.
fn statements() -> Vec<(String, String)> {
    let mut statements = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut statements);
    statements
}

fn read(folder: &Path, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("is a folder") {
        let path = entry.expect("is listed").path();
        if path.is_dir() {
            read(&path, into);
            continue;
        }
        let name = path.file_name().expect("has a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("is a text");
        match name.rsplit('.').next() {
            // What is refused is said there, and nothing of it is sent outside of tests.
            Some("rs") if name != "hostile.rs" => {
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
                into.extend(texts_in(code).into_iter().map(|text| (name.clone(), text)));
            }
            Some("sql") => {
                let code = text.lines().map(|line| line.split("--").next().unwrap_or_default());
                into.push((name, code.collect::<Vec<_>>().join("\n")));
            }
            _ => {}
        }
    }
}

/// The string literals of a file, without those in comments.
fn texts_in(code: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let (from, next) = (&rest[at..], &rest[at + 1..]);
        rest = if from.starts_with("//") {
            from.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(after) = from.strip_prefix("'\"'") {
            after
        } else if from.starts_with('"') {
            let end = end_of_text(next);
            texts.push(next[..end].replace("\\\"", "\""));
            &next[(end + 1).min(next.len())..]
        } else {
            next
        };
    }
    texts
}

fn end_of_text(text: &str) -> usize {
    let mut escaped = false;
    let ends = |(_, c): &(usize, char)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    };
    text.char_indices().find(ends).map_or(text.len(), |(at, _)| at)
}
