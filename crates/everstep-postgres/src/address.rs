//! What the URL says: where the server is, who asks, and how much of it must be encrypted. `sslmode` and the files of
//! TLS are read here as libpq reads them; the rest is the client library's.
//!
//! Absent on purpose: what the environment and `~/.postgresql` say, which libpq reads too. Everything is in the URL.

use std::{borrow::Cow, str::FromStr as _, time::Duration};

use everstep_core::store::StoreError;
use tokio_postgres::{
    CancelToken, Client, Config, Connection, Socket,
    config::{Host, SslMode, TargetSessionAttrs},
    error::SqlState,
};

use crate::tls::{Mode, Rustls, Tls, TlsStream};

/// What an application is called if its URL does not say.
const APPLICATION: &str = "everstep";
/// How long one of several hosts may be silent before the next is tried.
const HOST_WAIT: Duration = Duration::from_secs(3);
/// When a peer is taken for gone that does not even say that it has received something.
const PEER_GONE: Duration = Duration::from_secs(10);
/// What libpq and the kernel have for a default, which is too long to notice anything.
const KEEPALIVE_UNSAID: Duration = Duration::from_secs(2 * 60 * 60);
const HOW: &str = "write `postgres://user@host/database`, or `host=/run/postgresql dbname=app`";
/// Names that may be told in an error: what stands where a name should be may be a part of a password.
const KNOWN: [&str; 22] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "passfile",
    "service",
    "client_encoding",
    "gssencmode",
    "krbsrvname",
    "require_auth",
    "sslcompression",
    "sslcrl",
    "sslpassword",
    "sslsni",
    "ssl_min_protocol_version",
    "target_session_attrs",
    "channel_binding",
];

/// Where and how to connect. Says no passwords when it is printed.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    config: Config,
    tls: Tls,
    rustls: Rustls,
}

impl Address {
    /// Reads it, and the files that it names.
    pub(crate) fn parse(url: &str) -> Result<Address, StoreError> {
        let (rest, own) = taken(url).map_err(unusable)?;
        let mut config = Config::from_str(&rest).map_err(|error| unusable(told(&error)))?;
        if config.get_application_name().is_none() {
            config.application_name(APPLICATION);
        }
        // For TCP; a socket of this machine tells at once.
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(PEER_GONE);
        }
        if config.get_keepalives_idle() == KEEPALIVE_UNSAID {
            config.keepalives_idle(PEER_GONE / 2).keepalives_interval(PEER_GONE / 5).keepalives_retries(3);
        }
        let addresses = config.get_hostaddrs().to_vec();
        if config.get_hosts().is_empty() {
            // An address is the name that a certificate has to bear then.
            for address in addresses {
                config.host(address.to_string());
            }
        }
        // A name may have several addresses, of which one is dead.
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(HOST_WAIT);
        }
        // A standby among them is behind: who reads there what the primary has acknowledged does not find it.
        if config.get_hosts().len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let mut tls = Tls::read(&own).map_err(unusable)?;
        if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) {
            // As with libpq: a socket of this machine is not encrypted, whatever is asked for.
            tls.mode = Mode::Disable;
        }
        let rustls = tls.rustls(config.get_ssl_negotiation()).map_err(unusable)?;
        Ok(Address { config, tls, rustls })
    }

    /// Connects to the first host that takes us.
    pub(crate) async fn connect(
        &self,
    ) -> Result<(Client, Connection<Socket, TlsStream>), tokio_postgres::Error> {
        match self.tls.mode {
            Mode::Disable => self.connect_by(SslMode::Disable).await,
            // Plainly, unless the server insists.
            Mode::Allow => match self.connect_by(SslMode::Disable).await {
                Err(refused) if is_of_the_way(&refused) => {
                    self.connect_by(SslMode::Require).await.map_err(|_| refused)
                }
                other => other,
            },
            // A server that offers TLS and cannot do it, or wants none of us, is asked plainly.
            Mode::Prefer => match self.connect_by(SslMode::Prefer).await {
                Err(refused) if is_of_the_way(&refused) => {
                    self.connect_by(SslMode::Disable).await.map_err(|_| refused)
                }
                other => other,
            },
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => self.connect_by(SslMode::Require).await,
        }
    }

    /// Asks the server to leave off what it does for a connection.
    pub(crate) async fn cancel(&self, token: CancelToken) -> Result<(), tokio_postgres::Error> {
        token.cancel_query(self.rustls.clone()).await
    }

    async fn connect_by(
        &self,
        mode: SslMode,
    ) -> Result<(Client, Connection<Socket, TlsStream>), tokio_postgres::Error> {
        let mut config = self.config.clone();
        config.ssl_mode(mode).connect(self.rustls.clone()).await
    }
}

