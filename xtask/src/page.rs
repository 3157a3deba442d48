//! The page of figures.

use std::{fs, process::Command};

use crate::parts::{PARTS, Part};

/// Where the figures stand.
const PAGE: &str = "docs/reliability.md";
const BEGIN: &str = "<!-- figures: written by `cargo xtask prove --full` -->";
const END: &str = "<!-- end of figures -->";

/// Puts the figures of a part where they belong, in the order of the parts; those of the others stay.
pub(crate) fn write(part: &Part, figures: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{PAGE}: {error}");
    let page = fs::read_to_string(PAGE).map_err(failed)?;
    let (Some((before, rest)), Some((_, after))) = (page.split_once(BEGIN), page.split_once(END)) else {
        return Err(format!("{PAGE} has no lines `{BEGIN}` and `{END}`"));
    };
    let new = format!("| {} | `{}` | {figures} | {} |", part.what, part.command(), commit());
    let row = |part: &Part| format!("| {} |", part.what);
    let known = |part: &Part| rest.lines().find(|line| line.starts_with(&row(part))).map(str::to_string);
    let rows: Vec<String> = PARTS
        .iter()
        .filter_map(|other| if other.what == part.what { Some(new.clone()) } else { known(other) })
        .collect();
    let head = "| part | command | figures | time | commit |\n|---|---|---|---|---|";
    let page = format!("{before}{BEGIN}\n\n{head}\n{}\n\n{END}{after}", rows.join("\n"));
    fs::write(PAGE, page).map_err(failed)
}

/// What the figures are of.
fn commit() -> String {
    let out = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    out.map_or_else(|_| "?".to_string(), |out| String::from_utf8_lossy(&out.stdout).trim().to_string())
}
