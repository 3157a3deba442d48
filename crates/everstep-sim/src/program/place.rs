//! Where a part of a program stands: its scope, its keys, its place in the text.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use everstep_core::{Ctx, Result};

use super::Out;

/// A place in a program: its scope, and where it stands in the text.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) ctx: Ctx,
    pub(super) names: Arc<Names>,
    pub(super) at: String,
}

/// The keys of a scope, counted here once more: on replay no body tells its key.
#[derive(Default)]
pub(super) struct Names {
    path: String,
    used: Mutex<BTreeMap<String, u32>>,
}

impl Names {
    fn under(path: String) -> Arc<Names> {
        Arc::new(Names { path, used: Mutex::default() })
    }

    pub(super) fn claim(&self, name: &str) -> Arc<str> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let count = used.entry(name.to_string()).or_default();
        *count += 1;
        let number = if *count == 1 { String::new() } else { format!("#{count}") };
        format!("{}{name}{number}", self.path).into()
    }
}

impl Place {
    /// Somewhere in it.
    pub(super) fn part(&self, part: impl std::fmt::Display) -> Place {
        Place { at: format!("{}.{part}", self.at), ..self.clone() }
    }

    /// One of many alike, in the scope `key` that the engine has opened for them.
    pub(super) fn numbered(&self, ctx: Ctx, key: &str, number: u32) -> Place {
        Place { ctx, names: Names::under(format!("{key}/{number}/")), at: format!("{}.{number}", self.at) }
    }

    /// What `body` comes to in a scope of its own.
    pub(super) fn scope<'a, F, B>(
        &self,
        name: &str,
        body: B,
    ) -> impl Future<Output = Result<Out>> + Send + Unpin + use<'a, F, B>
    where
        B: FnOnce(Place) -> F + Send + 'a,
        F: Future<Output = Result<Out>> + Send + 'a,
    {
        let names = Names::under(format!("{}/", self.names.claim(name)));
        let at = format!("{}.{name}", self.at);
        self.ctx.scope(name, move |ctx| body(Place { ctx, names, at }))
    }
}
