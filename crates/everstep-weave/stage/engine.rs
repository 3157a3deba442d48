pub(crate) use wakes::Wakes;
