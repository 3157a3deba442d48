//! What a client sends, in parts that go to the server together, and the statements that each executes. Pure.

use std::{collections::HashMap, mem};

use super::message::Message;

/// Messages that the server gets together, because a fault comes before or after all of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) bytes: Vec<u8>,
    /// The texts of what it executes.
    pub(super) statements: Vec<String>,
    /// Whether the server says that it is ready when it has answered, once.
    pub(super) is_answered: bool,
}

/// What one connection has prepared and begun.
#[derive(Debug, Default)]
pub(super) struct Statements {
    prepared: HashMap<String, String>,
    portals: HashMap<String, String>,
    part: Part,
    /// The data of a COPY have ended, and nothing came since.
    copied: bool,
}

impl Statements {
    /// A part, when it ends with this message. The answer to a part that is not answered belongs to the next one that
    /// is.
    pub(super) fn take(&mut self, message: &Message) -> Option<Part> {
        self.part.bytes.extend_from_slice(&message.0);
        let copied = mem::take(&mut self.copied);
        match message.kind() {
            b'P' => self.prepare(message),
            b'B' => self.bind(message),
            b'E' => self.execute(message),
            b'C' => self.close(message),
            b'D' => {}
            b'Q' => {
                let [text] = message.texts();
                self.part.statements.push(text);
                return self.ends(true);
            }
            // The Sync before the data was not answered, because COPY swallows it; this one is in its place.
            b'S' => return self.ends(!copied),
            b'F' => return self.ends(true),
            kind => {
                self.copied = matches!(kind, b'c' | b'f');
                return self.ends(false);
            }
        }
        None
    }

    fn ends(&mut self, is_answered: bool) -> Option<Part> {
        Some(Part { is_answered, ..mem::take(&mut self.part) })
    }

    fn prepare(&mut self, message: &Message) {
        let [name, text] = message.texts();
        self.prepared.insert(name, text);
    }

    fn bind(&mut self, message: &Message) {
        let [portal, name] = message.texts();
        // Of a statement that we have not seen, the server has not either.
        let text = self.prepared.get(&name).cloned().unwrap_or_default();
        self.portals.insert(portal, text);
    }

    fn execute(&mut self, message: &Message) {
        let [portal] = message.texts();
        self.part.statements.extend(self.portals.get(&portal).cloned());
    }

    fn close(&mut self, message: &Message) {
        let [what] = message.texts();
        match what.split_at_checked(1) {
            Some(("S", name)) => drop(self.prepared.remove(name)),
            Some(("P", name)) => drop(self.portals.remove(name)),
            _ => {}
        }
    }
}

/// What one connection has executed in its transaction, if it has begun one in words.
#[derive(Debug, Default)]
pub(super) struct Transaction(Option<Vec<String>>);

impl Transaction {
    pub(super) fn executes(&mut self, statements: Vec<String>) {
        for statement in statements {
            let is = |word: &str| statement.starts_with(word);
            if is("BEGIN") || is("START TRANSACTION") {
                self.0 = Some(Vec::new());
            } else if is("COMMIT") || is("ROLLBACK") && !is("ROLLBACK TO") {
                self.0 = None;
            }
            self.0.iter_mut().for_each(|executed| executed.push(statement.clone()));
        }
    }

    pub(super) fn executed(&self) -> &[String] {
        self.0.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &str) -> Message {
        let length = u32::try_from(4 + body.len()).expect("is short");
        Message([&[kind][..], &length.to_be_bytes(), body.as_bytes()].concat())
    }

    /// The parts: which messages, what they execute, whether they are answered.
    fn parts(sent: &[(u8, &str)]) -> Vec<(usize, Vec<String>, bool)> {
        let (mut statements, mut messages, mut parts) = (Statements::default(), 0, Vec::new());
        for (kind, body) in sent {
            messages += 1;
            if let Some(part) = statements.take(&message(*kind, body)) {
                parts.push((mem::take(&mut messages), part.statements, part.is_answered));
            }
        }
        assert_eq!(messages, 0, "all were passed on");
        parts
    }

    fn executes(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_statement_counts_when_it_is_executed_and_not_when_it_is_prepared() {
        let sent = [
            (b'P', "s1\0COMMIT\0\0\0"),
            (b'D', "Ss1\0"),
            (b'S', ""),
            (b'B', "\0s1\0"),
            (b'E', "\0\0\0\0\0"),
            (b'S', ""),
            (b'Q', "SELECT 1\0"),
        ];
        let expected =
            [(3, executes(&[]), true), (3, executes(&["COMMIT"]), true), (1, executes(&["SELECT 1"]), true)];
        assert_eq!(parts(&sent), expected);
    }

    #[test]
    fn a_transaction_has_executed_what_came_since_it_began() {
        let mut transaction = Transaction::default();
        let mut executed = |text: &str| {
            transaction.executes(executes(&[text]));
            transaction.executed().len()
        };
        let texts =
            ["A", "BEGIN; SET x", "A", "ROLLBACK TO s", "COMMIT", "A", "START TRANSACTION", "ROLLBACK"];
        assert_eq!(texts.map(&mut executed), [0, 1, 2, 3, 0, 0, 1, 0]);
    }

    #[test]
    fn a_flush_passes_on_what_is_there_without_an_answer_of_its_own() {
        let sent = [(b'P', "\0A\0"), (b'B', "\0\0"), (b'E', "\0"), (b'H', ""), (b'E', "\0"), (b'S', "")];
        assert_eq!(parts(&sent), [(4, executes(&["A"]), false), (2, executes(&["A"]), true)]);
    }

    #[test]
    fn a_copy_is_answered_once() {
        let sent = [
            (b'P', "\0COPY\0"),
            (b'B', "\0\0"),
            (b'E', "\0"),
            (b'S', ""),
            (b'd', "data"),
            (b'c', ""),
            (b'S', ""),
            (b'S', ""),
        ];
        let answered: Vec<_> = parts(&sent).into_iter().map(|(_, _, answered)| answered).collect();
        assert_eq!(answered, [true, false, false, false, true]);
    }

    #[test]
    fn a_closed_name_means_nothing_any_more() {
        let sent = [(b'P', "a\0A\0"), (b'C', "Sa\0"), (b'B', "\0a\0"), (b'E', "\0"), (b'S', "")];
        assert_eq!(parts(&sent), [(5, executes(&[""]), true)]);
    }
}
