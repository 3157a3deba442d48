//! Whether two stores have the same runs, by their digests.

use std::{collections::VecDeque, sync::Arc};

use futures_util::future::join;
use hmac_sha256::Hash as Sha256;

use super::{CopyProgress, Copying, PAGE, Side, cannot};
use crate::{
    error::EngineError,
    store::{RunId, StoreError, Transfer, WholeDigest},
};

/// A run, as it is compared.
#[derive(PartialEq)]
struct Seen {
    run: RunId,
    id: Arc<str>,
    digest: WholeDigest,
}

/// The runs of one store, by number.
struct Reader<'a> {
    store: &'a dyn Transfer,
    after: RunId,
    page: VecDeque<Seen>,
}

impl<'a> Reader<'a> {
    fn of(side: &'a Side) -> Result<Reader<'a>, EngineError> {
        Ok(Reader { store: side.transfer()?, after: RunId(i64::MIN), page: VecDeque::new() })
    }

    /// Reads on if there is nothing left; then there is something, or nothing more.
    async fn fill(&mut self) -> Result<(), StoreError> {
        if self.page.is_empty() {
            let page = self.store.wholes(self.after, PAGE).await?;
            self.after = page.last().map_or(self.after, |last| last.row.run);
            let seen = page.iter().map(|whole| Seen {
                run: whole.row.run,
                id: whole.row.id.clone(),
                digest: whole.digest(),
            });
            self.page.extend(seen);
        }
        Ok(())
    }
}

impl Copying {
    /// How many runs both stores have, and the digest of all their digests.
    pub(super) async fn verify(
        &self,
        told: &mut impl FnMut(CopyProgress),
    ) -> Result<(u64, WholeDigest), EngineError> {
        let of = self.from.count().await?;
        let (mut left, mut right) = (Reader::of(&self.from)?, Reader::of(&self.to)?);
        let (mut runs, mut all) = (0, Sha256::new());
        loop {
            let (from, to) = join(left.fill(), right.fill()).await;
            from?;
            to?;
            if left.page.is_empty() && right.page.is_empty() {
                break;
            }
            for _ in 0..left.page.len().min(right.page.len()).max(1) {
                let (here, there) = (left.page.pop_front(), right.page.pop_front());
                all.update(self.same(here, there)?.0);
                runs += 1;
            }
            told(CopyProgress::Verified { runs, of });
        }
        let (mut from, mut to) = (self.from.store.counts().await?, self.to.store.counts().await?);
        from.sort();
        to.sort();
        match from == to {
            true => Ok((runs, WholeDigest(all.finalize()))),
            false => Err(cannot(format!("the counts of runs differ: {from:?} and {to:?}"))),
        }
    }

    fn same(&self, here: Option<Seen>, there: Option<Seen>) -> Result<WholeDigest, EngineError> {
        match (here, there) {
            (Some(here), Some(there)) if here == there => Ok(here.digest),
            (Some(here), Some(there)) if here.run == there.run => Err(cannot(format!(
                "run `{}` differs: its digest is {} in `{}` and {} in `{}`",
                here.id, here.digest, self.from.name, there.digest, self.to.name
            ))),
            (Some(here), there) if there.as_ref().is_none_or(|there| here.run < there.run) => {
                Err(cannot(format!("run `{}` is not in `{}`", here.id, self.to.name)))
            }
            (_, Some(there)) => Err(cannot(format!("run `{}` is not in `{}`", there.id, self.from.name))),
            (_, None) => unreachable!("at least one of the two has a run"),
        }
    }
}
