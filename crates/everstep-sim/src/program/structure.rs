//! Runs the parts of a program that are made of others: rows, branches, maps, blocks.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use everstep_core::{BoxFuture, Ctx, Result, Retry, join, select};
use futures_util::{StreamExt as _, stream::FuturesUnordered};

use super::{
    Block, ENOUGH, Goal, Mapping, Node, Out,
    interpret::{Call, Declined, code_of},
    mix,
    place::Place,
    reference::{all_of, branch_name, caught, winner},
};
use crate::world::ms;

impl Call {
    pub(super) async fn row<'a>(
        &'a self,
        place: &Place,
        parts: impl Iterator<Item = &'a Node> + Send,
    ) -> Result<Out> {
        let mut sum = 0;
        for (i, node) in parts.enumerate() {
            match self.node(place.part(i), node).await? {
                Out::Go(value) => sum = mix(sum, value),
                over => return Ok(over),
            }
        }
        Ok(Out::Go(sum))
    }

    /// Branch `i` of several.
    fn branch<'a>(
        &'a self,
        place: &Place,
        all: &'a [Node],
        i: usize,
    ) -> impl Future<Output = Result<Out>> + Send + Unpin + use<'a> {
        place.scope(&branch_name(i as i64 + 1), move |inner| self.node(inner, &all[i]))
    }

    pub(super) async fn join(&self, place: &Place, all: &[Node]) -> Result<Out> {
        let branch = |i| self.branch(place, all, i);
        let done = match all.len() {
            1 => vec![branch(0).await],
            2 => {
                let (a, b) = join!(branch(0), branch(1));
                vec![a, b]
            }
            _ => {
                let (a, b, c) = join!(branch(0), branch(1), branch(2));
                vec![a, b, c]
            }
        };
        together(done)
    }

    pub(super) async fn stream(&self, place: &Place, all: &[Node]) -> Result<Out> {
        let mut open = FuturesUnordered::new();
        for i in 0..all.len() {
            let branch = self.branch(place, all, i);
            open.push(async move { (i, branch.await) });
        }
        let mut done: Vec<_> = all.iter().map(|_| None).collect();
        while let Some((i, out)) = open.next().await {
            done[i] = Some(out);
        }
        together(done.into_iter().map(|out| out.expect("each branch ends once")).collect())
    }

    pub(super) async fn race(&self, place: &Place, all: &[Node]) -> Result<Out> {
        let branch = |i| self.branch(place, all, i);
        let (at, out) = match all.len() {
            1 => (1, branch(0).await),
            2 => select! {
                out = branch(0) => (1, out),
                out = branch(1) => (2, out),
            },
            _ => select! {
                out = branch(0) => (1, out),
                out = branch(1) => (2, out),
                out = branch(2) => (3, out),
            },
        };
        Ok(winner(at, out?))
    }

    pub(super) async fn map(&self, place: &Place, map: &Mapping) -> Result<Out> {
        let key = place.names.claim("map");
        let item = |ctx: Ctx, n: u32| -> BoxFuture<'_, Result<Out>> {
            let inner = place.numbered(ctx, &key, n);
            self.node(inner, &map.items[n as usize - 1])
        };
        let all = place.ctx.map("map", 1..=map.items.len() as u32, map.limit, item);
        match map.goal {
            Goal::All => Ok(all_of(&all.await?)),
            Goal::Each => Ok(all_of(&all.each().await.into_iter().map(or_caught).collect::<Vec<_>>())),
            Goal::AtLeast(n) => all.at_least(n).await.map(|_| Out::Go(ENOUGH)),
        }
    }

    pub(super) async fn block(&self, place: &Place, block: &Block) -> Result<Out> {
        let key = place.names.claim("block");
        let attempts = Arc::new(AtomicU32::new(0));
        let retry = Retry::fixed(block.attempts, ms(block.pause_ms));
        let attempt = |ctx: Ctx| -> BoxFuture<'_, Result<Out>> {
            let n = attempts.fetch_add(1, Ordering::Relaxed) + 1;
            let inner = place.numbered(ctx, &key, n);
            Box::pin(async move {
                match self.node(inner, &block.body).await? {
                    Out::Go(_) if n <= block.fails => Err(Declined(block.value).into()),
                    out => Ok(out),
                }
            })
        };
        place.ctx.retry_block("block", retry, attempt).await
    }
}

fn or_caught(end: Result<Out>) -> Out {
    end.unwrap_or_else(|error| caught(Out::Fail(code_of(&error))))
}

/// What branches that all ran come to.
fn together(done: Vec<Result<Out>>) -> Result<Out> {
    let done: Result<Vec<_>> = done.into_iter().collect();
    Ok(all_of(&done?))
}
