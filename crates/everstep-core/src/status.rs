//! What a run's row says about it, and which change may follow which status. Pure and total: engine, stores and
//! their tests all ask [`Status::after`].

use std::{fmt, str::FromStr};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u8)]
pub enum Status {
    /// Started; no worker has it.
    Pending = 0,
    /// A worker has it in memory.
    Running = 1,
    /// Parked until a time or a message.
    Waiting = 2,
    /// Over: its function returned `Ok`.
    Completed = 3,
    /// Over: its function returned an error.
    Failed = 4,
    /// Over: cancelled.
    Cancelled = 5,
    /// Needs a person; the row says why.
    Stuck = 6,
    /// Set aside by a person.
    Paused = 7,
}

/// What happens to a run's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// A worker takes it into memory.
    Claimed,
    /// Its worker drops it from memory until a time or a message.
    Parked,
    /// Its worker gives it back, or lost it.
    GivenBack,
    /// Its function returned `Ok`.
    Completed,
    /// Its function returned an error.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It needs a person.
    Stuck,
    /// A person set it aside.
    Paused,
    /// A person let it go on: `retry`, `answer`, `resume`.
    Revived,
    /// Its function begins anew with another input, on the same worker.
    Restarted,
    /// A start takes the place of a run that is over.
    Reused,
}

/// A change that may not follow a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a run that is {from} cannot be {change:?}")]
pub struct IllegalChange {
    /// The status it had.
    pub from: Status,
    /// What was asked for.
    pub change: Change,
}

impl Status {
    /// All of them, in the order of their numbers.
    pub const ALL: [Status; 8] = [
        Status::Pending,
        Status::Running,
        Status::Waiting,
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
        Status::Stuck,
        Status::Paused,
    ];

    /// The status after `change`.
    ///
    /// # Errors
    /// [`IllegalChange`] when that change may not follow this status; nothing may follow `Completed` and `Cancelled` but
    /// another run of the same id.
    pub fn after(self, change: Change) -> Result<Status, IllegalChange> {
        use Change as C;
        use Status as S;
        Ok(match (self, change) {
            (S::Pending | S::Waiting | S::Running, C::Claimed) => S::Running,
            (S::Running, C::Parked) => S::Waiting,
            (S::Running, C::GivenBack) => S::Pending,
            (S::Running, C::Completed) => S::Completed,
            (S::Running, C::Failed) => S::Failed,
            (S::Running | S::Stuck, C::Cancelled) => S::Cancelled,
            (S::Running, C::Stuck) => S::Stuck,
            // A stuck run is claimed to be cancelled, and stays stuck if its worker dies before it did.
            (S::Stuck, C::Claimed | C::GivenBack | C::Stuck) => S::Stuck,
            (S::Pending | S::Waiting | S::Running | S::Stuck, C::Paused) => S::Paused,
            (S::Failed | S::Stuck | S::Paused, C::Revived) => S::Pending,
            (S::Running, C::Restarted) => S::Running,
            (S::Completed | S::Failed | S::Cancelled, C::Reused) => S::Pending,
            (from, change) => return Err(IllegalChange { from, change }),
        })
    }

    /// Whether the run has an outcome.
    pub fn is_over(self) -> bool {
        matches!(self, Status::Completed | Status::Failed | Status::Cancelled)
    }

    /// The number that stores keep.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The status of a stored number.
    pub fn from_code(code: u8) -> Option<Status> {
        Status::ALL.get(usize::from(code)).copied()
    }

    /// Its word, as people read and write it.
    pub fn word(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Running => "running",
            Status::Waiting => "waiting",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::Stuck => "stuck",
            Status::Paused => "paused",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Status {
    type Err = String;
    fn from_str(word: &str) -> Result<Status, String> {
        Status::ALL.into_iter().find(|s| s.word() == word).ok_or_else(|| {
            format!("`{word}` is no status; there are {}", Status::ALL.map(Status::word).join(", "))
        })
    }
}

/// A set of statuses: what a verb accepts, what a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StatusSet(u8);

impl StatusSet {
    /// Every status.
    pub const ANY: StatusSet = StatusSet(u8::MAX);
    /// Every status of a run that is not over.
    pub const OPEN: StatusSet = StatusSet(0b1100_0111);

    /// The set of these.
    pub fn of(statuses: &[Status]) -> StatusSet {
        StatusSet(statuses.iter().fold(0, |set, s| set | 1 << s.code()))
    }

    /// Whether `status` is in it.
    pub fn contains(self, status: Status) -> bool {
        self.0 & (1 << status.code()) != 0
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set without this one.
    pub fn without(self, status: Status) -> StatusSet {
        StatusSet(self.0 & !(1 << status.code()))
    }

    /// Its members.
    pub fn iter(self) -> impl Iterator<Item = Status> {
        Status::ALL.into_iter().filter(move |s| self.contains(*s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGES: [Change; 9] = [
        Change::Claimed,
        Change::Parked,
        Change::GivenBack,
        Change::Completed,
        Change::Failed,
        Change::Cancelled,
        Change::Stuck,
        Change::Paused,
        Change::Revived,
    ];

    #[test]
    fn every_pair_is_decided() {
        let mut table = String::new();
        for from in Status::ALL {
            let to: Vec<_> = CHANGES
                .iter()
                .filter_map(|&change| from.after(change).ok().map(|to| format!("{change:?}→{to}")))
                .collect();
            table.push_str(&format!("{from}: {}\n", to.join(" ")));
        }
        assert_eq!(
            table,
            "\
pending: Claimed→running Paused→paused
running: Claimed→running Parked→waiting GivenBack→pending Completed→completed Failed→failed Cancelled→cancelled Stuck→stuck Paused→paused
waiting: Claimed→running Paused→paused
completed: 
failed: Revived→pending
cancelled: 
stuck: Claimed→stuck GivenBack→stuck Cancelled→cancelled Stuck→stuck Paused→paused Revived→pending
paused: Revived→pending
"
        );
    }

    #[test]
    fn words_and_numbers_come_back() {
        for status in Status::ALL {
            assert_eq!(Status::from_code(status.code()), Some(status));
            assert_eq!(status.word().parse(), Ok(status));
            assert_eq!(StatusSet::OPEN.contains(status), !status.is_over());
        }
        assert_eq!(Status::from_code(8), None);
    }

    #[test]
    fn a_set_has_the_statuses_it_was_made_of() {
        let named = [Status::Stuck, Status::Failed, Status::Stuck];
        let set = StatusSet::of(&named);
        assert_eq!(
            set.iter().collect::<Vec<_>>(),
            [Status::Failed, Status::Stuck],
            "each once, in their order"
        );
        assert_eq!(StatusSet::ANY.iter().collect::<Vec<_>>(), Status::ALL);
        assert_eq!(StatusSet::default().iter().count(), 0);
    }
}
