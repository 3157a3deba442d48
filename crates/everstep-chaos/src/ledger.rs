//! What happened, line by line: a file that only grows, outside the database. Every process appends to it, each line whole
//! and at once, so that the order of the lines is an order of what happened: what was written before something else began
//! stands before it. What a process wrote outlives its SIGKILL.

use std::{
    fmt,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

/// One line. `by` is the name of a worker's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A body begins: its first deed.
    Begins { run: String, key: String, attempt: u32, by: String },
    /// The engine says that the step's outcome is durable.
    Done { run: String, key: String, by: String },
    /// The engine says that the run's outcome is durable.
    Over { run: String, by: String },
    /// It stands still, and does nothing until it goes on.
    Stopped { by: String },
    /// It may do something again from here on.
    GoesOn { by: String },
    /// It is dead.
    Dead { by: String },
    /// Somebody's engine said more than he could write down.
    Missed { by: String },
}

/// The file, to be written.
#[derive(Clone, Debug)]
pub(crate) struct Ledger(Arc<File>);

impl Ledger {
    pub(crate) fn open(path: &Path) -> std::io::Result<Ledger> {
        Ok(Ledger(Arc::new(File::options().create(true).append(true).open(path)?)))
    }

    /// Appends a line; it is there when this returns.
    pub(crate) fn note(&self, line: &Line) -> std::io::Result<()> {
        (&*self.0).write_all(format!("{line}\n").as_bytes())
    }
}

/// Reads what a file has grown by since the last time.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    read: usize,
}

impl Reader {
    pub(crate) fn new(path: &Path) -> Reader {
        Reader { path: path.to_path_buf(), read: 0 }
    }

    /// The lines that are new.
    pub(crate) fn more(&mut self) -> Result<Vec<Line>, String> {
        use std::os::unix::fs::FileExt as _;
        let failed = |error: std::io::Error| format!("{}: {error}", self.path.display());
        let file = File::open(&self.path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len() as usize;
        let mut bytes = vec![0; length.saturating_sub(self.read)];
        file.read_exact_at(&mut bytes, self.read as u64).map_err(failed)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.read += whole;
        String::from_utf8_lossy(&bytes[..whole]).lines().map(str::parse).collect()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Begins { run, key, attempt, by } => write!(f, "begins {by} {run} {key} {attempt}"),
            Line::Done { run, key, by } => write!(f, "done {by} {run} {key}"),
            Line::Over { run, by } => write!(f, "over {by} {run}"),
            Line::Stopped { by } => write!(f, "stopped {by}"),
            Line::GoesOn { by } => write!(f, "goes-on {by}"),
            Line::Dead { by } => write!(f, "dead {by}"),
            Line::Missed { by } => write!(f, "missed {by}"),
        }
    }
}

impl FromStr for Line {
    type Err = String;

    fn from_str(line: &str) -> Result<Line, String> {
        let bad = || format!("no line of the ledger: `{line}`");
        let words: Vec<&str> = line.split(' ').collect();
        let (kind, by) = (words[0], words.get(1).ok_or_else(bad)?.to_string());
        Ok(match (kind, &words[2..]) {
            ("begins", [run, key, attempt]) => Line::Begins {
                run: run.to_string(),
                key: key.to_string(),
                attempt: attempt.parse().map_err(|_| bad())?,
                by,
            },
            ("done", [run, key]) => Line::Done { run: run.to_string(), key: key.to_string(), by },
            ("over", [run]) => Line::Over { run: run.to_string(), by },
            ("stopped", []) => Line::Stopped { by },
            ("goes-on", []) => Line::GoesOn { by },
            ("dead", []) => Line::Dead { by },
            ("missed", []) => Line::Missed { by },
            _ => return Err(bad()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back() {
        let (run, key, by) = ("plain-7".to_string(), "left/link#2".to_string(), "w3".to_string());
        let lines = [
            Line::Begins { run: run.clone(), key: key.clone(), attempt: 2, by: by.clone() },
            Line::Done { run: run.clone(), key, by: by.clone() },
            Line::Over { run, by: by.clone() },
            Line::Stopped { by: by.clone() },
            Line::GoesOn { by: by.clone() },
            Line::Dead { by: by.clone() },
            Line::Missed { by },
        ];
        for line in lines {
            assert_eq!(line.to_string().parse(), Ok(line));
        }
        for bad in ["", "begins", "begins w1 r", "begins w1 r k x", "went w1"] {
            assert!(bad.parse::<Line>().is_err(), "{bad}");
        }
    }

    #[test]
    fn half_a_line_is_read_when_it_is_whole() {
        let folder = tempfile::tempdir().expect("room");
        let path = folder.path().join("ledger");
        let ledger = Ledger::open(&path).expect("opens");
        let mut reader = Reader::new(&path);
        let line = Line::Dead { by: "w1".to_string() };
        ledger.note(&line).and_then(|()| (&*ledger.0).write_all(b"dead")).expect("writes");
        assert_eq!(reader.more(), Ok(vec![line.clone()]));
        assert_eq!(reader.more(), Ok(vec![]));
        (&*ledger.0).write_all(b" w1\n").expect("writes");
        assert_eq!(reader.more(), Ok(vec![line]));
    }
}
