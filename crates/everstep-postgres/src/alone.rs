//! One piece of our work at a time in each of users' transactions: two side by side would undo each other's savepoints.
//!
//! Absent on purpose: the user's own statements, which pass at any time.

use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use foldhash::{HashMap, HashMapExt as _};
use tokio::sync::{Mutex as Lane, OwnedMutexGuard};

/// By the address of what is borrowed for as long as somebody waits or works: nothing else has it meanwhile. Of the whole
/// process, since two stores may write in one transaction.
static LANES: LazyLock<Mutex<HashMap<usize, Weak<Lane<()>>>>> = LazyLock::new(|| Mutex::new(HashMap::new()));

/// Its owner is alone in the transaction.
pub(crate) struct Alone {
    _lane: OwnedMutexGuard<()>,
}

/// Waits until nobody else of ours is in the transaction that `tx` borrows.
pub(crate) async fn alone<T: ?Sized + Sync>(tx: &T) -> Alone {
    let at = std::ptr::from_ref(tx).cast::<()>().addr();
    let lane = {
        let mut lanes = LANES.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lanes.get(&at).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            lanes.retain(|_, lane| lane.strong_count() > 0);
            let lane = Arc::new(Lane::new(()));
            lanes.insert(at, Arc::downgrade(&lane));
            lane
        })
    };
    Alone { _lane: lane.lock_owned().await }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn two_wait_for_each_other_in_one_transaction_alone() {
        let (one, other) = (String::from("one"), String::from("other"));
        let first = alone(&one).await;
        assert!(alone(&one).now_or_never().is_none());
        assert!(alone(&other).now_or_never().is_some());
        drop(first);
        assert!(alone(&one).now_or_never().is_some());
        let known = LANES.lock().unwrap_or_else(PoisonError::into_inner).len();
        alone(&other).await;
        assert!(
            LANES.lock().unwrap_or_else(PoisonError::into_inner).len() <= known,
            "the unused ones are forgotten"
        );
    }
}
