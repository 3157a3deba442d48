//! Who is running on this thread: a workflow's function, a step body inside it, or a wake that the driver vouches
//! for. Decides whether a durable call is allowed and whether a wake comes from something that is not durable.

use std::cell::Cell;

/// What runs on this thread. The number tells runs apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Outside,
    Function(usize),
    Body(usize),
    Wake,
}

thread_local! {
    static TOP: Cell<Frame> = const { Cell::new(Frame::Outside) };
}

/// The innermost frame.
pub(crate) fn top() -> Frame {
    TOP.get()
}

/// Enters a frame until the guard is dropped.
pub(crate) fn enter(frame: Frame) -> Entered {
    Entered(TOP.replace(frame))
}

pub(crate) struct Entered(Frame);

impl Drop for Entered {
    fn drop(&mut self) {
        TOP.set(self.0);
    }
}
