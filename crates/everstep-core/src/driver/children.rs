//! Children and their parent: what a run says to the one that started it, and to those that it has started.

use std::sync::Arc;

use super::drive::Drive;
use crate::{
    entropy::Entropy,
    journal::{Entry, Kind, Outcome, Payload, Reply, StartedBy},
    store::{Letter, LetterId, LetterKind, RunId, Say, reply_letter},
    time::Timestamp,
};

/// Who is to hear that a run is over.
pub(crate) struct Family<'a> {
    pub(crate) parent: Option<&'a StartedBy>,
    pub(crate) has_children: bool,
}

impl Family<'_> {
    /// What a run says to its parent and its children when its last entry is this one.
    pub(crate) fn farewell(&self, id: &str, last: &Entry, entropy: &Entropy) -> Vec<Say> {
        let told = self.parent.zip(Outcome::told_by(last)).map(|(parent, outcome)| Say::Tell {
            run: RunId(parent.run),
            generation: parent.generation,
            letter: reply_letter(
                &parent.key.as_str().into(),
                LetterId(entropy.draw()),
                &Reply::of(&outcome, id),
                last.at,
            ),
        });
        told.into_iter().chain(self.closing(last.at, entropy)).collect()
    }

    /// What a run says to the children that are nothing without it.
    pub(crate) fn closing(&self, at: Timestamp, entropy: &Entropy) -> Option<Say> {
        let letter = || cancel_letter("the run that started it is over", at, entropy);
        self.has_children.then(|| Say::Cancel { child: None, letter: letter() })
    }
}

/// Asks a child to cancel.
pub(crate) fn cancel_letter(why: &str, at: Timestamp, entropy: &Entropy) -> Letter {
    let (kind, body) = (LetterKind::Cancel as u16, Payload::json(why.as_bytes()));
    Letter { id: LetterId(entropy.draw()), kind, name: "cancel".into(), body, at }
}

/// Whether a journal may have started children; those that were started by what was taken back of it are still there.
pub(crate) fn has_children<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> bool {
    let kinds = [Some(Kind::ChildStarted), Some(Kind::Reseeded)];
    entries.into_iter().any(|entry| kinds.contains(&entry.known_kind()))
}

impl Drive {
    /// A child is started under this key. What has been heard there is of one that was started before the end of the
    /// journal was taken back, perhaps with another input: whose outcome counts, the store says when it starts this one.
    pub(super) fn forget_outcomes(&mut self, key: &Arc<str>) {
        for received in self.inbox.take_keyed(key) {
            self.take(Some(received.n));
        }
    }

    /// What is said besides when the function begins anew or is over.
    pub(super) fn say_farewell(&mut self) {
        let entropy = &self.core.worker.entropy;
        let has_children =
            self.core.state().table.has_aside().is_some_and(|aside| aside.commands.has_children());
        let family = Family { parent: self.core.parent.as_deref(), has_children };
        let last = self.out.parts.entries.last().expect("that it ends is the last entry of its last turn");
        let says = family.farewell(self.core.id(), last, entropy);
        self.out.parts.says.extend(says);
    }
}

/// The id of a child for which nobody has chosen one: unique as long as nobody chooses such ids himself.
pub(crate) fn child_id(parent: &str, generation: u32, key: &str, bytes_max: usize) -> Arc<str> {
    let id = match generation {
        0 => format!("{parent}/{key}"),
        _ => format!("{parent}/#{generation}/{key}"),
    };
    if id.len() <= bytes_max {
        return id.into();
    }
    let digest = format!("~{:032x}", crate::digest::letter_id(parent, &id));
    let mut end = bytes_max - digest.len();
    while !id.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{digest}", &id[..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::commands::Commands;

    #[test]
    fn a_journal_that_starts_nobody_has_no_children() {
        let entry = |kind: Kind| Entry {
            seq: 1,
            kind: kind.code(),
            key: Some("a".into()),
            attempt: 1,
            input: None,
            body: Payload::default(),
            site: None,
            build: "b".into(),
            fingerprint: 0,
            at: Timestamp(0),
        };
        for kind in Kind::ALL {
            let starts = matches!(kind, Kind::ChildStarted | Kind::Reseeded);
            let entries = [entry(Kind::StepDone), entry(kind)];
            let known = Commands::of(&entries).has_children();
            assert_eq!((has_children(&entries), known), (starts, starts), "{kind:?}");
        }
    }

    #[test]
    fn an_id_that_nobody_chose_tells_where_it_comes_from() {
        let id = |parent: &str, generation, key: &str| child_id(parent, generation, key, 64).to_string();
        assert_eq!(id("order-7", 0, "left/poll#2"), "order-7/left/poll#2");
        assert_eq!(id("order-7", 3, "poll"), "order-7/#3/poll");
        let (a, b) = (id(&"ü".repeat(40), 0, "poll"), id(&"ü".repeat(40), 0, "poll#2"));
        assert!(a.len() <= 64 && b.len() <= 64 && a != b, "{a} {b}");
        assert!(a.starts_with(&"ü".repeat(15)), "{a}");
    }
}
