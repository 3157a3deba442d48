//! What a life on a failing disk has left: in the file, and on a disk that loses power right after it.

use std::path::Path;

use everstep_sqlite::rusqlite;

use crate::{
    chance::Chance,
    content::{self, Content},
    disk::Disk,
    life::{self, Setup, folder},
    promise::Promise,
    recording::{DATABASE, Op},
    story::Part,
};

/// Crashes after a sync that has failed.
const CRASHES: u64 = 6;
/// What is in the file: everything that was promised, and an engine that goes on with it comes to the right ends.
pub(super) fn look(folder: &Path, setup: Setup, parts: &[Part], ops: &[Op]) -> Result<usize, String> {
    let (kept, content) = check_promises(folder, setup, ops)?;
    life::go_on(folder, setup, parts, &content)?;
    Ok(kept)
}

/// What a crash leaves after a sync that has failed.
pub(super) fn crash(setup: Setup, ops: &[Op]) -> Result<usize, String> {
    let mut disk = Disk::new(&Default::default());
    ops.iter().for_each(|op| disk.apply(op));
    let mut promises = 0;
    for seed in 0..CRASHES {
        let folder = folder();
        let image = disk.crash(seed, Chance::of(&[seed]));
        image.write(folder.path()).map_err(|e| e.to_string())?;
        let (kept, _) = check_promises(folder.path(), setup, ops)
            .map_err(|what| format!("after a crash with seed {seed}: {what}"))?;
        promises += kept;
    }
    Ok(promises)
}

fn check_promises(folder: &Path, setup: Setup, ops: &[Op]) -> Result<(usize, Content), String> {
    let store = setup.open(folder, None).map_err(|e| format!("it cannot be opened any more: {e}"))?;
    let read = || {
        let conn = content::look(&folder.join(DATABASE))?;
        Ok((content::is_whole(&conn)?, Content::read(&conn)?))
    };
    let (damage, content) = read().map_err(|e: rusqlite::Error| e.to_string())?;
    drop(store);
    if let Some(flaw) = damage.or_else(|| content.flaw()) {
        return Err(flaw);
    }
    let promises = ops.iter().filter_map(|op| if let Op::Mark(promise) = op { Some(promise) } else { None });
    let lost: Vec<&Promise> = promises.clone().filter(|promise| !promise.is_kept(&content)).collect();
    match lost.first() {
        Some(first) => Err(format!("{} promises are lost, first {first:?}", lost.len())),
        None => Ok((promises.count(), content)),
    }
}
