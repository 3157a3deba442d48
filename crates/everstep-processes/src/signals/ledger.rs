//! What happened, line by line, as the processes tell it. They all write into one pipe, each line at once, so that the
//! order of the lines is an order of what happened: what one process wrote before another began stands before it. What a
//! process wrote outlives its SIGKILL.

use std::{fmt, io::Write as _, str::FromStr};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A process is there, by its number.
    Ready(u32),
    /// This run is durable.
    Started(usize),
    /// This signal is about to be sent; written before anything of it happens.
    Sent(usize),
    /// Its sender was told that it is durable.
    Acked(usize),
    /// Its sender was told that its run is over.
    Refused(usize),
    /// Its sender was told something else.
    Erred(usize, String),
    /// Run, how many signals it had before, and the one that it has got: written by a step of the run.
    Saw(usize, usize, usize),
    /// A run has its outcome.
    Ended(usize),
    /// A run will have no outcome, or a bad one.
    Broke(usize, String),
    /// Everything that stands before it was read.
    Mark(usize),
}

/// Writes a line, whole, whoever else writes: the kernel does not divide one this short.
pub(crate) fn tell(line: &Line) {
    // Nobody who could miss it is there when this fails.
    let _ = std::io::stdout().lock().write_all(format!("{line}\n").as_bytes());
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Ready(process) => write!(f, "ready {process}"),
            Line::Started(run) => write!(f, "started {run}"),
            Line::Sent(signal) => write!(f, "sent {signal}"),
            Line::Acked(signal) => write!(f, "acked {signal}"),
            Line::Refused(signal) => write!(f, "refused {signal}"),
            Line::Erred(signal, why) => write!(f, "erred {signal} {}", one_line(why)),
            Line::Saw(run, at, signal) => write!(f, "saw {run} {at} {signal}"),
            Line::Ended(run) => write!(f, "ended {run}"),
            Line::Broke(run, why) => write!(f, "broke {run} {}", one_line(why)),
            Line::Mark(n) => write!(f, "mark {n}"),
        }
    }
}

/// Short enough not to be divided.
fn one_line(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl FromStr for Line {
    type Err = String;

    fn from_str(line: &str) -> Result<Line, String> {
        let bad = || format!("no line of the ledger: `{line}`");
        let mut words = line.splitn(3, ' ');
        let (kind, first) = (words.next().unwrap_or_default(), words.next().ok_or_else(bad)?);
        let n: usize = first.parse().map_err(|_| bad())?;
        let rest = words.next().unwrap_or_default();
        Ok(match kind {
            "ready" => Line::Ready(u32::try_from(n).map_err(|_| bad())?),
            "started" => Line::Started(n),
            "sent" => Line::Sent(n),
            "acked" => Line::Acked(n),
            "refused" => Line::Refused(n),
            "erred" => Line::Erred(n, rest.to_string()),
            "saw" => {
                let (at, signal) = rest.split_once(' ').ok_or_else(bad)?;
                Line::Saw(n, at.parse().map_err(|_| bad())?, signal.parse().map_err(|_| bad())?)
            }
            "ended" => Line::Ended(n),
            "broke" => Line::Broke(n, rest.to_string()),
            "mark" => Line::Mark(n),
            _ => return Err(bad()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back() {
        for line in [
            Line::Ready(7),
            Line::Started(0),
            Line::Sent(1),
            Line::Acked(2),
            Line::Refused(3),
            Line::Erred(4, "EV0001 it is full".to_string()),
            Line::Saw(5, 6, 7),
            Line::Ended(8),
            Line::Broke(9, "stuck".to_string()),
            Line::Mark(10),
        ] {
            assert_eq!(line.to_string().parse(), Ok(line));
        }
        for bad in ["", "sent", "sent x", "saw 1 2", "went 1", "thread 'main' panicked"] {
            assert!(bad.parse::<Line>().is_err(), "{bad}");
        }
    }
}
