//! The server behind a proxy.

use std::io;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_postgres::config::{Config, Host};

use crate::{
    address::encoded,
    error::{Error, Result, While},
};

/// Where the server is, and as whom one goes there.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) host: (Host, u16),
    /// With the password, as in a URL.
    pub(super) user: String,
    pub(super) database: String,
}

impl Upstream {
    pub(super) fn of(url: &str) -> Result<Upstream> {
        let config: Config = url.parse().during(|| format!("read the URL {url}"))?;
        let host =
            config.get_hosts().first().cloned().ok_or_else(|| Error::new(format!("{url} names no host")))?;
        let mut user = encoded(config.get_user().unwrap_or_default());
        if let Some(password) = config.get_password() {
            user = format!("{user}:{}", encoded(&String::from_utf8_lossy(password)));
        }
        let port = config.get_ports().first().copied().unwrap_or(5432);
        Ok(Upstream { host: (host, port), user, database: encoded(config.get_dbname().unwrap_or_default()) })
    }
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(super) async fn connect((host, port): &(Host, u16)) -> io::Result<Box<dyn Stream>> {
    Ok(match host {
        Host::Unix(folder) => Box::new(UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await?),
        Host::Tcp(name) => Box::new(undelayed(TcpStream::connect((name.as_str(), *port)).await?)),
    })
}

/// Small messages are not kept back until there are more.
pub(super) fn undelayed(stream: TcpStream) -> TcpStream {
    // Without it, it is only slower.
    let _ = stream.set_nodelay(true);
    stream
}
