//! How a server is reached: by its socket, and by TCP if it listens there.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    net::TcpListener,
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};

/// The port in the name of a socket; the folder tells sockets apart.
const OF_SOCKETS: u16 = 5432;
/// Below those that the system gives to clients: a client that comes from the port it goes to talks to itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Of the length of a socket's path the kernel takes no more, the end included.
const PATH_MAX: usize = 107;
/// Who made the cluster, and may everything.
pub(crate) const USER: &str = "postgres";

/// Where a server listens.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) folder: PathBuf,
    pub(crate) port: u16,
    tcp: bool,
}

impl Address {
    pub(crate) fn in_folder(folder: &Path, tcp: bool) -> Result<Address> {
        let port = if tcp { free_port()? } else { OF_SOCKETS };
        let address = Address { folder: folder.to_path_buf(), port, tcp };
        let socket = address.socket();
        if socket.as_os_str().len() > PATH_MAX {
            return Err(Error::new(format!(
                "the path {} is too long for a socket: set TMPDIR",
                socket.display()
            )));
        }
        Ok(address)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join(format!(".s.PGSQL.{}", self.port))
    }

    pub(crate) fn url(&self, database: &str) -> String {
        let folder = encoded(&self.folder.to_string_lossy());
        format!("postgres://{USER}@/{database}?host={folder}&port={}", self.port)
    }

    pub(crate) fn tcp_url(&self, database: &str) -> Option<String> {
        self.tcp.then(|| format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port))
    }
}

/// As a value in a URL.
pub(crate) fn encoded(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => out.push(byte.into()),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

/// A port that nobody listens on just now.
pub(crate) fn free_port() -> Result<u16> {
    let many = PORTS.end - PORTS.start;
    let first = (random() % u64::from(many)) as u16;
    (0..many)
        .map(|n| PORTS.start + (first + n) % many)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| Error::new("no port is free"))
}

/// A number that nobody else draws: for names and ports.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_to_a_folder_of_any_name() {
        let address = Address::in_folder(Path::new("/tmp/über & more"), false).expect("is short");
        let config: tokio_postgres::Config = address.url("app").parse().expect("is a URL");
        let hosts = config.get_hosts();
        assert!(
            matches!(hosts, [tokio_postgres::config::Host::Unix(path)] if path == &address.folder),
            "{hosts:?}"
        );
        assert_eq!((config.get_dbname(), config.get_user()), (Some("app"), Some(USER)));
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        Address::in_folder(Path::new(&format!("/{}", "a".repeat(PATH_MAX))), false).expect_err("too long");
    }
}
