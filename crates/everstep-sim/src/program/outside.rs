//! Runs the parts of a program that have to do with others: signals, promises, children, requests, readers; and what is
//! done when the run is cancelled.

use std::sync::{Arc, atomic::Ordering};

use everstep_core::{Promise, Published, Request, Result, Signal, StepCtx, Stream};

use super::{Kept, Node, Offspring, Out, Owed, PROGRAM, Telling, interpret::Call, mix, place::Place};
use crate::{
    history::{Made, What, keyed},
    world::ms,
};

/// The signals of programs.
pub const SIGNALS: [Signal<i64>; 2] = [Signal::new("p"), Signal::new("q")];
/// What programs publish.
pub const PROGRESS: Published<i64> = Published::new("progress");
/// What programs emit.
pub const LOG: Stream<i64> = Stream::new("log");
/// What programs can be asked.
pub const ASK: Request<i64, Made> = Request::new("ask");
/// The attribute that programs set.
pub const STAND: &str = "stand";

/// A token that a step has handed out, and what its holder does with it.
#[derive(Clone, Debug)]
pub struct Handed {
    /// Whose promise it is.
    pub run: usize,
    /// Its token.
    pub token: String,
    /// What is done with it.
    pub owed: Owed,
}

/// What a run answers to a question.
pub fn answer_to(question: i64) -> i64 {
    question * 3 + 1
}

impl Call {
    pub(super) async fn signal(&self, place: &Place, name: usize) -> Result<Out> {
        let value = place.ctx.signal(SIGNALS[name]).await?;
        let (run, life, generation) = (self.run, self.life, self.generation);
        self.opening.saw(What::Taken { run, generation, life, name, value });
        Ok(Out::Go(1))
    }

    pub(super) async fn promise(&self, place: &Place, owed: Owed) -> Result<Out> {
        let mut promise: Promise<i64> = place.ctx.promise("owed");
        if let Some(wait) = owed.expires_ms {
            promise = promise.expires(ms(wait));
        }
        let (call, token) = (self.clone(), promise.token().to_string());
        place.names.claim("hand");
        let hand = async move || call.hand(&token, owed).await;
        place.ctx.step("hand", hand).await?;
        Ok(Out::Go(promise.await?))
    }

    async fn hand(&self, token: &str, owed: Owed) -> Result<Made> {
        self.may_die().await;
        if owed.how != Kept::Never {
            self.opening.world.hand(Handed { run: self.run, token: token.to_string(), owed });
        }
        self.may_die().await;
        Ok(Made { v: 0, by: self.opening.world.next_body() })
    }

    pub(super) async fn child(&self, place: &Place, child: &Offspring) -> Result<Out> {
        let mut start = place.ctx.child(PROGRAM, child.program.clone());
        if child.left {
            start = start.leave();
        }
        let handle = start.await?;
        if child.cancelled {
            handle.cancel("it is not needed");
        }
        let between = match self.node(place.part("meanwhile"), &child.meanwhile).await? {
            Out::Go(value) => value,
            over => return Ok(over),
        };
        let value = if child.awaited { handle.result().await? } else { 3 };
        Ok(Out::Go(mix(between, value)))
    }

    pub(super) async fn serve(&self, place: &Place, body: &Node) -> Result<Out> {
        let served = async |inner: Place| {
            let place = &inner;
            let handler = move |question: i64| self.answer(place, question);
            inner.ctx.serving(ASK, handler, self.node(inner.part("work"), body)).await
        };
        place.scope("serve", served).await
    }

    async fn answer(&self, place: &Place, question: i64) -> Result<Made> {
        let (call, v) = (self.clone(), answer_to(question));
        if question % 2 == 0 {
            return Ok(Made { v, by: self.opening.world.next_body() });
        }
        let reply = async move || {
            call.may_die().await;
            Ok(Made { v, by: call.opening.world.next_body() })
        };
        place.ctx.step("reply", reply).await
    }

    pub(super) fn tell(&self, place: &Place, what: Telling) {
        let n = self.told.fetch_add(1, Ordering::Relaxed) + 1;
        let value = i64::from(self.generation) * 100_000 + n;
        match what {
            Telling::Publish => place.ctx.publish(PROGRESS, &value),
            Telling::Emit => place.ctx.emit(LOG, &value),
            Telling::Attribute => place.ctx.set_attribute(STAND, value),
        }
    }

    pub(super) fn on_cancel(&self, place: &Place) {
        let key = keyed(self.generation, &place.names.claim("$on_cancel"));
        self.opening.saw(What::Undoable { run: self.run, life: self.life, key: key.clone(), cleanup: true });
        let call = self.clone();
        place.ctx.on_cancel(async move |_: StepCtx| call.undo(key).await);
    }

    /// What an undo, or a clean-up, does.
    pub(super) async fn undo(self, key: Arc<str>) -> Result<()> {
        self.may_die().await;
        self.opening.saw(What::Undone { run: self.run, key });
        self.may_die().await;
        Ok(())
    }
}
