/// Who runs on a thread; all wakes here are the engine's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Outside,
    Function(usize),
    Body(usize),
    Wake,
}

pub(crate) fn top() -> Frame {
    Frame::Wake
}

pub(crate) struct Entered;

pub(crate) fn enter(_: Frame) -> Entered {
    Entered
}
