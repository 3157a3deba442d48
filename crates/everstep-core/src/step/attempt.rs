//! The attempts of an open step: makes their bodies, decides what follows each, and hands the driver what happened; the
//! driver makes it an entry and grants the outcome.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{
    Make, Options, Spent,
    record::{Made, record},
};
use crate::{
    BoxFuture,
    body::{Data, Doubt, Verdict},
    digest::retry_chance,
    driver::{
        run::{RunCore, Told},
        stack::{self, Frame},
        table::{Arrived, Candidate, Happened},
        undos::Offer,
        wake::BodyWaker,
    },
    error::{Code, Error, ErrorKind, Result, panic_message},
    failpoint::{Failpoint, pass},
    journal::{Failure, decode},
    retry::Decision,
    scope::Claim,
    step_ctx::StepCtx,
    stuck::{Stuck, StuckReason},
    time::Timestamp,
};

/// A step that is not over.
pub(super) struct Open<'a, T> {
    pub(super) core: Arc<RunCore>,
    claim: Claim,
    op: usize,
    claimed_at: Timestamp,
    make: Make<'a, T>,
    pub(super) options: Options<'a, T>,
    body: Option<Attempting<'a, T>>,
    /// Of a transactional step: tells the store that nobody wants the job any more, if it has not begun it.
    pub(super) withdrawn: Option<Arc<AtomicBool>>,
    /// The time of the job ran out; the store says whether it was withdrawn or came first.
    too_late: Option<Error>,
    value: Option<T>,
    /// The attempt that must not be silent for so long.
    silent_for: Option<(StepCtx, Duration)>,
    /// What put the attempt in doubt that `verify` looks at, if it was no crash.
    in_doubt_by: Option<Error>,
}

enum Attempting<'a, T> {
    Body { attempt: u32, future: BoxFuture<'a, Result<Made<T>>> },
    Verify { attempt: u32, doubt: u32, future: BoxFuture<'a, Result<Verdict<T>>> },
}

impl<'a, T> Open<'a, T> {
    pub(super) fn new(
        core: Arc<RunCore>,
        claim: Claim,
        op: usize,
        claimed_at: Timestamp,
        (make, options): (Make<'a, T>, Options<'a, T>),
    ) -> Self {
        Open {
            core,
            claim,
            op,
            claimed_at,
            make,
            options,
            body: None,
            withdrawn: None,
            too_late: None,
            value: None,
            silent_for: None,
            in_doubt_by: None,
        }
    }
}

impl<T> Drop for Open<'_, T> {
    fn drop(&mut self) {
        self.drop_body();
        self.core.close(self.op);
    }
}

impl<T> Open<'_, T> {
    /// Whether there was a body. What it drops is still inside it.
    fn drop_body(&mut self) -> bool {
        let _body = stack::enter(Frame::Body(self.core.address()));
        self.body.take().is_some()
    }
}

