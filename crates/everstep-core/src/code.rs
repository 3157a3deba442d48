//! The stable codes of all errors: one table, the source of the documentation.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The stable code of an error: `EV` and four digits. A code keeps its meaning for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Code(u16);

macro_rules! codes { ($($number:literal $name:ident $meaning:literal;)+) => {
    impl Code {
        $(#[doc = $meaning] pub const $name: Code = Code($number);)+
        /// Every code with its meaning, by number.
        pub const TABLE: &'static [(Code, &'static str)] = &[$((Code($number), $meaning)),+];
    }
} }
codes! {
    1 RAISED "Your code raised this error.";
    2 TIMEOUT "A step or a run ran out of its time.";
    3 PANIC "A step body panicked.";
    4 IN_DOUBT "An attempt was started and its end is unknown; the step's doubt policy says to fail.";
    5 NOT_RECORDABLE "A step's result does not come back from its own JSON (NaN, skipped fields).";
    6 UNDECODABLE "A recorded value does not decode as the type that is asked for.";
    7 CANCELLED "The run was cancelled.";
    8 ANSWERED "A person answered that the step failed.";
    9 REJECTED "A promise was rejected.";
    10 IN_BODY "A durable call inside a step body.";
    11 OTHER_TASK "A durable call from another task or thread than the workflow's own.";
    12 AFTER_END "A durable call after the workflow had ended.";
    13 SIDE_BY_SIDE "Two operations of one name side by side in one scope.";
    14 BAD_NAME "A name that cannot be a step, scope, workflow or run.";
    15 BAD_ATTRIBUTE "An attribute's value that no store can keep: a text over its limit, a number that is not finite.";
    16 BAD_MAP "A map that cannot work: a limit of 0, or more successes asked for than there are items.";
    17 OPEN_AT_RESTART "A restart while operations are open.";
    20 TOO_LONG "A name or run id over its limit.";
    21 TOO_LARGE "A payload over its limit.";
    22 TOO_MANY_ENTRIES "A journal over its limit.";
    30 WRONG_STORE "A transaction of another store than the engine's.";
    31 TOO_WEAK "A doubt policy that needs power-safe durability on a weaker store.";
    32 BAD_SETTING "A setting or registration that cannot work.";
    100 CONFLICT "The run id is in use with another workflow or input.";
    101 NOT_FOUND "No run has this id.";
    102 WRONG_WORKFLOW "The run belongs to another workflow.";
    103 NOT_ALLOWED "The run's status does not allow this.";
    104 BAD_FILTER "A filter that cannot be read.";
    105 BAD_CURSOR "A cursor that no list has given.";
    106 SETTLED "The promise was settled before, in another way.";
    107 EXPIRED "The promise's time ran out before it was settled.";
    108 NO_ANSWER "The run ended or began anew without an answer to this request.";
    109 BAD_EXPORT "The export of a run that this version cannot read.";
    110 STUCK "The run is stuck and needs a person.";
    120 STORE "The store failed.";
    121 STORE_CLOSED "This opening of the store is over; open it anew.";
    122 STORE_FULL "The store cannot write now.";
    123 FENCED "Another worker has taken over.";
    124 DAMAGED "What was read from the store is damaged or newer than this version.";
    125 MOVED "The store's runs have moved to another store, or a copy of them is under way.";
    126 CANNOT_COPY "A copy that cannot be made: a worker is at work, the destination has runs of its own, runs differ.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EV{:04}", self.0)
    }
}

impl From<Code> for String {
    fn from(code: Code) -> String {
        code.to_string()
    }
}

impl TryFrom<String> for Code {
    type Error = String;
    fn try_from(text: String) -> Result<Code, String> {
        text.parse()
    }
}

impl FromStr for Code {
    type Err = String;
    fn from_str(text: &str) -> Result<Code, String> {
        // A code that a later version knows is read as it is: the record stays readable.
        text.strip_prefix("EV")
            .filter(|digits| digits.len() == 4)
            .and_then(|digits| digits.parse().ok())
            .map(Code)
            .ok_or_else(|| format!("`{text}` is not EV and four digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_come_back() {
        for pair in Code::TABLE.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} and {}", pair[0].0, pair[1].0);
        }
        assert_eq!(Code::SIDE_BY_SIDE.to_string(), "EV0013");
        assert_eq!("EV0013".parse(), Ok(Code::SIDE_BY_SIDE));
        assert!("EV13".parse::<Code>().is_err());
    }
}
