//! Compiles the sources a second time: one text for all of them as they are, one more for each weakened variant. Only
//! `crate::`, tokio's channels and the doc comment at the top are changed, and the tests at the end are left out.

#[allow(dead_code, reason = "who finds it is for the tests")]
#[path = "src/weak.rs"]
mod weak;

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::Path};

/// Where each module comes from; what is in `stage` stands for what a file needs and is not about threads.
const MODULES: [(&str, &str); 20] = [
    ("sync", "stage/sync.rs"),
    ("op", "stage/op.rs"),
    ("queue", "../everstep-sqlite/src/queue.rs"),
    ("status", "stage/status.rs"),
    ("journal", "stage/journal.rs"),
    ("store", "stage/store.rs"),
    ("store::bell", "../everstep-core/src/store/bell.rs"),
    ("engine", "stage/engine.rs"),
    ("engine::wakes", "../everstep-core/src/engine/wakes.rs"),
    ("engine::residents", "../everstep-core/src/engine/residents.rs"),
    ("driver", "stage/driver.rs"),
    ("driver::stack", "stage/stack.rs"),
    ("driver::wake", "../everstep-core/src/driver/wake.rs"),
    ("driver::news", "../everstep-core/src/driver/news.rs"),
    ("driver::run", "stage/run.rs"),
    ("error", "stage/error.rs"),
    ("name", "stage/name.rs"),
    ("digest", "stage/digest.rs"),
    ("scope", "../everstep-core/src/scope.rs"),
    ("plays", "plays/mod.rs"),
];
const PLAYS: [&str; 7] = ["bell", "driver", "news", "queue", "residents", "scope", "wakes"];

fn main() {
    let mut modules: Vec<_> =
        MODULES.iter().map(|(name, path)| (name.to_string(), path.to_string())).collect();
    modules.extend(PLAYS.iter().map(|play| (format!("plays::{play}"), format!("plays/{play}.rs"))));
    let mut woven = tree("sound", &modules, &[]);
    let mut list = String::new();
    for weak in weak::ALL {
        woven += &tree(weak.name, &modules, weak.edits);
        writeln!(list, "    (\"{0}\", {0}::plays::ALL),", weak.name).expect("a text");
    }
    writeln!(woven, "pub(crate) const WEAK: &[(&str, &[(&str, crate::Play)])] = &[\n{list}];")
        .expect("a text");
    let out = env::var_os("OUT_DIR").expect("cargo says it");
    fs::write(Path::new(&out).join("woven.rs"), woven).expect("writes");
    println!("cargo::rerun-if-changed=src/weak.rs");
}

/// All modules under one of this name.
fn tree(variant: &str, modules: &[(String, String)], edits: &[(&str, &str, &str)]) -> String {
    let mut edited = 0;
    let mut texts = BTreeMap::new();
    for (name, path) in modules {
        let mut text = source(path);
        for (_, from, to) in
            edits.iter().filter(|(file, _, _)| path.ends_with(&format!("/{file}")) || path == file)
        {
            assert_eq!(text.matches(from).count(), 1, "{variant}: {path} has this not once: {from}");
            text = text.replace(from, to);
            edited += 1;
        }
        let text = text.replace("crate::", &format!("crate::woven::{variant}::"));
        texts.insert(name.as_str(), text.replace("use tokio::sync::", "use everstep_weave::channel::"));
    }
    assert_eq!(edited, edits.len(), "{variant}: each edit is of one file");
    let mut tree = format!(
        "#[allow(clippy::all, clippy::disallowed_methods, unused, missing_debug_implementations)]\npub(crate) mod {variant} {{\n"
    );
    for name in texts.keys().filter(|name| !name.contains("::")) {
        writeln!(tree, "pub(crate) mod {name} {{\n{}", texts[name]).expect("a text");
        let inner =
            texts.iter().filter_map(|(path, text)| Some((path.strip_prefix(&format!("{name}::"))?, text)));
        for (inner, text) in inner {
            writeln!(tree, "pub(crate) mod {inner} {{\n{text}}}").expect("a text");
        }
        tree += "}\n";
    }
    tree + "}\n"
}

fn source(path: &str) -> String {
    println!("cargo::rerun-if-changed={path}");
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let text = text.split("#[cfg(test)]\nmod tests {").next().expect("at least one part");
    text.lines().filter(|line| !line.starts_with("//!")).map(|line| format!("{line}\n")).collect()
}
