//! Tokens of promises: the right to settle one, as a text. Pure.

use std::fmt;

use hmac_sha256::Hash as Sha256;

use crate::{
    digest::{Digest, Incarnation},
    journal::Made,
};

/// What every token begins with, so that people and scanners for secrets know one.
const PREFIX: &str = "evp_";

/// 128 bits that nobody guesses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) u128);

impl Token {
    /// The token of this text.
    pub(crate) fn read(text: &str) -> Option<Token> {
        text.strip_prefix(PREFIX)?.parse().ok().map(|Digest(bits)| Token(bits))
    }

    /// What stores know it by.
    pub(crate) fn hash(self) -> [u8; 32] {
        Sha256::hash(self.to_string().as_bytes())
    }

    /// As its run's journal keeps it. The pad is no secret of its own: it keeps a token from whoever sees this entry
    /// and not entry 0.
    pub(crate) fn sealed(self, place: &Place<'_>) -> Made {
        Made { hash: hex(self.hash()), sealed: Digest(self.0 ^ place.pad()) }
    }

    /// The token of a journal; `None` if it is not the one that was sealed there.
    pub(crate) fn unsealed(made: &Made, place: &Place<'_>) -> Option<Token> {
        let token = Token(made.sealed.0 ^ place.pad());
        (hex(token.hash()) == made.hash).then_some(token)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:032x}", self.0)
    }
}

/// Where a promise was made.
pub(crate) struct Place<'a> {
    pub(crate) incarnation: Incarnation,
    pub(crate) generation: u32,
    pub(crate) key: &'a str,
}

impl Place<'_> {
    fn pad(&self) -> u128 {
        let mut hash = Sha256::new();
        hash.update("everstep promise");
        hash.update(self.incarnation.0.to_be_bytes());
        hash.update(self.generation.to_be_bytes());
        hash.update(self.key);
        let first = hash.finalize().first_chunk().copied();
        u128::from_be_bytes(first.expect("a SHA-256 has 32 bytes"))
    }
}

fn hex(bytes: [u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place { incarnation: Incarnation(7), generation: 0, key: "payment" };

    #[test]
    fn a_token_is_read_back_from_its_text() {
        let token = Token(0x00ab_cdef);
        assert_eq!(token.to_string(), "evp_00000000000000000000000000abcdef");
        assert!(Token::read(&token.to_string()) == Some(token));
        for wrong in ["", "evp_", "00000000000000000000000000abcdef", "evp_+0000000000000000000000000abcdef"]
        {
            assert!(Token::read(wrong).is_none(), "{wrong}");
        }
    }

    /// As `sha256sum` says.
    #[test]
    fn a_token_is_known_by_the_sha_256_of_its_text() {
        let hash = hex(Token(0).hash());
        assert_eq!(hash, "ec2ee374739404eebc7b37cdb34d36d3d63d662ecf15152dcc40c9e92527f55c");
    }

    #[test]
    fn a_token_comes_back_in_its_place_alone() {
        let token = Token(0x1234_5678_9abc_def0);
        let made = token.sealed(&PLACE);
        assert!(Token::unsealed(&made, &PLACE) == Some(token));
        assert_ne!(made.sealed.0, token.0);
        for other in [
            Place { key: "payment#2", ..PLACE },
            Place { generation: 1, ..PLACE },
            Place { incarnation: Incarnation(8), ..PLACE },
        ] {
            assert!(Token::unsealed(&made, &other).is_none());
        }
    }
}
