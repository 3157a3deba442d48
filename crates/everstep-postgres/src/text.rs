//! Texts as PostgreSQL keeps them: it refuses the character 0, which users may have in an id or a key.
//!
//! That character is written as `\u{1}0` and `\u{1}` itself as `\u{1}1`: what is written is another text for each, and in
//! the same order.

use std::{borrow::Cow, sync::Arc};

/// A text as it is kept.
pub(crate) fn kept(text: &str) -> Cow<'_, str> {
    match text.contains(['\0', '\u{1}']) {
        false => Cow::Borrowed(text),
        true => Cow::Owned(text.replace('\u{1}', "\u{1}1").replace('\0', "\u{1}0")),
    }
}

/// A text as it was.
pub(crate) fn meant(kept: &str) -> Arc<str> {
    match kept.contains('\u{1}') {
        false => kept.into(),
        true => kept.replace("\u{1}0", "\0").replace("\u{1}1", "\u{1}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_and_keep_their_order() {
        let parts = ["", "\0", "\u{1}", "\u{2}", "0", "1", "a", "ü"];
        let mut texts = vec![];
        for a in parts {
            for b in parts {
                texts.extend(parts.map(|c| format!("{a}{b}{c}")));
            }
        }
        for a in &texts {
            assert_eq!(&*meant(&kept(a)), a);
            assert!(!kept(a).contains('\0'));
            for b in &texts {
                assert_eq!(
                    kept(a).as_bytes().cmp(kept(b).as_bytes()),
                    a.as_bytes().cmp(b.as_bytes()),
                    "{a:?} {b:?}"
                );
            }
        }
    }
}
