use std::sync::Arc;

use super::{news::News, wake::Root};
use crate::store::RunId;

/// A run in memory: what others see of it.
pub(crate) struct RunCore {
    pub(crate) claimed: Claimed,
    pub(crate) root: Arc<Root>,
    pub(crate) news: News,
}

pub(crate) struct Claimed {
    pub(crate) row: Row,
}

pub(crate) struct Row {
    pub(crate) run: RunId,
}

impl RunCore {
    pub(crate) fn new(run: RunId) -> Arc<RunCore> {
        let claimed = Claimed { row: Row { run } };
        Arc::new(RunCore { claimed, root: Arc::default(), news: News::default() })
    }

    pub(crate) fn nudge(&self) {
        self.news.nudge(&self.root);
    }

    pub(crate) fn nudge_if(&self, so: bool) {
        self.news.nudge_if(so);
    }

    pub(crate) fn stop(&self, at_once: bool) {
        self.news.stop(at_once, &self.root);
    }
}
