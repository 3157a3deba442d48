//! A proxy before a server that breaks connections where a test wants it: it knows where PostgreSQL's messages begin and
//! end, and which statements they execute.
//!
//! ```no_run
//! # async fn test(url: &str) -> Result<(), everstep_cluster::Error> {
//! use everstep_cluster::proxy::{Fault, Moment, Proxy};
//!
//! let proxy = Proxy::start(url).await?;
//! let lost = proxy.at(Moment::after("COMMIT").nth(3), Fault::Cut);
//! // … connect to `proxy.url()` and work, until the third commit is made and nobody is told …
//! lost.happened().await;
//! # Ok(())
//! # }
//! ```
//!
//! Absent on purpose: TLS, which it refuses as a server without it does; and chance, which is the caller's.

mod connection;
mod fault;
mod listener;
mod message;
mod moment;
mod shared;
mod statements;
mod upstream;

use std::sync::Arc;

use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};

pub use self::{
    fault::{Direction, Fault},
    moment::{Moment, Strike},
};
use self::{
    listener::{Listener, Place},
    moment::Order,
    shared::Shared,
    upstream::Upstream,
};
use crate::{
    address::{encoded, free_port},
    error::{Result, While},
};

/// The name of its socket, in a folder of its own.
const SOCKET: &str = ".s.PGSQL.5432";

/// A proxy before one server. Dropped, it ends with all its connections.
///
/// It lives on the runtime that it was started on.
#[derive(Debug)]
pub struct Proxy {
    upstream: Upstream,
    folder: TempDir,
    port: u16,
    shared: Arc<Shared>,
    /// Whether it should listen, and whether it does.
    open: watch::Sender<bool>,
    listens: watch::Receiver<bool>,
    listener: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a socket and on a free port of the loopback interface, and passes everything on to the first host of a
    /// URL. The server need not run yet.
    ///
    /// # Errors
    /// The URL is none, or names no host.
    pub async fn start(url: &str) -> Result<Proxy> {
        let upstream = Upstream::of(url)?;
        let folder = tempfile::Builder::new().prefix("everstep-proxy-").tempdir();
        let folder = folder.during(|| "make a folder for a proxy".into())?;
        let port = free_port()?;
        let place = Place { socket: folder.path().join(SOCKET), port };
        let first = place.opens().await.during(|| "listen as a proxy".into())?;
        let shared = Arc::new(Shared::default());
        let (open, wanted) = watch::channel(true);
        let (told, listens) = watch::channel(true);
        let listener = Listener { place, host: upstream.host.clone(), shared: shared.clone(), wanted, told };
        let listener = tokio::spawn(listener.listens(first));
        Ok(Proxy { upstream, folder, port, shared, open, listens, listener })
    }

    /// The URL through the proxy's socket, with the user, password and database of the server's.
    pub fn url(&self) -> String {
        self.url_of(&self.upstream.database)
    }

    /// As [`Proxy::url`], for another database.
    pub fn url_of(&self, database: &str) -> String {
        let folder = encoded(&self.folder.path().to_string_lossy());
        format!("postgres://{}@/{database}?host={folder}&port=5432", self.upstream.user)
    }

    /// As [`Proxy::url`], by TCP.
    pub fn tcp_url(&self) -> String {
        let Upstream { user, database, .. } = &self.upstream;
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// All connections suffer this from now on, new ones too. [`Fault::Cut`] is for those that there are.
    pub fn set(&self, fault: Fault) {
        self.shared.state().suffer(fault);
    }

    /// The connection on which the moment comes suffers this from there on.
    pub fn at(&self, moment: Moment, fault: Fault) -> Strike {
        let order = Arc::new(Order::new(moment, fault));
        self.shared.state().orders.push(order.clone());
        Strike(order)
    }

    /// Refuses new connections, as a server does that is down; those that there are stay.
    pub async fn refuse(&self) {
        self.listens(false).await;
    }

    /// Takes everything back: what was held is delivered, moments that have not come will not come. What was cut stays
    /// cut.
    pub async fn heal(&self) {
        self.shared.state().heal();
        self.listens(true).await;
    }

    async fn listens(&self, open: bool) {
        self.open.send_replace(open);
        let listens = self.listens.clone().wait_for(|listens| *listens == open).await.map(drop);
        listens.expect("nobody took the proxy's port meanwhile");
    }

    /// How many connections were cut, at moments and by [`Proxy::set`].
    pub fn cuts(&self) -> usize {
        *self.shared.cuts.borrow()
    }

    /// Waits until so many were cut.
    pub async fn cuts_reach(&self, many: usize) {
        let reached = self.shared.cuts.subscribe().wait_for(|cuts| *cuts >= many).await.map(drop);
        reached.expect("the proxy is there");
    }

    /// How many clients there are.
    pub fn connections(&self) -> usize {
        self.shared.state().lines.len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}
