//! The guards that a test may switch off, to see that it would be noticed.

/// Something that Everstep's guarantees rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Every write checks that its worker was not fenced.
    Fence,
    /// A body begins only when everything before it is durable.
    Order,
    /// A recorded step is delivered, not run.
    Replay,
    /// A user's rows and the step's record are one commit.
    Once,
    /// A commit is synced.
    Sync,
    /// A step that must not run twice is marked before its body.
    Doubt,
    /// Only the next entry of an open load passes.
    Load,
    /// Nothing is delivered before the function is quiet.
    Quiesce,
    /// A letter leaves the inbox with the entry that takes it.
    Take,
}

impl Guard {
    /// All of them.
    pub const ALL: [Guard; 9] = [
        Guard::Fence,
        Guard::Order,
        Guard::Replay,
        Guard::Once,
        Guard::Sync,
        Guard::Doubt,
        Guard::Load,
        Guard::Quiesce,
        Guard::Take,
    ];

    /// Its name outside.
    pub fn name(self) -> &'static str {
        match self {
            Guard::Fence => "fence",
            Guard::Order => "order",
            Guard::Replay => "replay",
            Guard::Once => "once",
            Guard::Sync => "sync",
            Guard::Doubt => "doubt",
            Guard::Load => "load",
            Guard::Quiesce => "quiesce",
            Guard::Take => "take",
        }
    }
}

/// Whether a guard is off.
#[inline(always)]
pub fn broken(guard: Guard) -> bool {
    #[cfg(feature = "failpoints")]
    return super::armed::broken(guard);
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = guard;
        false
    }
}
