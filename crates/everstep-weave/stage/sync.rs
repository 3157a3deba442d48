pub(crate) use everstep_weave::{channel::watch, sync::*};
