//! The in-memory store.

use std::{any::Any, sync::Arc};

use everstep_conformance::{Bench, Deed};
use everstep_core::{
    BoxFuture, Error,
    journal::Payload,
    store::{Memory, MemoryJob, Rows, Store},
};

/// The in-memory store with nothing in it.
#[derive(Debug, Default)]
pub struct MemoryBench(Memory);

impl Bench for MemoryBench {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async { Arc::new(self.0.reopen()) as Arc<dyn Store> })
    }

    fn job(&self, deeds: Vec<Deed>) -> Box<dyn Any + Send> {
        Box::new(MemoryJob(Box::new(move |rows| {
            let before = rows.len();
            deeds.into_iter().try_for_each(|deed| act(rows, deed))?;
            Ok(Payload::json((rows.len() - before).to_string()))
        })))
    }

    fn rows(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async { self.0.rows().into_values().collect() })
    }
}

fn act(rows: &mut Rows, deed: Deed) -> Result<(), Error> {
    match deed {
        Deed::Write(text) => drop(rows.insert(text.clone(), text)),
        Deed::Fail(why) => return Err(why.into()),
        Deed::Panic(why) => panic!("{why}"),
    }
    Ok(())
}
