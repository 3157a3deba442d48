//! What a test does to the runs of a worker: answers in the place of bodies, and a death at a chosen place. Nothing of it
//! without the feature `testing`.

#[cfg(any(test, feature = "testing"))]
pub(crate) use staged::{Passed, Place, Rehearsal};

#[cfg(not(any(test, feature = "testing")))]
pub(crate) use plain::Rehearsal;

#[cfg(not(any(test, feature = "testing")))]
mod plain {
    use crate::{BoxFuture, error::Result, journal::Payload, step_ctx::StepCtx};

    /// Nothing.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Rehearsal(());

    impl Rehearsal {
        pub(crate) fn body(&self, _: &str, _: &StepCtx) -> Option<BoxFuture<'static, Result<Payload>>> {
            None
        }
        pub(crate) fn dies_after_body(&self, _: &str) -> bool {
            false
        }
        pub(crate) fn dies_before_turn(&self) -> bool {
            false
        }
        pub(crate) fn turn_was_sent(&self) {}
        pub(crate) fn rests(&self) {}
        pub(crate) fn is_alone(&self) -> bool {
            false
        }
    }
}

#[cfg(any(test, feature = "testing"))]
mod staged {
    use std::{
        collections::HashMap,
        fmt,
        sync::{
            Arc, Mutex, MutexGuard, PoisonError,
            atomic::{AtomicBool, Ordering},
        },
    };

    use tokio::sync::Notify;

    use crate::{
        BoxFuture, error::Result, journal::Payload, process::Process, scope::name_in, step_ctx::StepCtx,
    };

    /// Answers in the place of a step's body.
    pub(crate) type Fake = Arc<dyn Fn(StepCtx) -> Result<Payload> + Send + Sync>;

    /// Where a process may die.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Place {
        /// Before the effect.
        BodyBegins,
        /// After the effect, before its record.
        BodyReturned,
        /// Before a commit.
        TurnSent,
        /// After it.
        TurnDurable,
    }

    /// A place that was passed, and the key of the body, if it is one of a body.
    pub(crate) type Passed = (Place, String);

    /// What a test does to the runs of a worker.
    #[derive(Clone, Default)]
    pub(crate) struct Rehearsal {
        fakes: HashMap<String, Fake>,
        scene: Option<Arc<Scene>>,
        alone: bool,
        /// A run of this worker has come to rest, or something was told.
        pub(crate) rests: Arc<Notify>,
    }

    #[derive(Default)]
    struct Scene {
        process: Process,
        dies_at: Option<usize>,
        is_dead: AtomicBool,
        passed: Mutex<Vec<Passed>>,
        died: Notify,
    }

    impl fmt::Debug for Rehearsal {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Rehearsal").field("fakes", &self.fakes.keys()).finish_non_exhaustive()
        }
    }

    impl Rehearsal {
        pub(crate) fn fake(&mut self, name: &str, fake: Fake) {
            self.fakes.insert(name.to_string(), fake);
        }

        /// Its worker is the only one: nobody else is looked for, and time may be skipped by months.
        pub(crate) fn alone(&mut self) {
            self.alone = true;
        }

        /// The process dies when it passes its `dies_at`-th place.
        pub(crate) fn set_scene(&mut self, process: Process, dies_at: Option<usize>) {
            self.scene = Some(Arc::new(Scene { process, dies_at, ..Scene::default() }));
        }

        /// What was passed so far.
        pub(crate) fn passed(&self) -> Vec<Passed> {
            self.scene.as_ref().map(|scene| scene.passed().clone()).unwrap_or_default()
        }

        /// Waits until the process is dead.
        pub(crate) async fn died(&self) {
            let Some(scene) = &self.scene else { return std::future::pending().await };
            let mut died = std::pin::pin!(scene.died.notified());
            died.as_mut().enable();
            if !scene.is_dead.load(Ordering::SeqCst) {
                died.await;
            }
        }

        /// What is there in the place of a step's body.
        pub(crate) fn body(&self, key: &str, ctx: &StepCtx) -> Option<BoxFuture<'static, Result<Payload>>> {
            if self.dies(Place::BodyBegins, key) {
                return Some(Box::pin(std::future::pending()));
            }
            let fake = self.fakes.get(key).or_else(|| self.fakes.get(name_in(key)))?.clone();
            let ctx = ctx.clone();
            Some(Box::pin(async move { fake(ctx) }))
        }

        pub(crate) fn dies_after_body(&self, key: &str) -> bool {
            self.dies(Place::BodyReturned, key)
        }

        pub(crate) fn dies_before_turn(&self) -> bool {
            self.dies(Place::TurnSent, "")
        }

        pub(crate) fn turn_was_sent(&self) {
            self.dies(Place::TurnDurable, "");
        }

        pub(crate) fn rests(&self) {
            self.rests.notify_waiters();
        }

        pub(crate) fn is_alone(&self) -> bool {
            self.alone
        }

        /// Passes a place; whether the process is dead then.
        fn dies(&self, place: Place, key: &str) -> bool {
            let Some(scene) = &self.scene else { return false };
            if scene.is_dead.load(Ordering::SeqCst) {
                return true;
            }
            let mut passed = scene.passed();
            let dies = scene.dies_at == Some(passed.len());
            passed.push((place, key.to_string()));
            drop(passed);
            if dies {
                scene.is_dead.store(true, Ordering::SeqCst);
                scene.process.kill();
                scene.died.notify_waiters();
            }
            dies
        }
    }

    impl Scene {
        fn passed(&self) -> MutexGuard<'_, Vec<Passed>> {
            self.passed.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
