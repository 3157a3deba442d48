//! Whether a store looks as the model says.

use everstep_core::store::StoreError;

use super::actual::{Actual, MARKED, at, entry, standing};
use crate::protocol::{Content, Standing};

/// What there is to see of a run and its workers.
#[derive(Debug, PartialEq)]
struct Seen {
    standing: Option<Standing>,
    owner: Option<usize>,
    due: bool,
    inbox_n: u64,
    finished: bool,
    journal: Vec<everstep_core::journal::Entry>,
    inbox: Vec<(u64, u128)>,
    row: bool,
    stuck: bool,
    /// Beats of those that are not fenced, by number.
    beats: Vec<Option<u64>>,
}

impl Actual {
    /// How the store differs from the model, if it does.
    pub(super) async fn difference(&self, content: &Content) -> Result<Option<String>, StoreError> {
        let (model, actual) = (expected(content), self.seen().await?);
        Ok((model != actual).then(|| format!("-- model:\n{model:#?}\n-- store:\n{actual:#?}")))
    }

    async fn seen(&self) -> Result<Seen, StoreError> {
        let gone = || StoreError::Failed("the run is gone".into());
        let row = self.client.run(self.id.clone()).await?.ok_or_else(gone)?;
        let loaded = self.client.load(self.run).await?;
        let seen = self.client.workers().await?;
        let number = |worker| self.workers.iter().position(|(_, fence)| fence.worker == worker);
        let beat = |worker| seen.iter().find(|seen| seen.worker == worker && !seen.fenced).map(|w| w.beat);
        Ok(Seen {
            standing: standing(row.status),
            owner: row.owner.and_then(number),
            due: row.wake_at.is_some_and(|wake_at| wake_at <= at(1000)),
            inbox_n: row.inbox_n,
            finished: row.finished_at.is_some(),
            journal: loaded.entries,
            inbox: loaded.inbox.iter().map(|received| (received.n, received.letter.id.0)).collect(),
            row: loaded.started.iter().any(|row| &*row.key == MARKED),
            stuck: self.client.stuck(self.run).await?.is_some(),
            beats: self.workers.iter().map(|(_, fence)| beat(fence.worker)).collect(),
        })
    }
}

fn expected(content: &Content) -> Seen {
    let named = |n: &u8| (u64::from(*n), u128::from(content.names[usize::from(*n) - 1]));
    Seen {
        standing: Some(content.standing),
        owner: content.owner.map(usize::from),
        due: content.due && content.owner.is_none(),
        inbox_n: u64::from(content.inbox_n),
        finished: content.standing == Standing::Completed,
        journal: content.journal.iter().map(|record| entry(*record)).collect(),
        inbox: content.inbox.iter().map(named).collect(),
        row: content.row,
        stuck: content.standing == Standing::Stuck,
        beats: content.workers.iter().map(|row| (!row.fenced).then_some(u64::from(row.beat))).collect(),
    }
}
