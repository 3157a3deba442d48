#[derive(Clone, Debug)]
pub(crate) struct Outcome;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind(u16);

impl Kind {
    pub(crate) fn code(self) -> u16 {
        self.0
    }
}
