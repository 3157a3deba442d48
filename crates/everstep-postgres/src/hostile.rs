//! A database as unkind as any that accepts our SQL, for tests; without the feature `testing` it is nothing.
//!
//! By chance, from a seed: commits, and statements that are their own transaction, that it cannot put in an order with
//! others (40001), and free rows that `SKIP LOCKED` steps over. Always: no hints, no advisory locks, and nothing that
//! outlasts a transaction but what is committed. What is not to happen is sent in the shape of a statement that fails as it
//! would, so that the server itself refuses.
//!
//! Absent on purpose: users' own statements, and every database that really is like that.

#[cfg(feature = "testing")]
pub(crate) use drawn::{Hostile, Whims};
#[cfg(not(feature = "testing"))]
pub(crate) use kind::{Hostile, Whims};

#[cfg(feature = "testing")]
mod drawn {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    };

    use tokio_postgres::Row;

    /// One in so many commits and statements cannot be put in an order: ten tries in a row never fail (10⁻⁹).
    const DISORDER: u64 = 8;
    /// One in so many free rows is stepped over.
    const OVERSIGHT: u64 = 4;
    const CANNOT: &str =
        "DO $$ BEGIN RAISE EXCEPTION 'restart transaction' USING ERRCODE = 'serialization_failure'; END $$";
    const CANNOT_COMMIT: &str = "ROLLBACK;
        DO $$ BEGIN RAISE EXCEPTION 'restart transaction' USING ERRCODE = 'serialization_failure'; END $$";
    const HAS_NOT: &str =
        "DO $$ BEGIN RAISE EXCEPTION 'not supported' USING ERRCODE = 'feature_not_supported'; END $$";

    /// How unkind the database of an opening is.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Hostile(Option<Arc<AtomicU64>>);

    impl Hostile {
        pub(crate) fn of(seed: u64) -> Hostile {
            Hostile(Some(Arc::new(AtomicU64::new(seed))))
        }

        pub(crate) fn is_on(&self) -> bool {
            self.0.is_some()
        }

        /// For one connection.
        pub(crate) fn whims(&self) -> Whims {
            Whims { chance: self.0.clone(), in_transaction: AtomicBool::new(false) }
        }
    }

    /// What befalls one connection.
    #[derive(Debug)]
    pub(crate) struct Whims {
        chance: Option<Arc<AtomicU64>>,
        in_transaction: AtomicBool,
    }

    impl Whims {
        /// What is sent in place of a statement that is not to happen.
        pub(crate) fn instead_of(&self, text: &str) -> Option<&'static str> {
            let chance = self.chance.as_ref()?;
            if text.contains("advisory") || text.contains("pg_notify") || text.starts_with("LISTEN") {
                return Some(HAS_NOT);
            }
            match text {
                "COMMIT" | "ROLLBACK" => self.in_transaction.store(false, Ordering::Relaxed),
                text if text.starts_with("BEGIN") => {
                    self.in_transaction.store(true, Ordering::Relaxed);
                    return None;
                }
                _ => {}
            }
            if text == "ROLLBACK" || self.in_transaction.load(Ordering::Relaxed) || !one_in(chance, DISORDER)
            {
                return None;
            }
            Some(if text == "COMMIT" { CANNOT_COMMIT } else { CANNOT })
        }

        /// Leaves out rows that were free.
        pub(crate) fn step_over(&self, text: &str, rows: &mut Vec<Row>) {
            if let Some(chance) = &self.chance
                && text.ends_with("SKIP LOCKED")
            {
                rows.retain(|_| !one_in(chance, OVERSIGHT));
            }
        }
    }

    /// SplitMix64.
    fn one_in(chance: &AtomicU64, many: u64) -> bool {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = chance.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).is_multiple_of(many)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn befalls(seed: u64, texts: &[&str]) -> Vec<Option<&'static str>> {
            let whims = Hostile::of(seed).whims();
            (0..100).flat_map(|_| texts).map(|text| whims.instead_of(text)).collect()
        }

        #[test]
        fn a_seed_says_what_befalls() {
            assert_eq!(befalls(7, &["SELECT 1"]), befalls(7, &["SELECT 1"]));
            assert_ne!(befalls(7, &["SELECT 1"]), befalls(8, &["SELECT 1"]));
        }

        #[test]
        fn a_transaction_is_refused_at_its_end_and_a_statement_at_once() {
            let befallen = befalls(1, &["BEGIN", "SELECT 1", "COMMIT", "SELECT 1"]);
            for each in befallen.chunks(4) {
                assert_eq!(each[..2], [None, None]);
            }
            assert!(befallen.iter().skip(2).step_by(4).flatten().all(|instead| *instead == CANNOT_COMMIT));
            assert!(befallen.contains(&Some(CANNOT_COMMIT)) && befallen.contains(&Some(CANNOT)));
        }

        #[test]
        fn a_kind_database_does_what_it_is_told() {
            let whims = Hostile::default().whims();
            assert!((0..100).all(|_| whims.instead_of("SELECT pg_notify('a', 'b')").is_none()));
        }
    }
}

#[cfg(not(feature = "testing"))]
mod kind {
    use tokio_postgres::Row;

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Hostile;

    impl Hostile {
        pub(crate) fn is_on(&self) -> bool {
            false
        }

        pub(crate) fn whims(&self) -> Whims {
            Whims
        }
    }

    #[derive(Debug)]
    pub(crate) struct Whims;

    impl Whims {
        pub(crate) fn instead_of(&self, _: &str) -> Option<&'static str> {
            None
        }

        pub(crate) fn step_over(&self, _: &str, _: &mut Vec<Row>) {}
    }
}
