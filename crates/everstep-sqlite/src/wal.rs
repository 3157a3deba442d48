//! A second name for the WAL, `.wal.kept`: what it had is still known after it was deleted.
//!
//! SQLite deletes the WAL when the last program that has the database open ends properly, after everything is in the
//! database itself. A look with `sqlite3` after a crash does that, and leaves the same picture as somebody who deletes
//! the WAL by hand. The second name tells them apart, and costs nothing while the store is open.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use crate::lockfile::beside;

const HEADER: usize = 32;
const FRAME: usize = 24;

/// Gives the WAL its second name, in place of an earlier WAL's. Without it (some file systems know no hard links) a
/// deleted WAL counts as lost.
pub(crate) fn keep(database: &Path) {
    let (kept, new) = (kept(database), beside(database, ".wal.new"));
    let _ = fs::remove_file(&new);
    let linked = fs::hard_link(beside(database, "-wal"), &new).and_then(|()| fs::rename(&new, kept));
    // It is still there if both were names of one file already.
    let _ = fs::remove_file(&new);
    if let Err(error) = linked {
        tracing::debug!(%error, "the WAL has no second name");
    }
}

/// The database is closed, with everything in it.
pub(crate) fn forget(database: &Path) {
    let _ = fs::remove_file(kept(database));
}

/// Whether everything that was committed to the WAL that had the second name is in the database itself. `false` if it
/// cannot be known: the WAL was emptied too, or a page was changed again since.
pub(crate) fn is_in(database: &Path) -> bool {
    compare(database).unwrap_or_else(|error| {
        tracing::debug!(%error, "the kept WAL cannot be compared");
        false
    })
}

fn kept(database: &Path) -> std::path::PathBuf {
    beside(database, ".wal.kept")
}

fn compare(database: &Path) -> io::Result<bool> {
    let mut wal = File::open(kept(database))?;
    let Some((page_size, pages)) = last_pages(&mut wal)? else { return Ok(false) };
    let mut file = File::open(database)?;
    let (mut logged, mut here) = (vec![0; page_size], vec![0; page_size]);
    let mut same = true;
    for (page, at) in pages {
        wal.seek(SeekFrom::Start(at))?;
        wal.read_exact(&mut logged)?;
        file.seek(SeekFrom::Start(u64::from(page - 1) * page_size as u64))?;
        same = file.read_exact(&mut here).is_ok() && logged == here;
        if !same {
            break;
        }
    }
    // Never closed: that would drop the locks that the whole process has on the database. It happens once a crash.
    std::mem::forget(file);
    Ok(same)
}

/// The page size, and where the last committed version of each page stands (<https://sqlite.org/walformat.html>);
/// `None` if there is no commit.
fn last_pages(wal: &mut File) -> io::Result<Option<(usize, HashMap<u32, u64>)>> {
    let mut wal = BufReader::with_capacity(1 << 16, wal);
    let mut header = [0; HEADER];
    if read(&mut wal, &mut header)?.is_none() {
        return Ok(None);
    }
    let big_endian = match word(&header, 0) {
        0x377f_0682 => false,
        0x377f_0683 => true,
        _ => return Ok(None),
    };
    let page_size = word(&header, 8) as usize;
    let mut sum = checksum((0, 0), &header[..24], big_endian);
    if sum != (word(&header, 24), word(&header, 28)) || !page_size.is_power_of_two() {
        return Ok(None);
    }
    let (mut pages, mut open, mut size) = (HashMap::new(), Vec::new(), 0);
    let mut frame = vec![0; FRAME + page_size];
    let mut at = HEADER as u64;
    while read(&mut wal, &mut frame)?.is_some() {
        sum = checksum(checksum(sum, &frame[..8], big_endian), &frame[FRAME..], big_endian);
        let whole = frame[8..16] == header[16..24] && sum == (word(&frame, 16), word(&frame, 20));
        if !whole {
            break;
        }
        open.push((word(&frame, 0), at + FRAME as u64));
        if word(&frame, 4) != 0 {
            size = word(&frame, 4);
            pages.extend(open.drain(..));
        }
        at += frame.len() as u64;
    }
    pages.retain(|page, _| (1..=size).contains(page));
    Ok((size != 0).then_some((page_size, pages)))
}

/// Fills `bytes`; `None` at the end of the file.
fn read(from: &mut impl Read, bytes: &mut [u8]) -> io::Result<Option<()>> {
    match from.read_exact(bytes) {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn checksum(sum: (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let word = |bytes: &[u8]| {
        let bytes = bytes.try_into().expect("four bytes");
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    bytes.chunks_exact(8).fold(sum, |(a, b), two| {
        let a = a.wrapping_add(word(&two[..4])).wrapping_add(b);
        (a, b.wrapping_add(word(&two[4..])).wrapping_add(a))
    })
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// A database after a crash: with its WAL under the second name only, up to half of it in the database.
    #[test]
    fn a_wal_is_in_its_database_only_as_a_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, copy) = (dir.path().join("a.db"), dir.path().join("b.db"));
        let conn = Connection::open(&path).expect("opens");
        conn.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)")
            .expect("writes");
        let crash = || {
            fs::copy(&path, &copy).expect("copies");
            fs::copy(beside(&path, "-wal"), kept(&copy)).expect("copies");
        };
        crash();
        assert!(!is_in(&copy), "nothing of it");
        conn.execute_batch("PRAGMA wal_checkpoint").expect("checkpoints");
        crash();
        assert!(is_in(&copy), "all of it");
        conn.execute_batch("INSERT INTO t VALUES (2)").expect("writes");
        crash();
        assert!(!is_in(&copy), "all but the last commit");
        conn.execute_batch("BEGIN; INSERT INTO t VALUES (randomblob(9000)); ROLLBACK; PRAGMA wal_checkpoint")
            .expect("checkpoints");
        crash();
        assert!(is_in(&copy));
        fs::write(kept(&copy), "").expect("empties");
        assert!(!is_in(&copy), "nobody knows");
    }
}
