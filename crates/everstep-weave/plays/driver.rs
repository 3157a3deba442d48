use std::{
    sync::Arc,
    task::{Poll, Waker},
};

use crate::driver::{
    news::{News, Trouble},
    wake::Root,
};

/// What a driver has seen of its news in one poll, in the order in which the engine's looks.
pub(crate) fn settled_and_trouble(news: &News, root: &Root, waker: &Waker) -> (u64, Option<Trouble>) {
    root.register_task(waker);
    let settled = news.settled_turns();
    let trouble = news.take_trouble();
    (settled, trouble)
}

/// The same for messages.
pub(crate) fn nudged(news: &News, root: &Root, waker: &Waker) -> bool {
    root.register_task(waker);
    let nudged = news.take_nudge();
    nudged
}

/// Waits as a driver does until `done`, which is asked in each poll.
pub(crate) async fn drive(mut done: impl FnMut(&Waker) -> bool) {
    std::future::poll_fn(|cx| if done(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// A driver's shared part.
pub(crate) fn new() -> (Arc<News>, Arc<Root>) {
    (Arc::default(), Arc::default())
}
