//! What one opening tells the others: that there is something to look at, and for whom. Only hints: whoever hears one looks.

use std::collections::BTreeSet;

use everstep_core::store::{Bell, WorkerId};

use crate::{
    bounds::Bounds,
    conn::Conn,
    fault::Fault,
    sql::{Sql, args, sql},
};

const DUE: &str = "due";
const SAID: &str = "said";
const BOTH: &str = "both";
/// What an opening says to itself, to see whether it hears hints.
const TEST: &str = "test";

/// What others are to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    /// Free runs are due, or will be: for who looks for runs.
    pub(crate) due: bool,
    /// A run ended or is set aside, or said something: for who waits for that.
    pub(crate) said: bool,
    /// For these workers there are letters.
    pub(crate) letters: BTreeSet<WorkerId>,
}

impl Hints {
    pub(crate) fn is_empty(&self) -> bool {
        !self.due && !self.said && self.letters.is_empty()
    }

    pub(crate) fn add(&mut self, more: Hints) {
        self.due |= more.due;
        self.said |= more.said;
        self.letters.extend(more.letters);
    }

    /// Sends a hint that is for `own` alone.
    pub(crate) async fn test(conn: &Conn, own: &str) -> Result<(), Fault> {
        notify(conn, vec![conn.shape().channel()], vec![format!("{TEST} {own}")]).await
    }

    /// Sends them in the name of `from`: letters on the channel of each worker, everything else to all openings of the
    /// schema.
    pub(crate) async fn send(&self, conn: &Conn, from: &str) -> Result<(), Fault> {
        if self.is_empty() {
            return Ok(());
        }
        let shape = conn.shape();
        let kind = match (self.due, self.said) {
            (true, true) => Some(BOTH),
            (true, false) => Some(DUE),
            (false, true) => Some(SAID),
            (false, false) => None,
        };
        let all = kind.map(|kind| (shape.channel(), format!("{kind} {from}")));
        let each = self.letters.iter().map(|worker| (shape.channel_of(*worker), from.to_string()));
        let (channels, texts): (Vec<_>, Vec<_>) = all.into_iter().chain(each).unzip();
        notify(conn, channels, texts).await
    }
}

async fn notify(conn: &Conn, channels: Vec<String>, texts: Vec<String>) -> Result<(), Fault> {
    const TELL: Sql =
        sql("tell others", "SELECT pg_notify(u.channel, u.text) FROM unnest($1, $2) AS u(channel, text)");
    conn.rows(&TELL, args![channels, texts]).await.map(drop)
}

/// A hint of another opening.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// For all.
    All { due: bool, said: bool },
    /// Perhaps of anything.
    Unknown,
    /// For a worker of this opening: there are letters.
    Letters,
}

impl Heard {
    /// What was heard on the channel of all, or on a worker's; `None` if it is of `own`, or only a test.
    pub(crate) fn read(on_all: bool, text: &str, own: &str) -> Option<Heard> {
        if !on_all {
            return (text != own).then_some(Heard::Letters);
        }
        let (kind, from) = text.split_once(' ').unwrap_or((text, ""));
        if from == own || kind == TEST {
            return None;
        }
        match kind {
            DUE | SAID | BOTH => Some(Heard::All { due: kind != SAID, said: kind != DUE }),
            _ => Some(Heard::Unknown),
        }
    }

    pub(crate) fn ring(&self, bell: &Bell, bounds: &Bounds) {
        match self {
            Heard::Letters => bell.ring_foreign_letters(),
            Heard::Unknown => {
                bounds.heard();
                bell.ring_foreign();
            }
            Heard::All { due, said } => {
                if *due {
                    bounds.heard();
                    bell.ring_foreign_due();
                }
                if *said {
                    bell.ring_foreign_said();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_say_what_they_are_about() {
        let heard = |on_all, text| Heard::read(on_all, text, "7 noon");
        assert_eq!(heard(true, "due 8 noon"), Some(Heard::All { due: true, said: false }));
        assert_eq!(heard(true, "said 8 noon"), Some(Heard::All { due: false, said: true }));
        assert_eq!(heard(true, "both 8 noon"), Some(Heard::All { due: true, said: true }));
        assert_eq!(heard(false, "8 noon"), Some(Heard::Letters));
        assert_eq!((heard(true, "both 7 noon"), heard(false, "7 noon")), (None, None), "one's own");
        assert_eq!(heard(true, "test 8 noon"), None, "nobody else's business");
    }

    #[test]
    fn a_hint_of_an_unknown_kind_may_be_anything() {
        for text in ["", "deaf", "8 noon", "later 8 noon"] {
            assert_eq!(Heard::read(true, text, "7 noon"), Some(Heard::Unknown), "{text}");
        }
    }
}
