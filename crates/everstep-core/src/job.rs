//! Jobs: transactional steps as the store crates give them, and what those crates need of the engine for it. What a job
//! does, and on which thread, is the store's; a body that runs beside it runs on the run's own task and may borrow.

use std::{
    any::Any,
    future::Future,
    panic::Location,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use crate::{
    BoxFuture, Ctx,
    body::Data,
    driver::{run::RunCore, table::Sort},
    error::{Code, Error, Result, panic_message},
    journal::Payload,
    step::{Made, Step, record},
    step_ctx::StepCtx,
    store::{Answer, StoreError, Transact, Transacted},
};

/// A transactional step's job, and the body that runs beside it on the run's own task, if it does not run in the store.
#[doc(hidden)]
pub type Staged<'a> = (Box<dyn Any + Send>, Option<BoxFuture<'a, ()>>);

impl Ctx {
    /// The seam of the store crates' `Transaction` traits: `job` is the store's own kind of job, made anew for each
    /// attempt; it makes its record with the [`Recorder`].
    #[doc(hidden)]
    #[track_caller]
    pub fn transaction_on<T: Data>(
        &self,
        store: &'static str,
        name: &str,
        job: impl Fn(Recorder) -> Box<dyn Any + Send> + Send + 'static,
    ) -> Step<'static, T> {
        self.transaction_beside(store, name, move |recorder| (job(recorder), None))
    }

    /// As [`Ctx::transaction_on`], for jobs whose body runs on the run's own task: it is polled beside the store's answer,
    /// as a step body, until the answer is there. It is dropped as soon as the job is withdrawn, and not begun after that;
    /// the store must answer then as well.
    #[doc(hidden)]
    #[track_caller]
    pub fn transaction_beside<'a, T: Data>(
        &self,
        store: &'static str,
        name: &str,
        stage: impl Fn(Recorder) -> Staged<'a> + Send + 'a,
    ) -> Step<'a, T> {
        let core = self.core.clone();
        let site = Location::caller();
        let (claim, op, now) = match self.claim(Sort::Step, name, site) {
            Ok(claimed) => claimed,
            Err(error) => return Step::refused(error),
        };
        let (key, withdrawn) = (claim.key.clone(), Arc::new(AtomicBool::new(false)));
        let recorder = Recorder { bytes_max: self.payload_bytes_max() };
        let withdraw = withdrawn.clone();
        let make = Box::new(move |_: StepCtx| {
            let runs_on = core.worker.store.name();
            let job = (runs_on == store).then(|| Job::begin(&core, &key, &withdraw, stage(recorder)));
            Box::pin(async move {
                let job = job.ok_or_else(|| {
                    Error::misuse(
                        Code::WRONG_STORE,
                        format!("a `{store}` transaction on an engine that runs on `{runs_on}`: use the `Transaction` trait of that store"),
                    )
                })?;
                match job.await {
                    Ok(Transacted::Committed { n, body }) => {
                        let value: T = serde_json::from_slice(&body.bytes)?;
                        Ok(Made { value, payload: body, letter: Some(n) })
                    }
                    Ok(Transacted::RolledBack(error)) => Err(error),
                    // The store refuses this load, or is over: the driver hears it too and drops the function.
                    Err(_) => std::future::pending().await,
                }
            }) as BoxFuture<'a, Result<Made<T>>>
        });
        Step::new(self.core.clone(), claim, op, now, make).of_jobs(withdrawn)
    }

    /// The limit of [`Settings::payload_bytes_max`](crate::Settings), for what store crates record.
    #[doc(hidden)]
    pub fn payload_bytes_max(&self) -> usize {
        self.core.worker.settings.payload_bytes_max
    }
}

/// Makes the record of what a transaction's body returned.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Recorder {
    bytes_max: usize,
}

impl Recorder {
    /// Encodes `value`, and checks that it comes back and is not too large.
    pub fn record<T: Data>(self, value: T) -> Result<Payload> {
        record(value, self.bytes_max).map(|made| made.payload)
    }
}

/// A transactional step's job at the store. Dropped before its answer, it is withdrawn, and the driver hears whether
/// that came too late.
struct Job<'a> {
    core: Arc<RunCore>,
    key: Arc<str>,
    withdrawn: Arc<AtomicBool>,
    /// What runs beside it, until that is over or the job is withdrawn.
    body: Option<BoxFuture<'a, ()>>,
    answer: Option<Answer<Transacted>>,
}

impl<'a> Job<'a> {
    fn begin(
        core: &Arc<RunCore>,
        key: &Arc<str>,
        withdrawn: &Arc<AtomicBool>,
        (job, body): Staged<'a>,
    ) -> Job<'a> {
        let (core, key, withdrawn) = (core.clone(), key.clone(), withdrawn.clone());
        let step = Transact {
            run: core.claimed.row.run,
            load: core.claimed.load,
            key: key.clone(),
            at: core.worker.clock.now(),
            withdrawn: withdrawn.clone(),
            job,
        };
        let answer = Some(core.worker.store.transact(core.worker.fence, step));
        Job { core, key, withdrawn, body, answer }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) {
        // Withdrawn in the middle, it ends where it stands: the store rolls back what it has done.
        let is_over = self.withdrawn.load(Ordering::Acquire)
            || self.body.as_mut().is_some_and(|body| body.as_mut().poll(cx).is_ready());
        if is_over {
            self.body = None;
        }
    }
}

impl Future for Job<'_> {
    type Output = Result<Transacted, StoreError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_body(cx);
        let answer = self.answer.as_mut().expect("not polled after it was ready");
        let answered = answer.as_mut().poll(cx);
        if answered.is_ready() {
            self.answer = None;
        }
        answered
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            self.withdrawn.store(true, Ordering::Release);
            self.body = None;
            self.core.leave_job(self.key.clone(), answer);
        }
    }
}

/// A panic's message, for store crates that run users' closures.
#[doc(hidden)]
pub fn said_by(panic: &(dyn Any + Send)) -> String {
    panic_message(panic).to_string()
}
