//! What a run tells its readers while it works: published values, streams, attributes. Here their names and how a
//! workflow says them; how they are read is in `client/`.

use std::panic::Location;

use serde_json::value::to_raw_value;

use crate::{
    AttributeValue, Ctx,
    attribute::check_attribute,
    body::Data,
    driver::commands::{Call, Tells},
    error::{Code, Error, Result},
    journal::{Kind, Payload, encode},
    name::{check_name, limit_error, typed_name},
};

typed_name! {
    /// The name of a value that a run publishes: both ends agree by type. `Copy`, whatever `T` is.
    ///
    /// ```
    /// use everstep_core::Published;
    /// const PROGRESS: Published<u8> = Published::new("progress");
    /// assert_eq!(PROGRESS.name(), "progress");
    /// ```
    Published<T>, "published value"
}

typed_name! {
    /// The name of a stream of items that a run emits. `Copy`, whatever `T` is.
    ///
    /// ```
    /// use everstep_core::Stream;
    /// const LOG: Stream<String> = Stream::new("log");
    /// assert_eq!(LOG.name(), "log");
    /// ```
    Stream<T>, "stream"
}

impl Ctx {
    /// Publishes a value under a name: anybody can read it at any time, without a worker, also after the run's end.
    /// Readers see it once it is durable, and then the latest one. Needs no await.
    ///
    /// # What survives a crash
    /// A value is published exactly once, in the order of the calls. A reader never sees one that a crash takes back.
    ///
    /// # Panics
    /// Where it cannot be called (a step body, another task, after the end); a bad name; a value over its limit or one
    /// that does not come back from its own JSON; a full journal. The run is then stuck until the code is mended.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Published, Result, Workflow, store::Memory};
    /// const PROGRESS: Published<u8> = Published::new("progress");
    /// async fn work(ctx: Ctx, _: ()) -> Result<()> {
    ///     for done in [0, 50, 100] {
    ///         ctx.publish(PROGRESS, &done);
    ///         ctx.step("part", async || Ok(())).await?;
    ///     }
    ///     Ok(())
    /// }
    /// # const WORK: Workflow<(), ()> = Workflow::new("work");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(WORK, work).start().await?;
    /// # engine.run(WORK, "w-1", ()).await?;
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn publish<T: Data>(&self, name: impl Into<Published<T>>, value: &T) {
        let name = name.into().name();
        let body = self.told("published value", name, value);
        self.tell(
            Kind::Published,
            "publish",
            name,
            body.map(|body| (body, Tells::Published)),
            Location::caller(),
        );
    }

    /// Appends an item to a stream of this run. Items are numbered from 0; readers go on from a number.
    /// Needs no await.
    ///
    /// # What survives a crash
    /// Each call is one item, exactly once, in the order of the calls.
    ///
    /// # Panics
    /// As [`Ctx::publish`].
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Stream, Workflow, store::Memory};
    /// const LOG: Stream<String> = Stream::new("log");
    /// async fn work(ctx: Ctx, _: ()) -> Result<()> {
    ///     ctx.emit(LOG, &"begins".to_string());
    ///     ctx.step("part", async || Ok(())).await?;
    ///     ctx.emit(LOG, &"done".to_string());
    ///     Ok(())
    /// }
    /// # const WORK: Workflow<(), ()> = Workflow::new("work");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(WORK, work).start().await?;
    /// # engine.run(WORK, "w-1", ()).await?;
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn emit<T: Data>(&self, name: impl Into<Stream<T>>, value: &T) {
        let name = name.into().name();
        let body = self.told("stream item", name, value);
        self.tell(Kind::Emitted, "emit", name, body.map(|body| (body, Tells::Emitted)), Location::caller());
    }

    /// Sets an attribute of this run, by which it is found: `team = "blue" and amount > 100`. Needs no await.
    ///
    /// # What survives a crash
    /// Set exactly once, in the order of the calls; found by it once it is durable.
    ///
    /// # Panics
    /// As [`Ctx::publish`]; a text over [`ATTRIBUTE_BYTES_MAX`](crate::ATTRIBUTE_BYTES_MAX), a float that is not finite.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// async fn order(ctx: Ctx, amount: i64) -> Result<()> {
    ///     ctx.set_attribute("team", "blue");
    ///     ctx.set_attribute("amount", amount);
    ///     Ok(())
    /// }
    /// # const ORDER: Workflow<i64, ()> = Workflow::new("order");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(ORDER, order).start().await?;
    /// # engine.run(ORDER, "o-1", 7).await?;
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn set_attribute(&self, name: &str, value: impl Into<AttributeValue>) {
        let value = value.into();
        let body = check_attribute(name, &value).map(|()| encode(&value));
        let told = body.map(|body| (body, Tells::Attribute(Some(value))));
        self.tell(Kind::AttributeSet, "set_attribute", name, told, Location::caller());
    }

    /// Takes an attribute away, also if it is not there.
    ///
    /// # Panics
    /// As [`Ctx::publish`].
    #[track_caller]
    pub fn remove_attribute(&self, name: &str) {
        let told = Ok((Payload::json("null"), Tells::Attribute(None)));
        self.tell(Kind::AttributeSet, "remove_attribute", name, told, Location::caller());
    }

    fn told<T: Data>(&self, what: &str, name: &str, value: &T) -> Result<Payload> {
        let json = to_raw_value(value)?;
        drop(serde_json::from_str::<T>(json.get()).map_err(|why| {
            let message = format!("{what} `{name}` does not come back from its own JSON: {why}");
            Error::misuse(Code::NOT_RECORDABLE, message)
        })?);
        let (bytes, limit) = (json.get().len(), self.payload_bytes_max());
        match bytes > limit {
            true => Err(limit_error(
                Code::TOO_LARGE,
                format!("{what} `{name}` has {bytes} bytes, and at most {limit} are allowed"),
            )),
            false => Ok(Payload::json(json.get())),
        }
    }

    fn tell(
        &self,
        kind: Kind,
        call: &'static str,
        name: &str,
        told: Result<(Payload, Tells)>,
        site: &'static Location<'static>,
    ) {
        let checked = self.core.check_command(&format!("`{call}`"));
        let (body, tells) = match checked.and_then(|()| check_name(kind.word(), name)).and(told) {
            Ok(told) => told,
            Err(error) => panic!("{error}"),
        };
        let key = self.scope.count_command(kind, name);
        self.core.command(Call { kind, key, site }, || (body, tells));
    }
}
