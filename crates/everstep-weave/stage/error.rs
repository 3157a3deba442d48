#[derive(Debug)]
pub(crate) struct Error;

pub(crate) struct Code;

impl Code {
    pub(crate) const SIDE_BY_SIDE: Code = Code;
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

impl Error {
    pub(crate) fn misuse(_: Code, _: String) -> Error {
        Error
    }
}