/// Whether the same server may take us with TLS though not without, or the other way round.
fn is_of_the_way(error: &tokio_postgres::Error) -> bool {
    crate::tls::is_of_tls(error) || error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

fn unusable(why: String) -> StoreError {
    StoreError::Unusable(why.into())
}

/// What is wrong with a URL, without the URL and without anything that may be a part of the password in it.
fn told(error: &tokio_postgres::Error) -> String {
    let said = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let option = said.split('`').nth(1);
    let why = match option {
        Some(option) if said.starts_with("unknown option") && !KNOWN.contains(&option) => {
            "it names an option that is not known; a `?`, `&` or `@` in a password is written `%3F`, `%26`, `%40`".into()
        }
        Some(_) if said.contains("option") => said,
        _ => "it cannot be read".to_string(),
    };
    format!("this is no address of a PostgreSQL database ({why}): {HOW}")
}

/// The parameters that are read by us and their values, and the URL without them.
fn taken(url: &str) -> Result<(String, Vec<(String, String)>), String> {
    let is_url = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
    match is_url {
        true => taken_from_url(url),
        false => taken_from_pairs(url),
    }
}

fn taken_from_url(url: &str) -> Result<(String, Vec<(String, String)>), String> {
    // The first `@` ends the password, as the library has it.
    let after = url.find('@').map_or(0, |at| at + 1);
    let Some(mark) = url[after..].find('?').map(|at| after + at) else {
        return Ok((url.to_string(), Vec::new()));
    };
    let (mut kept, mut own) = (Vec::new(), Vec::new());
    for pair in url[mark + 1..].split('&') {
        match pair.split_once('=') {
            Some((key, value)) if Tls::KEYS.contains(&&*decoded(key)?) => {
                own.push((decoded(key)?.into_owned(), decoded(value)?.into_owned()));
            }
            _ => kept.push(pair),
        }
    }
    let rest = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    Ok((format!("{}{rest}", &url[..mark]), own))
}

fn decoded(text: &str) -> Result<Cow<'_, str>, String> {
    if !text.contains('%') {
        return Ok(text.into());
    }
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let hex = (*first == b'%').then(|| more.get(..2)).flatten();
        let code = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &more[2..] } else { more };
    }
    let not_text = |_| format!("a parameter of the URL of the PostgreSQL database is no text: {HOW}");
    String::from_utf8(bytes).map(Cow::from).map_err(not_text)
}

/// Of `key=value 'key' = 'a value'` and the like.
fn taken_from_pairs(text: &str) -> Result<(String, Vec<(String, String)>), String> {
    let (mut rest, mut own, mut at) = (String::new(), Vec::new(), 0);
    while at < text.len() {
        let (key, value, end) = pair(text, at);
        match value {
            Some(value) if Tls::KEYS.contains(&key) => own.push((key.to_string(), value)),
            _ => rest += &text[at..end],
        }
        at = end;
    }
    Ok((rest, own))
}

/// The pair that begins here, and where it ends; what is not one is left to the library, which says what is wrong.
fn pair(text: &str, at: usize) -> (&str, Option<String>, usize) {
    let Some(equals) = text[at..].find('=').map(|equals| at + equals) else { return ("", None, text.len()) };
    let key = text[at..equals].trim();
    let mut value = String::new();
    let mut chars = text[equals + 1..].char_indices().peekable();
    while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
    let quoted = chars.next_if(|(_, c)| *c == '\'').is_some();
    while let Some((n, c)) = chars.next() {
        if c == '\\' {
            value.extend(chars.next().map(|(_, c)| c));
        } else if quoted && c == '\'' {
            return (key, Some(value), equals + 1 + n + 1);
        } else if !quoted && c.is_whitespace() {
            return (key, Some(value), equals + 1 + n);
        } else {
            value.push(c);
        }
    }
    (key, Some(value).filter(|_| !quoted), text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, rest: &str, own: &[(&str, &str)]) {
        let (kept, found) = taken(url).expect("is read");
        let found: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!((kept.trim(), &found[..]), (rest, own), "{url}");
    }

    #[test]
    fn parameters_of_tls_are_taken_out_of_both_forms() {
        check("postgres://u@h/d", "postgres://u@h/d", &[]);
        check("postgres://u@h/d?sslmode=verify-ca", "postgres://u@h/d", &[("sslmode", "verify-ca")]);
        check(
            "postgresql://u:p%3F@h/d?port=5&sslrootcert=%2Fa%20b%25%zz.crt&user=x&sslmode=allow",
            "postgresql://u:p%3F@h/d?port=5&user=x",
            &[("sslrootcert", "/a b%%zz.crt"), ("sslmode", "allow")],
        );
        check("postgres://u:?sslmode=x@h/d", "postgres://u:?sslmode=x@h/d", &[]);
        check("host=h sslmode=require user=u", "host=h user=u", &[("sslmode", "require")]);
        check(
            r"sslrootcert = 'it\'s here' host = 'a=b' sslmode=prefer",
            "host = 'a=b'",
            &[("sslrootcert", "it's here"), ("sslmode", "prefer")],
        );
        check("password='sslmode=disable' host=h", "password='sslmode=disable' host=h", &[]);
    }

    #[test]
    fn no_error_has_a_part_of_a_password_in_it() {
        for url in [
            "postgres://u:hush?hush=hush@h/d?hush=1",
            "postgres://u:hush@hush?hush=1@h/d",
            "postgress://u:hush@h/d?hush=1",
            "host=h password=hush hush=hush",
            "host=h password='hush",
            "host=h password=hush hush",
            "postgres://u:hush@h:hush/d",
            "postgres://u:hush@h/d?sslmode=hush",
            "postgres://u:hush@h/d?sslrootcert=/nowhere/at/all&sslmode=verify-ca",
        ] {
            let error = Address::parse(url).expect_err(url).to_string();
            assert!(!error.contains("hush"), "{url}: {error}");
        }
        let shown = format!("{:?}", Address::parse("postgres://u:hush@h/d").expect("is one"));
        assert!(!shown.contains("hush"), "{shown}");
    }

    #[test]
    fn a_known_option_that_does_not_serve_is_named() {
        let error = Address::parse("postgres://u@h/d?sslcrl=x").expect_err("not known").to_string();
        assert!(error.contains("unknown option `sslcrl`"), "{error}");
        let error = Address::parse("postgres://u@h:many/d").expect_err("no port").to_string();
        assert!(error.contains("invalid value for option `port`"), "{error}");
    }

    #[test]
    fn a_socket_of_this_machine_is_not_encrypted() {
        let address = Address::parse("host=/run/postgresql sslmode=verify-full").expect("is one");
        assert_eq!(address.tls.mode, Mode::Disable);
    }
}
