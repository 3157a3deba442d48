//! What a connection can suffer, and what it suffers now.

use std::time::Duration;

/// One way or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    ToServer,
    /// From the server.
    ToClient,
    Both,
}

/// What a connection suffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Both ends see it closed.
    Cut,
    /// Nothing passes, and nobody is told: both ends stay open, even if the other one closes. What is sent arrives when
    /// it is healed. Both ways it is a black hole or a partition, one way a half-open connection.
    Hold(Direction),
    /// Everything arrives so much later than it was sent.
    Delay(Direction, Duration),
    /// So many bytes arrive at a time, and the next ones so much later. At least one byte is.
    Slow(Direction, usize, Duration),
}

/// What a connection suffers now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Line {
    pub(super) to_server: Way,
    pub(super) to_client: Way,
    pub(super) cut: bool,
}

/// The same for one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Way {
    pub(super) held: bool,
    pub(super) delay: Duration,
    /// Bytes at a time, and the time.
    pub(super) pace: Option<(usize, Duration)>,
}

impl Line {
    /// Faults of different kinds come together; of the same kind, the later counts.
    pub(super) fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::Cut => self.cut = true,
            Fault::Hold(direction) => self.ways(direction, |way| way.held = true),
            Fault::Delay(direction, delay) => self.ways(direction, |way| way.delay = delay),
            Fault::Slow(direction, bytes, tick) => {
                self.ways(direction, |way| way.pace = Some((bytes.max(1), tick)));
            }
        }
    }

    /// As new, but for a cut.
    pub(super) fn heal(&mut self) {
        *self = Line { cut: self.cut, ..Line::default() };
    }

    fn ways(&mut self, direction: Direction, change: impl Fn(&mut Way)) {
        if direction != Direction::ToClient {
            change(&mut self.to_server);
        }
        if direction != Direction::ToServer {
            change(&mut self.to_client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_add_up_and_only_a_cut_is_not_healed() {
        let (mut line, second) = (Line::default(), Duration::from_secs(1));
        line.suffer(Fault::Hold(Direction::ToServer));
        line.suffer(Fault::Delay(Direction::Both, second));
        line.suffer(Fault::Slow(Direction::ToClient, 0, second));
        let to_server = Way { held: true, delay: second, pace: None };
        let to_client = Way { held: false, delay: second, pace: Some((1, second)) };
        assert_eq!(line, Line { to_server, to_client, cut: false });
        line.suffer(Fault::Cut);
        line.heal();
        assert_eq!(line, Line { cut: true, ..Line::default() });
    }
}
