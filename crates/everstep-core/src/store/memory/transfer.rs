//! Runs that move to another store, or come from one.

use super::{Memory, content::Content};
use crate::store::{
    Answer, CopyId, CopyMark, CopyStage, Kept, Needs, Numbers, PAGE_BYTES, RunId, StoreError, Transfer, Whole,
};

impl Transfer for Memory {
    fn copy_mark(&self) -> Answer<Option<CopyMark>> {
        self.read(|content| content.copy_mark.clone())
    }

    fn set_copy_mark(&self, from: Option<CopyMark>, to: Option<CopyMark>) -> Answer<()> {
        self.write(|content| content.set_copy_mark(from.as_ref(), to))
    }

    fn numbers(&self) -> Answer<Numbers> {
        self.read(|content| Numbers { run: content.last_run, worker: content.last_worker })
    }

    fn wholes(&self, after: RunId, limit: usize) -> Answer<Vec<Whole>> {
        self.read(|content| {
            let (mut page, mut bytes) = (Vec::new(), 0);
            for run in content.runs.range(RunId(after.0.saturating_add(1))..).map(|(run, _)| *run).take(limit)
            {
                let whole = content.whole(run);
                bytes += whole.bytes();
                page.push(whole);
                if bytes >= PAGE_BYTES {
                    break;
                }
            }
            page
        })
    }

    fn place(&self, copy: CopyId, numbers: Numbers, runs: Vec<Whole>) -> Answer<usize> {
        self.write(|content| content.place(copy, numbers, runs))
    }
}

impl Content {
    /// Whether clients and new workers may write.
    pub(super) fn check_mark(&self) -> Result<(), StoreError> {
        self.copy_mark.as_ref().map_or(Ok(()), |mark| Err(mark.refusal()))
    }

    fn set_copy_mark(&mut self, from: Option<&CopyMark>, to: Option<CopyMark>) -> Result<(), StoreError> {
        if self.copy_mark.as_ref() != from {
            return Err(CopyMark::changed(self.copy_mark.as_ref()));
        }
        let needs = CopyMark::needs(from, to.as_ref())?;
        if needs != Needs::Nothing
            && let Some(worker) =
                self.workers.iter().find(|(_, worker)| !worker.fenced || !worker.owns.is_empty())
        {
            return Err(CopyMark::blocked(&format!("worker {} is at work", worker.0.0)));
        }
        if needs == Needs::Empty
            && let Some(run) = self.runs.values().next()
        {
            return Err(CopyMark::blocked(&format!("it has runs of its own, like `{}`", run.row.id)));
        }
        self.copy_mark = to;
        self.rings.changed = true;
        Ok(())
    }

    /// All that is kept of a run besides.
    pub(super) fn kept(&self, run: RunId) -> Kept {
        let promises = self.promises_of(run);
        let Some(run) = self.runs.get(&run) else { return Kept::default() };
        let mut seen: Vec<_> = run.known.iter().copied().collect();
        seen.sort_by_key(|id| id.0);
        Kept {
            archive: run.archive.clone(),
            promises,
            replies: run.said.replies.values().cloned().collect(),
            seen,
        }
    }

    fn whole(&self, id: RunId) -> Whole {
        let run = &self.runs[&id];
        let streams = run.said.streams.iter().filter(|(_, items)| !items.is_empty());
        Whole {
            row: run.seen_row(),
            trace: run.trace.clone(),
            parent: run.parent.clone(),
            loaded: run.loaded(),
            stuck: run.stuck.clone(),
            attributes: run.said.attributes.clone().into_iter().collect(),
            published: run.said.published.values().cloned().collect(),
            streams: streams.map(|(name, items)| (name.clone(), items.clone())).collect(),
            acts: run.acts.clone(),
            kept: self.kept(id),
        }
    }

    fn place(&mut self, copy: CopyId, numbers: Numbers, runs: Vec<Whole>) -> Result<usize, StoreError> {
        match &self.copy_mark {
            Some(mark) if mark.copy == copy && mark.stage == CopyStage::Arriving => {}
            found => return Err(CopyMark::changed(found.as_ref())),
        }
        let mut new = Vec::new();
        for whole in runs {
            if self.is_new(&whole, &new)? {
                new.push(whole);
            }
        }
        self.last_run = self.last_run.max(numbers.run);
        self.last_worker = self.last_worker.max(numbers.worker);
        let placed = new.len();
        for whole in new {
            self.take_in(whole);
        }
        self.rings.changed = true;
        Ok(placed)
    }

    /// `false` if it is there and equal.
    fn is_new(&self, whole: &Whole, before: &[Whole]) -> Result<bool, StoreError> {
        let row = &whole.row;
        if row.owner.is_some() {
            return Err(whole.refused("a worker has it"));
        }
        if self.runs.contains_key(&row.run) {
            return match self.whole(row.run).digest() == whole.digest() {
                true => Ok(false),
                false => Err(whole.refused("another state of it, or another run of its number, is there")),
            };
        }
        let of_batch = |other: &&Whole| other.row.run == row.run || other.row.id == row.id;
        if self.ids.contains_key(&row.id) || before.iter().any(|other| of_batch(&other)) {
            return Err(whole.refused("its id belongs to another run there"));
        }
        Ok(true)
    }
}
