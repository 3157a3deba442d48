//! Futures side by side, so many at a time: those that were woken are polled, in the order of their numbers, and one
//! that ends makes room for the next. What is durable about them, and when enough of them have ended, is not here.
//!
//! What a poll does depends on arrivals alone, as in `join!`, and costs what was woken, as in `FuturesUnordered`. Wakes
//! that only a live run sees, those of bodies, may add to a poll a branch that has nothing to do. One that the function
//! itself wakes meanwhile waits for the next poll, whether it was among the woken already or not: in a replay it would
//! not be.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use crate::{
    BoxFuture,
    driver::stack::{self, Frame},
};

/// Makes the next branch, if there is one.
pub(crate) type Next<'a, T> = Box<dyn FnMut() -> Option<BoxFuture<'a, T>> + Send + 'a>;

/// Branches, numbered from 0.
pub(crate) struct Branches<'a, T> {
    next: Next<'a, T>,
    limit: usize,
    begun: usize,
    running: BTreeMap<usize, Branch<'a, T>>,
    woken: Arc<Woken>,
}

struct Branch<'a, T> {
    work: BoxFuture<'a, T>,
    waker: Waker,
}

impl<'a, T> Branches<'a, T> {
    pub(crate) fn new(limit: usize, next: Next<'a, T>) -> Self {
        Branches { next, limit, begun: 0, running: BTreeMap::new(), woken: Arc::default() }
    }

    /// Polls who was woken and lets others begin, until `ended`, which hears of each end, has heard enough.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, mut ended: impl FnMut(usize, T) -> ControlFlow<()>) {
        for number in self.woken.take(cx.waker()) {
            if !self.woken.by_function(number) && self.poll_one(number, &mut ended).is_break() {
                return;
            }
        }
        while self.running.len() < self.limit
            && let Some(work) = (self.next)()
        {
            let number = self.begin(work);
            if self.poll_one(number, &mut ended).is_break() {
                return;
            }
        }
    }

    fn begin(&mut self, work: BoxFuture<'a, T>) -> usize {
        let number = self.begun;
        let waker = Waker::from(Arc::new(BranchWaker { number, woken: self.woken.clone() }));
        self.running.insert(number, Branch { work, waker });
        self.begun += 1;
        number
    }

    fn poll_one(
        &mut self,
        number: usize,
        ended: &mut impl FnMut(usize, T) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        // Its wakers may outlive it.
        let Some(Branch { work, waker }) = self.running.get_mut(&number) else {
            return ControlFlow::Continue(());
        };
        let Poll::Ready(end) = work.as_mut().poll(&mut Context::from_waker(waker)) else {
            return ControlFlow::Continue(());
        };
        self.running.remove(&number);
        ended(number, end)
    }
}

/// Which branches were woken.
#[derive(Default)]
struct Woken(Mutex<Numbers>);

#[derive(Default)]
struct Numbers {
    /// Whoever awaits the branches.
    parent: Option<Waker>,
    /// With each, whether the function itself woke it.
    woken: BTreeMap<usize, bool>,
}

impl Woken {
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the numbers of the woken; who is woken from now on lets `parent` be polled again.
    fn take(&self, parent: &Waker) -> impl Iterator<Item = usize> + use<> {
        let mut numbers = self.numbers();
        match &mut numbers.parent {
            Some(known) => known.clone_from(parent),
            none => *none = Some(parent.clone()),
        }
        std::mem::take(&mut numbers.woken).into_keys()
    }

    /// Whether the function has woken this branch since the numbers were taken.
    fn by_function(&self, number: usize) -> bool {
        self.numbers().woken.get(&number).is_some_and(|by_function| *by_function)
    }
}

/// The waker of one branch.
struct BranchWaker {
    number: usize,
    woken: Arc<Woken>,
}

