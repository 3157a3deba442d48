//! One connection: messages are read on one side, matched with what was ordered, and written on the other when the line
//! lets them pass.

use std::{
    collections::VecDeque,
    io, mem,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, split},
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_postgres::config::Host;

use super::{
    fault::{Line, Way},
    message::{LENGTH_MAX, Message, Opening, opening},
    moment::{Order, When},
    shared::Shared,
    statements::{Statements, Transaction},
    upstream::{Stream, connect},
};

/// So many pieces are on their way in one direction; whoever sends more waits, as with a real line.
const ON_THE_WAY: usize = 1024;

/// What the reader of one side gives to the writer of the other, in order.
enum Piece {
    Bytes(Sent),
    /// Here the connection suffers what was ordered.
    Strike(Arc<Order>),
    /// The same; if that is a cut, the server is not cut before it has given so many answers.
    StrikeClient(Arc<Order>, usize),
}

struct Sent {
    at: Instant,
    bytes: Vec<u8>,
}

struct Connection {
    id: u64,
    shared: Arc<Shared>,
    /// For each answer that is still due, in order, what strikes before the client gets it.
    due: Mutex<VecDeque<Vec<Arc<Order>>>>,
    /// How many answers the server has given.
    answered: watch::Sender<usize>,
    /// How many it gives, whatever becomes of the client.
    promised: AtomicUsize,
}

/// Until both ends have closed it, or it is cut.
pub(super) async fn serve(mut client: Box<dyn Stream>, host: (Host, u16), shared: Arc<Shared>) {
    let (connection, line) = Connection::new(shared);
    let mut suffers = line.clone();
    let mut is_cut = pin!(suffers.wait_for(|line| line.cut));
    let opened = tokio::select! {
        opened = connection.opens(&mut client, &host, line.clone()) => opened,
        _ = &mut is_cut => return,
    };
    let Ok(Some((startup, server))) = opened else { return };
    let (server, mut to_server) = split(server);
    let (heard, hears) = mpsc::channel(ON_THE_WAY);
    let (told, tells) = mpsc::channel(ON_THE_WAY);
    let _ = heard.send(Piece::Bytes(startup)).await;
    let mut hearing = pin!(connection.reads_server(BufReader::new(server), told));
    let passing = async {
        let (client, mut to_client) = split(client);
        tokio::try_join!(
            ends(connection.reads_client(BufReader::new(client), heard)),
            ends(&mut hearing),
            connection.writes(&mut to_server, hears, line.clone(), to_server_way),
            connection.writes(&mut to_client, tells, line.clone(), to_client_way),
        )
    };
    let was_cut = tokio::select! {
        // Whatever goes wrong, both ends see that it is closed.
        _ = passing => false,
        _ = &mut is_cut => true,
    };
    // The client is told by now; the future that held its end is gone.
    connection.leaves();
    if was_cut {
        connection.keeps_promises(hearing).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.leaves();
    }
}

impl Connection {
    fn new(shared: Arc<Shared>) -> (Connection, watch::Receiver<Line>) {
        let (id, line) = shared.enter();
        // The startup is answered as any part.
        let due = Mutex::new(VecDeque::from([Vec::new()]));
        let (answered, promised) = (watch::Sender::default(), AtomicUsize::new(0));
        (Connection { id, shared, due, answered, promised }, line)
    }

    fn leaves(&self) {
        self.shared.leave(self.id);
    }

    /// What the client begins with, and the server that it shall go to; `None` if there is nothing more to do.
    async fn opens(
        &self,
        client: &mut Box<dyn Stream>,
        host: &(Host, u16),
        mut line: watch::Receiver<Line>,
    ) -> io::Result<Option<(Sent, Box<dyn Stream>)>> {
        let (startup, is_cancel) = loop {
            match opening(client).await? {
                Opening::Startup(bytes) => break (sent(bytes), false),
                Opening::Cancel(bytes) => break (sent(bytes), true),
                Opening::Encrypt => deliver(client, &sent(b"N".to_vec()), &mut line, to_client_way).await?,
            }
        };
        // A server that hears nothing does not even know that somebody is there.
        let_pass(startup.at, &mut line, to_server_way).await?;
        let mut server = connect(host).await?;
        if is_cancel {
            deliver(&mut server, &startup, &mut line, to_server_way).await?;
            // It says nothing, and closes when it has done it.
            return server.read(&mut [0]).await.map(|_| None);
        }
        Ok(Some((startup, server)))
    }

    /// Hears the server until it has given the answers that were promised: one that cannot tell the first of several
    /// ends, and does not execute the rest.
    async fn keeps_promises(&self, hearing: impl Future<Output = ()>) {
        let (promised, mut answered) = (self.promised.load(Ordering::Relaxed), self.answered.subscribe());
        tokio::select! {
            () = hearing => {}
            _ = answered.wait_for(|answered| *answered >= promised) => {}
        }
    }

