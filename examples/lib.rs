//! What the examples share: a fresh database in a folder that goes away with it.

use everstep::sqlite::Sqlite;

/// A fresh database file, and the folder it lies in: keep the folder until the engine has shut down.
pub fn fresh() -> Result<(tempfile::TempDir, Sqlite), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let store = Sqlite::open(folder.path().join("example.db"))?;
    Ok((folder, store))
}
