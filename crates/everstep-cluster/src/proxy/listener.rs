//! Where clients come in; it can be closed and opened again.

use std::{io, path::PathBuf, sync::Arc};

use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    task::JoinSet,
};
use tokio_postgres::config::Host;

use super::{
    connection,
    shared::Shared,
    upstream::{Stream, undelayed},
};

/// A socket and a port.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) socket: PathBuf,
    pub(super) port: u16,
}

type Listeners = (UnixListener, TcpListener);

impl Place {
    pub(super) async fn opens(&self) -> io::Result<Listeners> {
        self.clear()?;
        Ok((UnixListener::bind(&self.socket)?, TcpListener::bind(("127.0.0.1", self.port)).await?))
    }

    /// Nothing else removes the socket when its listener ends.
    fn clear(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Takes clients while it is open.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) place: Place,
    pub(super) host: (Host, u16),
    pub(super) shared: Arc<Shared>,
    /// Whether it should be open, and whether it is.
    pub(super) wanted: watch::Receiver<bool>,
    pub(super) told: watch::Sender<bool>,
}

impl Listener {
    /// Until the proxy is dropped, and all its connections with it.
    pub(super) async fn listens(mut self, first: Listeners) {
        let (mut connections, mut listeners) = (JoinSet::new(), Some(first));
        loop {
            tokio::select! {
                client = accept(listeners.as_ref()) => if let Ok(client) = client {
                    connections.spawn(connection::serve(client, self.host.clone(), self.shared.clone()));
                },
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let open = *self.wanted.borrow_and_update();
                    match (open, &listeners) {
                        // The port was ours a moment ago. If it is not any more, whoever wants it open hears that
                        // nobody is here.
                        (true, None) => match self.place.opens().await {
                            Ok(opened) => listeners = Some(opened),
                            Err(_) => return,
                        },
                        (false, Some(_)) => {
                            listeners = None;
                            let _ = self.place.clear();
                        }
                        _ => {}
                    }
                    self.told.send_replace(open);
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// Waits without end if it is closed.
async fn accept(listeners: Option<&Listeners>) -> io::Result<Box<dyn Stream>> {
    let Some((unix, tcp)) = listeners else { return std::future::pending().await };
    Ok(tokio::select! {
        accepted = unix.accept() => Box::new(accepted?.0),
        accepted = tcp.accept() => Box::new(undelayed(accepted?.0)),
    })
}