    /// Ends with the client, or when nobody writes any more.
    async fn reads_client(&self, mut client: impl AsyncRead + Unpin, to: mpsc::Sender<Piece>) {
        let (mut statements, mut after, mut asked) = (Statements::default(), Vec::new(), 1);
        let mut transaction = Transaction::default();
        // What cannot be read is an end of the connection like any other.
        while let Ok(Some(message)) = Message::read(&mut client).await {
            let Some(part) = statements.take(&message) else { continue };
            let (mut pieces, mut later) = (Vec::new(), Vec::new());
            asked += usize::from(part.is_answered);
            for order in self.shared.due(&part.statements, transaction.executed()) {
                match order.moment.when {
                    When::Before => pieces.push(Piece::Strike(order)),
                    When::During => later.push(Piece::StrikeClient(order, asked)),
                    When::After => after.push(order),
                }
            }
            transaction.executes(part.statements);
            if part.is_answered {
                self.due().push_back(mem::take(&mut after));
            }
            pieces.push(Piece::Bytes(sent(part.bytes)));
            for piece in pieces.into_iter().chain(later) {
                if to.send(piece).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Ends with the server. That nobody writes what it says is no reason: it may be kept only to be heard.
    async fn reads_server(&self, mut server: impl AsyncRead + Unpin, to: mpsc::Sender<Piece>) {
        let mut kept = Vec::new();
        while let Ok(Some(message)) = Message::read(&mut server).await {
            let is_ready = message.kind() == b'Z';
            kept.extend(message.0);
            let strikes = {
                let mut due = self.due();
                let keeps = due.front().is_some_and(|strikes| !strikes.is_empty());
                // The answer is complete, and what is done is done, only when the server is ready again.
                if keeps && !is_ready && kept.len() < LENGTH_MAX {
                    continue;
                }
                if is_ready { due.pop_front().unwrap_or_default() } else { Vec::new() }
            };
            for order in strikes {
                let _ = to.send(Piece::Strike(order)).await;
            }
            let _ = to.send(Piece::Bytes(sent(mem::take(&mut kept)))).await;
            self.answered.send_modify(|answered| *answered += usize::from(is_ready));
        }
        // The server has died over it.
        let _ = to.send(Piece::Bytes(sent(kept))).await;
    }

    async fn writes(
        &self,
        to: &mut (impl AsyncWrite + Unpin),
        mut pieces: mpsc::Receiver<Piece>,
        mut line: watch::Receiver<Line>,
        way: fn(&Line) -> Way,
    ) -> io::Result<()> {
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Bytes(sent) => deliver(to, &sent, &mut line, way).await?,
                Piece::Strike(order) => self.strikes(&order),
                Piece::StrikeClient(order, promised) => {
                    self.promised.store(promised, Ordering::Relaxed);
                    self.strikes(&order);
                }
            }
        }
        // The end is a message too: it is held and comes late as all others.
        let_pass(now(), &mut line, way).await?;
        to.shutdown().await
    }

    fn strikes(&self, order: &Order) {
        self.shared.strike(self.id, order.fault);
        order.strikes();
    }

    fn due(&self) -> MutexGuard<'_, VecDeque<Vec<Arc<Order>>>> {
        // Nothing is left half-done by a panic in here.
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_server_way(line: &Line) -> Way {
    line.to_server
}

fn to_client_way(line: &Line) -> Way {
    line.to_client
}

/// The end of one side is no error: the other side is told when all that came before was delivered.
async fn ends(reading: impl Future<Output = ()>) -> io::Result<()> {
    reading.await;
    Ok(())
}

fn sent(bytes: Vec<u8>) -> Sent {
    Sent { at: now(), bytes }
}

#[allow(clippy::disallowed_methods, reason = "a line takes time")]
fn now() -> Instant {
    Instant::now()
}

/// Writes it as fast as the line is.
async fn deliver(
    to: &mut (impl AsyncWrite + Unpin),
    sent: &Sent,
    line: &mut watch::Receiver<Line>,
    way: fn(&Line) -> Way,
) -> io::Result<()> {
    let mut left = &sent.bytes[..];
    while !left.is_empty() {
        let pace = let_pass(sent.at, line, way).await?.pace;
        let (now_due, later) = left.split_at(pace.map_or(left.len(), |(bytes, _)| bytes.min(left.len())));
        to.write_all(now_due).await?;
        left = later;
        if let Some((bytes, tick)) = pace {
            // Less than may come at a time takes less time.
            passes_or_changes(now() + tick.mul_f64(now_due.len() as f64 / bytes as f64), line).await?;
        }
    }
    to.flush().await
}

/// Waits until the line lets pass what was sent then, and says how.
async fn let_pass(at: Instant, line: &mut watch::Receiver<Line>, way: fn(&Line) -> Way) -> io::Result<Way> {
    loop {
        let (is_cut, way) = {
            let line = line.borrow_and_update();
            (line.cut, way(&line))
        };
        if is_cut || way.held {
            line.changed().await.map_err(gone)?;
        } else if at + way.delay <= now() {
            return Ok(way);
        } else {
            passes_or_changes(at + way.delay, line).await?;
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a line takes time")]
async fn passes_or_changes(until: Instant, line: &mut watch::Receiver<Line>) -> io::Result<()> {
    tokio::select! {
        () = tokio::time::sleep_until(until) => Ok(()),
        changed = line.changed() => changed.map_err(gone),
    }
}

fn gone(_: watch::error::RecvError) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the proxy is gone")
}
