//! Scopes and the claiming of keys: `email`, `email#2`, `left/email`. Pure: no driver, no store.

use std::sync::Arc;

use foldhash::HashMap;

use crate::{
    digest::{Incarnation, draw, scope_seed},
    error::{Code, Error},
    journal::Kind,
    name::check_name,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A name space for keys and free values; the root's path is empty, others end with `/`.
pub(crate) struct Scope {
    path: String,
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    index: HashMap<Box<str>, usize>,
    counts: Vec<Count>,
    draws: u64,
}

struct Count {
    /// How often the name was claimed.
    claimed: u32,
    /// How many of those operations are open and have been polled: while there are any, the order of polls would
    /// decide who gets which number.
    polled: u32,
}

/// The name in a key: `email` of `left/email#2`.
pub(crate) fn name_in(key: &str) -> &str {
    let last = key.rsplit('/').next().unwrap_or(key);
    last.split('#').next().unwrap_or(last)
}

/// A claimed key. Gives its name free when the operation is over.
pub(crate) struct Claim {
    pub(crate) key: Arc<str>,
    scope: Arc<Scope>,
    name: usize,
    polled: bool,
}

impl Scope {
    pub(crate) fn root() -> Arc<Scope> {
        Scope::at(String::new())
    }

    /// The scope that a claimed key opens.
    pub(crate) fn under(key: &str) -> Arc<Scope> {
        Scope::at(format!("{key}/"))
    }

    fn at(path: String) -> Arc<Scope> {
        Arc::new(Scope { path, names: Mutex::default() })
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims `name` for a user's operation.
    pub(crate) fn claim(self: &Arc<Self>, what: &str, name: &str) -> Result<Claim, Error> {
        check_name(what, name)?;
        self.claim_checked(name, true)
    }

    /// Claims a reserved name (`$sleep`) for an operation without one. Such operations may stand side by side (a
    /// deadline beside the pauses of a loop, a timeout inside a timeout); fingerprints report it if their order ever
    /// differs.
    pub(crate) fn claim_unnamed(self: &Arc<Self>, name: &'static str) -> Claim {
        self.claim_checked(name, false)
            .unwrap_or_else(|e| unreachable!("unnamed operations are never refused: {e}"))
    }

    /// The key of a command, numbered apart from operations and from other commands.
    pub(crate) fn count_command(&self, kind: Kind, name: &str) -> Arc<str> {
        let mut names = self.names();
        // No name has control characters.
        let index = names.index_of(&format!("\u{1}{}/{name}", kind.code()));
        names.claim(index, &self.path, name)
    }

    fn claim_checked(self: &Arc<Self>, name: &str, alone: bool) -> Result<Claim, Error> {
        let mut names = self.names();
        let index = names.index_of(name);
        if alone && names.counts[index].polled > 0 {
            return Err(self.side_by_side(name));
        }
        let key = names.claim(index, &self.path, name);
        Ok(Claim { key, scope: self.clone(), name: index, polled: false })
    }

    fn side_by_side(&self, name: &str) -> Error {
        let place = if self.path.is_empty() { String::new() } else { format!(" in scope `{}`", self.path) };
        Error::misuse(
            Code::SIDE_BY_SIDE,
            format!(
                "`{name}` is already running{place}: which of the two is `{name}` and which `{name}#2` would depend on the order of polls. \
                 Give each branch its own scope (`ctx.scope(\"left\", async |ctx| ..)`, or `ctx.map` for a list), or make all operations before awaiting any of them"
            ),
        )
    }

    /// The next free value of this scope, and its number.
    pub(crate) fn draw(&self, incarnation: Incarnation, generation: u32) -> u128 {
        let mut names = self.names();
        names.draws += 1;
        draw(scope_seed(incarnation, generation, &self.path), names.draws)
    }
}

impl Names {
    fn index_of(&mut self, name: &str) -> usize {
        if let Some(index) = self.index.get(name) {
            return *index;
        }
        let index = self.counts.len();
        self.index.insert(name.into(), index);
        self.counts.push(Count { claimed: 0, polled: 0 });
        index
    }

    fn claim(&mut self, index: usize, path: &str, name: &str) -> Arc<str> {
        let count = &mut self.counts[index];
        count.claimed += 1;
        match count.claimed {
            1 => format!("{path}{name}").into(),
            n => format!("{path}{name}#{n}").into(),
        }
    }
}

impl Claim {
    /// The key of an operation that the engine makes after the function: nothing else has it.
    pub(crate) fn alone(key: Arc<str>) -> Claim {
        let scope = Scope::root();
        let name = scope.names().index_of(&key);
        Claim { key, scope, name, polled: false }
    }

    /// The operation was polled: from now on its name cannot be claimed beside it.
    pub(crate) fn polled(&mut self) {
        if !self.polled {
            self.polled = true;
            self.scope.names().counts[self.name].polled += 1;
        }
    }

    /// The operation is over.
    pub(crate) fn over(&mut self) {
        if std::mem::take(&mut self.polled) {
            self.scope.names().counts[self.name].polled -= 1;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.over();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_count_per_name_and_scope() {
        let root = Scope::root();
        let claim =
            |scope: &Arc<Scope>, name| scope.claim("step", name).expect("a good name").key.to_string();
        assert_eq!(claim(&root, "email"), "email");
        assert_eq!(claim(&root, "other"), "other");
        assert_eq!(claim(&root, "email"), "email#2");
        let left = Scope::under("left#2");
        assert_eq!((root.path(), left.path()), ("", "left#2/"));
        assert_eq!(claim(&left, "email"), "left#2/email");
        assert_eq!(claim(&left, "email"), "left#2/email#2");
        assert_eq!(root.claim_unnamed("$sleep").key.as_ref(), "$sleep");
    }

    #[test]
    fn a_key_tells_its_name() {
        for (key, name) in [("email", "email"), ("email#2", "email"), ("left/x#3/email#12", "email")] {
            assert_eq!(name_in(key), name);
        }
    }

    #[test]
    fn a_name_is_not_claimed_beside_a_polled_operation_of_that_name() {
        let root = Scope::root();
        let mut first = root.claim("step", "x").expect("free");
        let second = root.claim("step", "x").expect("nobody was polled yet");
        first.polled();
        let error = root.claim("step", "x").err().expect("refused");
        assert_eq!(error.code(), Code::SIDE_BY_SIDE);
        assert!(["ctx.scope", "ctx.map"].iter().all(|way| error.to_string().contains(way)), "{error}");
        drop(first);
        drop(second);
        assert_eq!(root.claim("step", "x").expect("free again").key.as_ref(), "x#3");
    }

    #[test]
    fn free_values_depend_on_run_generation_scope_and_number() {
        let (a, b) = (Scope::root(), Scope::under("left"));
        let first = a.draw(Incarnation(1), 0);
        assert_ne!(first, a.draw(Incarnation(1), 0));
        assert_ne!(first, b.draw(Incarnation(1), 0));
        assert_ne!(first, Scope::root().draw(Incarnation(2), 0));
        assert_ne!(first, Scope::root().draw(Incarnation(1), 1));
        assert_eq!(first, Scope::root().draw(Incarnation(1), 0));
    }
}