impl<T: Data> Open<'_, T> {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T>> {
        if stack::top() != Frame::Function(self.core.address()) {
            self.core.check_place("awaiting a step")?;
        }
        self.claim.polled();
        if let Some(undo) = self.options.undo.take() {
            let retry = self.options.retry;
            self.core.offer_undo(self.op, Offer { retry, ..*undo });
        }
        let (options, claimed_at) = (&mut self.options, self.claimed_at);
        let transacts = self.withdrawn.is_some();
        match self.core.poll(self.op, cx.waker(), || options.wants(transacts, claimed_at)) {
            Told::Wait => Poll::Pending,
            Told::Start { doubt, waker } => {
                self.begin(waker.ctx().clone(), doubt);
                self.poll_body(cx, &waker)
            }
            Told::Poll(waker) => self.poll_body(cx, &waker),
            Told::Expire { attempt, total, doubt } => {
                self.expired(attempt, total, doubt);
                self.poll_withdrawn(cx)
            }
            Told::Take(arrived) => self.take(arrived),
        }
    }

    /// Makes the body of an attempt, unless there is something to say before it.
    fn begin(&mut self, ctx: StepCtx, doubt: Option<u32>) {
        if doubt.is_some() {
            pass(Failpoint::DoubtDecided);
        }
        match (self.refusal(), doubt) {
            (Some(error), _) => self.failed(ctx.attempt(), error),
            (None, None) => self.make(ctx),
            (None, Some(doubt)) if self.options.verify.is_some() => self.look(ctx, doubt),
            (None, Some(doubt)) => {
                if self.decide_doubt(doubt, "its worker stopped before it returned") {
                    self.core.start_again(self.op, None);
                }
            }
        }
    }

    /// What is wrong with the options; told before the body runs.
    fn refusal(&self) -> Option<Error> {
        if let Some(Err(why)) = &self.options.input {
            return Some(Error::from_failure(why.clone(), None));
        }
        let marks = self.options.marks() && self.withdrawn.is_none();
        if marks && self.core.worker.store.durability() < crate::store::Durability::Power {
            return Some(Error::misuse(
                Code::TOO_WEAK,
                "`Fail`, `Ask` and `verify` need a store at power-safe durability: a lost record would break their promise. Open the store at its default level, or use `Doubt::Retry`",
            ));
        }
        None
    }

    /// Lets `verify` begin to look whether attempt `doubt` has happened.
    fn look(&mut self, ctx: StepCtx, doubt: u32) {
        let Some(verify) = &self.options.verify else { return };
        let attempt = ctx.attempt();
        let called = {
            let _body = stack::enter(Frame::Body(self.core.address()));
            std::panic::catch_unwind(AssertUnwindSafe(|| verify(ctx)))
        };
        match called {
            Ok(future) => self.body = Some(Attempting::Verify { attempt, doubt, future }),
            Err(panic) => self.cannot_tell(doubt, &format!("panicked: {}", panic_message(&*panic))),
        }
    }

    fn cannot_tell(&mut self, doubt: u32, why: &str) {
        self.ask(doubt, &format!("and `verify` could not tell: {why}"));
    }

    fn make(&mut self, ctx: StepCtx) {
        let attempt = ctx.attempt();
        self.silent_for = None;
        if let Some(limit) = self.options.attempt_timeout {
            ctx.ends_by(self.core.worker.clock.now().after(limit));
        }
        if let Some(silence) = self.options.heartbeat_timeout {
            ctx.may_be_silent(silence);
        }
        if self.options.attempt_timeout.is_some() || self.options.heartbeat_timeout.is_some() {
            self.core.attempt_ends(self.op, ctx.ends().min(ctx.silent_at()));
        }
        if let Some(silence) = self.options.heartbeat_timeout {
            self.silent_for = Some((ctx.clone(), silence));
        }
        if let Some(withdrawn) = &self.withdrawn {
            withdrawn.store(false, Ordering::Release);
        }
        pass(Failpoint::BodyBegins);
        if let Some(future) = self.core.worker.rehearsal.body(&self.claim.key, &ctx) {
            let bytes_max = self.core.worker.settings.payload_bytes_max;
            let future =
                Box::pin(async move { record(serde_json::from_slice(&future.await?.bytes)?, bytes_max) });
            self.body = Some(Attempting::Body { attempt, future });
            return;
        }
        let made = {
            let _body = stack::enter(Frame::Body(self.core.address()));
            std::panic::catch_unwind(AssertUnwindSafe(|| (self.make)(ctx)))
        };
        match made {
            Ok(future) => self.body = Some(Attempting::Body { attempt, future }),
            Err(panic) => self.panicked(attempt, panic_message(&*panic)),
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, waker: &Arc<BodyWaker<StepCtx>>) -> Poll<Result<T>> {
        let Some(body) = &mut self.body else { return Poll::Pending };
        waker.polled_for(cx.waker());
        let as_waker = Waker::from(waker.clone());
        let mut body_cx = Context::from_waker(&as_waker);
        let entered = stack::enter(Frame::Body(self.core.address()));
        match body {
            Attempting::Body { attempt, future } => {
                let attempt = *attempt;
                let polled =
                    std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut body_cx)));
                drop(entered);
                match polled {
                    Ok(Poll::Pending) => {}
                    Ok(Poll::Ready(result)) => self.returned(attempt, result),
                    Err(panic) => self.panicked(attempt, panic_message(&*panic)),
                }
            }
            Attempting::Verify { attempt, doubt, future } => {
                let (attempt, doubt) = (*attempt, *doubt);
                let polled =
                    std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut body_cx)));
                drop(entered);
                match polled {
                    Ok(Poll::Pending) => {}
                    Ok(Poll::Ready(Ok(verdict))) => self.verified(attempt, verdict),
                    Ok(Poll::Ready(Err(why))) => self.cannot_tell(doubt, &why.to_string()),
                    Err(panic) => {
                        self.cannot_tell(doubt, &format!("panicked: {}", panic_message(&*panic)));
                    }
                }
            }
        }
        Poll::Pending
    }

    /// What runs beside a job that was withdrawn hears it at once, and the store with it.
    fn poll_withdrawn(&mut self, cx: &mut Context<'_>) -> Poll<Result<T>> {
        match self.too_late.is_some().then(|| self.core.body_of(self.op)).flatten() {
            Some(waker) => self.poll_body(cx, &waker),
            None => Poll::Pending,
        }
    }

    fn verified(&mut self, attempt: u32, verdict: Verdict<T>) {
        self.drop_body();
        match (verdict, self.in_doubt_by.take()) {
            (Verdict::Done(value), _) => {
                let result = record(value, self.core.worker.settings.payload_bytes_max);
                self.returned(attempt, result);
            }
            (Verdict::NotDone, Some(error)) => self.failed(attempt, error),
            (Verdict::NotDone, None) => {
                self.core.did_not_happen(self.op);
                self.core.start_again(self.op, None);
            }
        }
    }

    fn happened(&mut self, what: Happened, letter: Option<u64>) {
        self.drop_body();
        self.core.happened(Candidate { op: self.op, what, takes: letter });
    }

    fn returned(&mut self, attempt: u32, result: Result<Made<T>>) {
        pass(Failpoint::BodyReturned);
        if self.core.worker.rehearsal.dies_after_body(&self.claim.key) {
            self.body = Some(Attempting::Body { attempt, future: Box::pin(std::future::pending()) });
            return;
        }
        match (result, self.too_late.take()) {
            (Ok(Made { value, payload, letter }), _) => {
                self.value = Some(value);
                self.happened(Happened::Done(payload), letter);
            }
            (Err(_), Some(timeout)) => self.failed(attempt, timeout),
            (Err(error), None) => self.failed(attempt, error),
        }
    }

    fn failed(&mut self, attempt: u32, error: Error) {
        let retry = self.options.retry.unwrap_or(self.core.worker.settings.retry);
        let chance = retry_chance(self.core.incarnation, self.core.generation(), &self.claim.key, attempt);
        let bytes_max = self.core.worker.settings.payload_bytes_max;
        let failure = error.to_failure(self.options.typed.as_ref()).within(bytes_max);
        match retry.decide(attempt, &error, chance) {
            Decision::RetryAfter(pause) => self.happened(Happened::Again { error: failure, pause }, None),
            Decision::Spent | Decision::GiveUp if self.options.spent == Spent::UndoFailed => {
                let detail = format!("`{}` failed {attempt} times, last: {error}", self.claim.key);
                self.stuck(StuckReason::UndoFailed, detail);
            }
            Decision::Spent if self.options.spent == Spent::Stuck => {
                let detail = format!("step `{}` failed {attempt} times, last: {error}", self.claim.key);
                self.stuck(StuckReason::RetriesSpent, detail);
            }
            Decision::Spent | Decision::GiveUp => self.happened(Happened::Failed(failure), None),
        }
    }

    fn panicked(&mut self, attempt: u32, said: &str) {
        self.drop_body();
        let error = Error::engine(ErrorKind::Panic, Code::PANIC, format!("panicked: {said}"));
        self.failed_in_doubt(attempt, attempt, error, &format!("it panicked: {said}"));
    }

    fn expired(&mut self, attempt: u32, total: bool, doubt: Option<u32>) {
        let what = if total { "the step" } else { "the attempt" };
        let is_silent = |(ctx, _): &(StepCtx, Duration)| ctx.silent_at() <= self.core.worker.clock.now();
        let why = match self.silent_for.as_ref().filter(|silent| !total && is_silent(silent)) {
            Some((_, silence)) => format!("gave no heartbeat for {silence:?}"),
            None => "ran out of time".to_string(),
        };
        let message = format!("{what} `{}` {why}", self.claim.key);
        let mut error = Error::engine(ErrorKind::Timeout, Code::TIMEOUT, message);
        if total {
            error = error.and_stop();
        }
        if let (Some(withdrawn), Some(_)) = (&self.withdrawn, &self.body) {
            withdrawn.store(true, Ordering::Release);
            self.too_late = Some(error);
            return;
        }
        let running = self.drop_body().then_some(attempt);
        match running.or(doubt) {
            Some(doubt) => self.failed_in_doubt(attempt, doubt, error, &format!("{what} {why}")),
            None => self.failed(attempt, error),
        }
    }

    /// `error` ends the attempt without saying whether attempt `doubt` has happened: that is decided first.
    fn failed_in_doubt(&mut self, attempt: u32, doubt: u32, error: Error, why: &str) {
        let transacts = self.withdrawn.is_some();
        if self.options.verify.is_some() && !transacts {
            self.in_doubt_by = Some(Error::from_failure(error.to_failure(None), None));
            self.core.start_again(self.op, Some(doubt));
        } else if transacts || self.decide_doubt(doubt, why) {
            self.failed(attempt, error);
        }
    }

    /// What becomes of an attempt in doubt; `true` if the policy leaves it to the retries.
    fn decide_doubt(&mut self, attempt: u32, why: &str) -> bool {
        match self.options.doubt {
            Doubt::Retry => true,
            Doubt::Fail => {
                let message = format!("attempt {attempt} of step `{}` is in doubt: {why}", self.claim.key);
                let mut failure = Failure::of(ErrorKind::InDoubt, Code::IN_DOUBT, message);
                failure.terminal = true;
                self.happened(Happened::Failed(failure), None);
                false
            }
            Doubt::Ask => {
                self.ask(attempt, why);
                false
            }
        }
    }

    fn ask(&mut self, attempt: u32, why: &str) {
        let detail =
            format!("attempt {attempt} of step `{}` was started, {why}: did it happen?", self.claim.key);
        self.stuck(StuckReason::InDoubt, detail);
    }

    fn stuck(&mut self, reason: StuckReason, detail: String) {
        self.drop_body();
        self.core.asks(self.op, Stuck { reason, key: Some(self.claim.key.clone()), detail });
    }

    /// The outcome was granted: the function gets what decodes from the record.
    fn take(&mut self, arrived: Arrived) -> Poll<Result<T>> {
        let answer = match arrived.what {
            Err(failure) => Err(Error::from_failure(failure, Some(arrived.seq))),
            Ok(None) => Ok(self.value.take().expect("a live value stays with its step")),
            Ok(Some(payload)) => match decode(&payload) {
                Ok(value) => Ok(value),
                Err(why) => {
                    let detail = format!(
                        "entry {} of step `{}` does not decode as `{}`: {why}",
                        arrived.seq,
                        self.claim.key,
                        std::any::type_name::<T>()
                    );
                    self.core.be_stuck(StuckReason::Undecodable, &self.claim.key, detail);
                    return Poll::Pending;
                }
            },
        };
        Poll::Ready(answer)
    }
}
