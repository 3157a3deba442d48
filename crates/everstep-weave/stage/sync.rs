pub(crate) use everstep_weave::sync::*;
