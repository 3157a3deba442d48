pub(crate) fn check_name(_: &str, _: &str) -> Result<(), crate::error::Error> {
    Ok(())
}
