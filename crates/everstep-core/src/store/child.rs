//! Children: runs that a turn of another run starts. Pure: what a parent hears of them.

use std::sync::Arc;

use super::{Letter, LetterId, LetterKind, NewRun, RunId, RunRow};
use crate::{
    digest::Digest,
    error::{Code, ErrorKind},
    journal::{Entry, Failure, Outcome, Reply, decode, encode},
    time::Timestamp,
};

/// Whose child a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The run that started it.
    pub run: RunId,
    /// Its generation.
    pub generation: u32,
    /// The key under which it did.
    pub key: Arc<str>,
    /// Whether the child is cancelled when that run is over.
    pub closes: bool,
    /// Of the child's input: a start that is made again is compared by it.
    pub digest: Digest,
}

/// What a used id means for the start of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Used {
    /// It is the very child: it tells its parent when it is over.
    Same,
    /// The parent is told now.
    Heard(Letter),
}

impl NewRun {
    /// What becomes of the start of a child whose id is in use, by the run with this row, which is the child of `parent`
    /// and whose last entry is `last`. `answer` names the letter that the parent may get.
    ///
    /// The same start again (after the end of the parent's journal was taken back) is the same child. Anything else is a
    /// conflict, which the parent hears as the child's outcome.
    pub fn used(
        &self,
        row: &RunRow,
        parent: Option<&Parent>,
        last: Option<&Entry>,
        answer: LetterId,
    ) -> Used {
        let Some(own) = &self.parent else { return Used::Same };
        let reply = match self.difference_to(own, row, parent) {
            Some(difference) => {
                let message = format!("run id `{}` is in use: {difference}", row.id);
                Reply::Failure(Failure::of(ErrorKind::Conflict, Code::CONFLICT, message))
            }
            None if !row.status.is_over() => return Used::Same,
            None => match last.and_then(Outcome::told_by) {
                Some(outcome) => Reply::of(&outcome, &row.id),
                None => {
                    let message = format!("run `{}` is over, and its outcome cannot be read", row.id);
                    Reply::Failure(Failure::of(ErrorKind::Store, Code::DAMAGED, message))
                }
            },
        };
        Used::Heard(reply_letter(&own.key, answer, &reply, self.first.at))
    }

    fn difference_to(&self, own: &Parent, row: &RunRow, parent: Option<&Parent>) -> Option<String> {
        let Some(parent) =
            parent.filter(|parent| parent.run == own.run && parent.generation == own.generation)
        else {
            return Some("it was not started by this run".to_string());
        };
        if row.workflow != self.workflow {
            return Some(format!(
                "it belongs to workflow `{}`, and this start is of `{}`",
                row.workflow, self.workflow
            ));
        }
        if parent.key != own.key {
            return Some(format!(
                "this run has started it as `{}`, and now starts it as `{}`",
                parent.key, own.key
            ));
        }
        (parent.digest != own.digest).then(|| "it was started with another input".to_string())
    }
}

/// Whether a parent hears that the id of its child is used for something else. Then whatever else comes under that key is
/// of the run that has the id.
pub(crate) fn tells_of_a_conflict(letter: &Letter) -> bool {
    letter.kind == LetterKind::ChildEnded as u16
        && matches!(decode(&letter.body), Ok(Reply::Failure(failure)) if failure.code == Code::CONFLICT)
}

/// Tells a run what became of something that it waits for by `key`.
pub(crate) fn reply_letter(key: &Arc<str>, id: LetterId, reply: &Reply, at: Timestamp) -> Letter {
    Letter { id, kind: LetterKind::ChildEnded as u16, name: key.clone(), body: encode(reply), at }
}
