//! Typed names: constants that tie a text to its types, so that both ends agree. And the rules for names.

use crate::error::{Code, Error, ErrorKind};

/// Bytes of the longest run id.
pub const RUN_ID_BYTES_MAX: usize = 256;
/// Bytes of the longest name of a step, scope, timer, workflow, signal, published value, stream or attribute.
pub const NAME_BYTES_MAX: usize = 128;

/// Makes a type whose values are a text with types tied to it.
macro_rules! typed_name { ($(#[$doc:meta])* $name:ident<$($type:ident),+>, $what:literal) => {
    $(#[$doc])*
    pub struct $name<$($type),+> {
        name: &'static str,
        types: std::marker::PhantomData<fn($($type),+)>,
    }

    impl<$($type),+> $name<$($type),+> {
        #[doc = concat!("Names a ", $what, ". The name is what the journal keeps: it must not change while runs are open.")]
        pub const fn new(name: &'static str) -> Self {
            Self { name, types: std::marker::PhantomData }
        }

        /// The name.
        pub const fn name(&self) -> &'static str {
            self.name
        }
    }

    impl<$($type),+> Clone for $name<$($type),+> {
        fn clone(&self) -> Self {
            *self
        }
    }
    impl<$($type),+> Copy for $name<$($type),+> {}
    impl<$($type),+> From<&'static str> for $name<$($type),+> {
        fn from(name: &'static str) -> Self {
            Self::new(name)
        }
    }
    impl<$($type),+> std::fmt::Debug for $name<$($type),+> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.name)
        }
    }
} }
pub(crate) use typed_name;

typed_name! {
    /// The name of a workflow from `I` to `O`. `Copy`, whatever its types are.
    ///
    /// ```
    /// use everstep_core::Workflow;
    /// const GREET: Workflow<String, String> = Workflow::new("greet");
    /// assert_eq!(GREET.name(), "greet");
    /// ```
    Workflow<I, O>, "workflow"
}

/// Whether `name` may name a step, scope or workflow.
///
/// # Errors
/// What is wrong with it and what it may look like.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), Error> {
    let what = if what.starts_with('a') { format!("an {what}") } else { format!("a {what}") };
    if name.len() > NAME_BYTES_MAX {
        return Err(too_long(&format!("{what}'s name"), name.len(), NAME_BYTES_MAX));
    }
    let why = match name {
        "" => "it is empty",
        _ if name.starts_with('$') => "names that begin with `$` are the engine's",
        _ if name.contains(['/', '#']) => "`/` and `#` are part of keys",
        _ if name.chars().any(char::is_control) => "it has control characters",
        _ => return Ok(()),
    };
    Err(Error::misuse(
        Code::BAD_NAME,
        format!(
            "`{}` cannot name {what}: {why}. A name has 1 to {NAME_BYTES_MAX} bytes without `/`, `#` and control characters, and does not begin with `$`",
            name.escape_debug()
        ),
    ))
}

/// Whether `id` may be a run's id.
///
/// # Errors
/// What is wrong with it and what it may look like.
pub(crate) fn check_run_id(id: &str) -> Result<(), Error> {
    if id.len() > RUN_ID_BYTES_MAX {
        return Err(too_long("a run id", id.len(), RUN_ID_BYTES_MAX));
    }
    let why = match id {
        "" => "it is empty",
        _ if id.chars().any(char::is_control) => "it has control characters",
        _ => return Ok(()),
    };
    Err(Error::misuse(
        Code::BAD_NAME,
        format!(
            "`{}` cannot be a run id: {why}. An id has 1 to {RUN_ID_BYTES_MAX} bytes without control characters",
            id.escape_debug()
        ),
    ))
}

fn too_long(what: &str, got: usize, limit: usize) -> Error {
    limit_error(Code::TOO_LONG, format!("{what} has at most {limit} bytes; this one has {got}"))
}

/// An error about a limit: terminal, because the same value would be over it again.
pub(crate) fn limit_error(code: Code, message: String) -> Error {
    let mut failure = crate::journal::Failure::of(ErrorKind::Limit, code, message);
    failure.terminal = true;
    Error::from_failure(failure, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workflow_is_told_by_its_name() {
        let workflow: Workflow<u64, String> = "greet".into();
        assert_eq!((workflow.name(), format!("{workflow:?}").as_str()), ("greet", "greet"));
    }

    #[test]
    fn names_and_ids_have_rules_and_say_them() {
        for good in ["email", "e", "send welcome email", "ünï", &"x".repeat(128)] {
            assert!(check_name("step", good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", "it is empty"),
            ("a/b", "`/` and `#` are part of keys"),
            ("a#2", "`/` and `#` are part of keys"),
            ("$sleep", "names that begin with `$` are the engine's"),
            ("a\nb", "control characters"),
        ] {
            let error = check_name("step", bad).expect_err(bad);
            assert!(error.to_string().contains(why), "{error}");
            assert!(error.is_terminal());
        }
        let error = check_name("step", &"x".repeat(129)).expect_err("one byte over");
        assert_eq!(error.to_string(), "a step's name has at most 128 bytes; this one has 129");
        assert!(check_run_id("order/7#a $").is_ok());
        assert!(check_run_id(&"x".repeat(256)).is_ok());
        assert_eq!(
            check_run_id(&"x".repeat(257)).expect_err("over").to_string(),
            "a run id has at most 256 bytes; this one has 257"
        );
        assert!(check_run_id("").is_err());
    }
}
