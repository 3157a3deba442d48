//! What a server is started with.

use std::fmt::Write as _;

/// How many connections a server takes if nothing is said: all tests of a run share one.
const CONNECTIONS: u32 = 300;

/// The settings of a cluster of one's own.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The major version; `None` is the installed one, or what the environment variable
    /// [`VERSION`](crate::VERSION) says.
    pub version: Option<u32>,
    /// Whether commits survive a crash of the machine. Without it they still survive a crash of the server.
    pub fsync: bool,
    pub max_connections: u32,
    /// Whether it listens on a free port of the loopback interface, beside its socket.
    pub tcp: bool,
    /// Whether it speaks TLS, with a certificate for `localhost` and `127.0.0.1` by an authority of its own. TLS is for
    /// TCP alone.
    pub tls: bool,
    /// More lines for `postgresql.conf`: names and values.
    pub more: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            version: None,
            fsync: true,
            max_connections: CONNECTIONS,
            tcp: false,
            tls: false,
            more: Vec::new(),
        }
    }
}

impl Settings {
    /// Those of the server that all tests share: nobody pulls its plug.
    pub(crate) fn shared(version: Option<u32>) -> Settings {
        Settings { version, fsync: false, ..Settings::default() }
    }

    /// As lines of `postgresql.conf`, without what depends on the place.
    pub(crate) fn lines(&self) -> String {
        let mut lines = String::new();
        let mut line = |name: &str, value: &str| {
            // A quote is the one character with a meaning in a value.
            writeln!(lines, "{name} = '{}'", value.replace('\'', "''")).expect("a text takes all");
        };
        line("fsync", if self.fsync { "on" } else { "off" });
        line("max_connections", &self.max_connections.to_string());
        line("listen_addresses", if self.tcp { "127.0.0.1" } else { "" });
        line("ssl", if self.tls { "on" } else { "off" });
        line("unix_socket_permissions", "0700");
        line("log_line_prefix", "%m [%p] %q%a ");
        for (name, value) in &self.more {
            line(name, value);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_does_not_end_a_value() {
        let more = vec![("cluster_name".to_string(), "it's".to_string())];
        let lines = Settings { more, ..Settings::default() }.lines();
        assert!(lines.ends_with("cluster_name = 'it''s'\n"), "{lines}");
    }

    #[test]
    fn only_the_shared_server_does_without_fsync() {
        assert!(Settings::default().lines().contains("fsync = 'on'\n"));
        assert!(Settings::shared(None).lines().contains("fsync = 'off'\n"));
    }
}
