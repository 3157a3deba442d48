//! The rules that hold the protocol together, each of which can be taken away: then something must break.

/// Which rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// A write of a fenced worker fails.
    pub fences: bool,
    /// A turn passes only if its load is open and its entries are the next ones.
    pub gates_loads: bool,
    /// An end fails if a letter came that it does not count.
    pub compares_inbox: bool,
    /// Only a free run is claimed.
    pub asks_owner: bool,
    /// A worker is fenced only if it has not renewed its lease since it was looked at.
    pub compares_beat: bool,
    /// Only what a fenced worker has is freed.
    pub frees_the_fenced: bool,
    /// A step that must not be repeated begins when its started row is durable.
    pub row_before_body: bool,
    /// A letter leaves the inbox with the turn that has its entry.
    pub takes_with_entry: bool,
    /// A worker that hears that a letter came before it could park reads it before it parks again.
    pub reads_before_parking: bool,
    /// A letter makes a free run claimable.
    pub wakes: bool,
}

impl Rules {
    /// As the code has them.
    pub const ALL: Rules = Rules {
        fences: true,
        gates_loads: true,
        compares_inbox: true,
        asks_owner: true,
        compares_beat: true,
        frees_the_fenced: true,
        row_before_body: true,
        takes_with_entry: true,
        reads_before_parking: true,
        wakes: true,
    };
}