impl Wake for BranchWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let by_function = matches!(stack::top(), Frame::Function(_));
        let mut numbers = self.woken.numbers();
        *numbers.woken.entry(self.number).or_default() |= by_function;
        let parent = numbers.parent.clone();
        drop(numbers);
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    /// What branches have said, in order.
    type Said = Arc<Mutex<Vec<String>>>;

    fn say(said: &Said, what: impl Into<String>) {
        said.lock().expect("unpoisoned").push(what.into());
    }

    fn heard(said: &Said) -> String {
        std::mem::take(&mut *said.lock().expect("unpoisoned")).join(" ")
    }

    /// Where each branch stands, for a test that plays the arrivals.
    #[derive(Default)]
    struct Stage {
        wakers: Mutex<BTreeMap<usize, Waker>>,
        over: Mutex<Vec<usize>>,
    }

    impl Stage {
        /// As the driver does, between polls of the function.
        fn wake(&self, number: usize) {
            let waker = self.wakers.lock().expect("unpoisoned").get(&number).cloned();
            waker.expect("it was polled").wake();
        }

        fn end(&self, number: usize) {
            self.over.lock().expect("unpoisoned").push(number);
            self.wake(number);
        }
    }

    /// `count` branches that end when the stage says so; one that ends wakes those of `wakes`.
    fn branches(
        limit: usize,
        count: usize,
        wakes: &'static [usize],
    ) -> (Branches<'static, usize>, Arc<Stage>, Said) {
        let (stage, said) = (Arc::new(Stage::default()), Said::default());
        let (shared, log) = (stage.clone(), said.clone());
        let mut numbers = 0..count;
        let next = move || {
            let number = numbers.next()?;
            let (stage, said) = (shared.clone(), log.clone());
            let work = poll_fn(move |cx| {
                stage.wakers.lock().expect("unpoisoned").insert(number, cx.waker().clone());
                say(&said, number.to_string());
                let over = stage.over.lock().expect("unpoisoned").contains(&number);
                if !over {
                    return Poll::Pending;
                }
                wakes.iter().for_each(|woken| stage.wake(*woken));
                Poll::Ready(number)
            });
            Some(Box::pin(work) as BoxFuture<'static, usize>)
        };
        (Branches::new(limit, Box::new(next)), stage, said)
    }

    /// One poll of the function. How many branches run then.
    fn poll(branches: &mut Branches<'static, usize>) -> usize {
        let _function = stack::enter(Frame::Function(1));
        branches.poll(&mut Context::from_waker(Waker::noop()), |_, _| ControlFlow::Continue(()));
        branches.running.len()
    }

    #[test]
    fn one_that_ends_makes_room_for_the_next() {
        let (mut branches, stage, said) = branches(2, 4, &[]);
        assert_eq!((poll(&mut branches), heard(&said).as_str()), (2, "0 1"));
        stage.end(1);
        assert_eq!((poll(&mut branches), heard(&said).as_str()), (2, "1 2"));
        stage.end(2);
        stage.end(0);
        assert_eq!((poll(&mut branches), heard(&said).as_str()), (1, "0 2 3"), "by number, then the next");
        stage.end(3);
        assert_eq!((poll(&mut branches), heard(&said).as_str()), (0, "3"));
        stage.wake(3);
        assert_eq!((poll(&mut branches), heard(&said).as_str()), (0, ""), "its waker has outlived it");
    }

    #[test]
    fn nothing_is_polled_that_was_not_woken() {
        let (mut branches, stage, said) = branches(9, 9, &[]);
        assert_eq!((poll(&mut branches), heard(&said).as_str()), (9, "0 1 2 3 4 5 6 7 8"));
        assert_eq!((poll(&mut branches), heard(&said).as_str()), (9, ""));
        stage.wake(4);
        assert_eq!((poll(&mut branches), heard(&said).as_str()), (9, "4"));
    }

    #[test]
    fn enough_is_enough() {
        let (mut branches, stage, said) = branches(2, 4, &[]);
        poll(&mut branches);
        stage.end(0);
        stage.end(1);
        heard(&said);
        let mut ends = Vec::new();
        branches.poll(&mut Context::from_waker(Waker::noop()), |number, _| {
            ends.push(number);
            ControlFlow::Break(())
        });
        assert_eq!((ends, heard(&said).as_str()), (vec![0], "0"), "nobody else is polled, none begins");
    }

    /// Branch 1 ends and wakes 0 and 2. On replay nothing else woke them; live, the body of 2 may have woken it just
    /// before. Both times 0 goes on before 2.
    #[test]
    fn a_wake_that_only_a_live_run_sees_changes_no_order() {
        for live in [false, true] {
            let (mut branches, stage, said) = branches(3, 3, &[0, 2]);
            poll(&mut branches);
            heard(&said);
            if live {
                stage.wake(2);
            }
            stage.end(1);
            poll(&mut branches);
            poll(&mut branches);
            assert_eq!(heard(&said), "1 0 2", "live: {live}");
        }
    }

    /// A body's wake from another thread during a poll is no reason to wait: a replay would not wait either.
    #[test]
    fn a_wake_from_elsewhere_during_a_poll_puts_nobody_off() {
        let (mut branches, stage, said) = branches(2, 2, &[]);
        poll(&mut branches);
        heard(&said);
        stage.wake(1);
        stage.end(0);
        let _function = stack::enter(Frame::Function(1));
        branches.poll(&mut Context::from_waker(Waker::noop()), |_, _| {
            let _elsewhere = stack::enter(Frame::Wake);
            stage.wake(1);
            ControlFlow::Continue(())
        });
        assert_eq!(heard(&said), "0 1");
    }

    #[test]
    fn whoever_awaits_them_last_is_woken() {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let [first, second] = [(); 2].map(|()| Arc::new(Count(AtomicUsize::new(0))));
        let (mut branches, stage, _) = branches(1, 1, &[]);
        for parent in [&first, &second] {
            let waker = Waker::from(parent.clone());
            branches.poll(&mut Context::from_waker(&waker), |_, _| ControlFlow::Continue(()));
        }
        stage.wake(0);
        assert_eq!([&first, &second].map(|count| count.0.load(Ordering::SeqCst)), [0, 1]);
    }
}
