//! Encryption by rustls: whose word is taken for who the server is, what is shown of us, and what to do when it fails.
//!
//! Absent on purpose: OpenSSL, lists of revoked certificates, and roots that are compiled in. `sslrootcert=system`, and a
//! mode that verifies without a file, read the roots of this machine: whoever runs a database often has an authority of
//! their own, installed there, and a root that fell from grace goes with an update of the system, not of the program.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use tokio_postgres::{Socket, config::SslNegotiation, tls::MakeTlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A stream to the server that is encrypted.
pub(crate) type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// How much a connection must be encrypted, weakest first; as libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// Never.
    Disable,
    /// Only if the server insists.
    Allow,
    /// If the server can. Says nothing of who it is: what does not want to be listened to asks for more.
    Prefer,
    /// Always, with whoever answers; by a file of roots, as `VerifyCa`.
    Require,
    /// By a certificate of an authority that is trusted.
    VerifyCa,
    /// And that certificate is for the name in the URL.
    VerifyFull,
}

impl Mode {
    const ALL: [(&str, Mode); 6] = [
        ("disable", Mode::Disable),
        ("allow", Mode::Allow),
        ("prefer", Mode::Prefer),
        ("require", Mode::Require),
        ("verify-ca", Mode::VerifyCa),
        ("verify-full", Mode::VerifyFull),
    ];
}

/// Whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Roots {
    /// The authorities of this machine.
    System,
    /// Those of a file.
    File(String),
}

/// What a URL says about encryption.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) mode: Mode,
    roots: Roots,
    /// Files of a certificate that says who we are, and of its key.
    shown: Option<(String, String)>,
}

impl Tls {
    /// The parameters of a URL that are about it.
    pub(crate) const KEYS: [&'static str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

    /// Of the values of these parameters; the last of one counts.
    pub(crate) fn read(own: &[(String, String)]) -> Result<Tls, String> {
        let said = |key: &str| own.iter().rfind(|(own, _)| own == key).map(|(_, value)| value.as_str());
        let mode = match said("sslmode") {
            None => None,
            Some(word) => Some(mode_of(word)?),
        };
        let (mode, roots) = match said("sslrootcert").filter(|file| !file.is_empty()) {
            None => (mode.unwrap_or(Mode::Prefer), Roots::System),
            // As libpq has it: whoever trusts everybody's authorities looks at names too.
            Some("system") if mode.is_none_or(|mode| mode == Mode::VerifyFull) => {
                (Mode::VerifyFull, Roots::System)
            }
            Some("system") => {
                return Err("`sslrootcert=system` trusts authorities that sign for everybody, and a weaker `sslmode` than \
                            `verify-full` would take any server that one of them has signed: write `sslmode=verify-full`"
                    .into());
            }
            Some(file) => {
                let mode = mode.unwrap_or(Mode::Prefer);
                (if mode == Mode::Require { Mode::VerifyCa } else { mode }, Roots::File(file.to_string()))
            }
        };
        let shown = match (said("sslcert"), said("sslkey")) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate.to_string(), key.to_string())),
            _ => {
                return Err(
                    "a client's certificate has two files: write both `sslcert=` and `sslkey=`".into()
                );
            }
        };
        Ok(Tls { mode, roots, shown })
    }

    /// What makes encrypted streams; reads the files.
    pub(crate) fn rustls(&self, negotiation: SslNegotiation) -> Result<Rustls, String> {
        let provider = Arc::new(ring::default_provider());
        let failed = |error: rustls::Error| format!("TLS cannot be set up: {error}");
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(failed)?;
        let config = match self.mode {
            Mode::VerifyFull => config.with_root_certificates(self.roots.load()?),
            Mode::VerifyCa => config.dangerous().with_custom_certificate_verifier(Arc::new(AnyName {
                roots: Some(self.roots.load()?),
                provider,
            })),
            _ => config
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyName { roots: None, provider })),
        };
        let mut config = match &self.shown {
            None => config.with_no_client_auth(),
            Some((certificate, key)) if self.mode > Mode::Disable => config
                .with_client_auth_cert(certificates(certificate, "sslcert")?, key_of(key)?)
                .map_err(|error| {
                    format!("`sslcert` and `sslkey` do not serve (they belong together, and are of X.509 version 3): {error}")
                })?,
            Some(_) => config.with_no_client_auth(),
        };
        if negotiation == SslNegotiation::Direct {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok(Rustls(MakeRustlsConnect::new(config)))
    }
}

/// Makes encrypted streams.
#[derive(Clone)]
pub(crate) struct Rustls(MakeRustlsConnect);

impl fmt::Debug for Rustls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rustls")
    }
}

impl MakeTlsConnect<Socket> for Rustls {
    type Stream = TlsStream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = std::convert::Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self::TlsConnect, Self::Error> {
        <MakeRustlsConnect as MakeTlsConnect<Socket>>::make_tls_connect(&mut self.0, host)
    }
}

fn mode_of(word: &str) -> Result<Mode, String> {
    let found = Mode::ALL.iter().find(|(name, _)| *name == word).map(|(_, mode)| *mode);
    found.ok_or_else(|| {
        let all: Vec<_> = Mode::ALL.iter().map(|(name, _)| format!("`{name}`")).collect();
        format!("`sslmode` is one of {}", all.join(", "))
    })
}

impl Roots {
    fn load(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        match self {
            Roots::System => {
                let found = rustls_native_certs::load_native_certs();
                let (added, _) = roots.add_parsable_certificates(found.certs);
                if added == 0 {
                    return Err("this machine has no authorities to trust (Debian: ca-certificates): install them, or name \
                                the file of the one that signed the server's certificate by `sslrootcert=`"
                        .into());
                }
            }
            Roots::File(file) => {
                for certificate in certificates(file, "sslrootcert")? {
                    roots.add(certificate).map_err(|error| {
                        format!(
                            "{file} (`sslrootcert`) has a certificate that cannot be an authority's: {error}"
                        )
                    })?;
                }
            }
        }
        Ok(roots)
    }
}

/// The certificates of a file, as PEM.
fn certificates(file: &str, key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let unread = |error| format!("{file} (`{key}`) cannot be read: {error}");
    let read = CertificateDer::pem_file_iter(file).map_err(unread)?;
    let certificates: Vec<_> = read.collect::<Result<_, _>>().map_err(unread)?;
    if certificates.is_empty() {
        return Err(format!("{file} (`{key}`) has no certificate: it must be a file of PEM"));
    }
    Ok(certificates)
}

fn key_of(file: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| format!("{file} (`sslkey`) cannot be read: {error}"))
}

/// Takes a server's certificate whatever names it is for: of an authority that is trusted, or of anybody. What the server
/// says, its key must have signed in any case.
#[derive(Debug)]
struct AnyName {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let parsed = ParsedCertificate::try_from(certificate)?;
            let known = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, between, now, known)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether encryption is what failed.
pub(crate) fn is_of_tls(error: &tokio_postgres::Error) -> bool {
    error.to_string().starts_with("error performing TLS handshake")
}

/// What to do about encryption that failed; `None` if something else did.
pub(crate) fn advice(error: &tokio_postgres::Error) -> Option<String> {
    if !is_of_tls(error) {
        return None;
    }
    let cause = std::error::Error::source(error)?;
    let ours = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let advice = match ours.and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => advice_on(why),
        Some(_) => "see what the server's log says of it",
        None if cause.to_string().contains("does not support TLS") => {
            "set `ssl = on` in its postgresql.conf, or write `sslmode=prefer` if nobody can listen on the way there"
        }
        None => "look whether a PostgreSQL server is what answers there, and what its log says",
    };
    Some(format!("no encrypted connection to PostgreSQL can be made ({cause}): {advice}"))
}

fn advice_on(why: &CertificateError) -> &'static str {
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is of an authority that is not trusted: name that authority's file by `sslrootcert=`"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for other names: connect by one of those, have one made for this name, or write \
             `sslmode=verify-ca` if every server of that authority may be trusted"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired, or this machine's clock is wrong"
        }
        CertificateError::Other(_) => {
            "a certificate that signs itself is no server's here: make an authority, and have it sign the server's"
        }
        _ => {
            "see what is wrong with its certificate: `openssl s_client -starttls postgres -connect HOST:PORT`"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Tls, String> {
        Tls::read(&pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect::<Vec<_>>())
    }

    #[test]
    fn modes_are_read_as_libpq_reads_them() {
        let mode = |pairs: &[(&str, &str)]| read(pairs).map(|tls| tls.mode);
        for (word, expected) in Mode::ALL {
            assert_eq!(mode(&[("sslmode", word)]), Ok(expected));
        }
        assert_eq!(mode(&[]), Ok(Mode::Prefer));
        assert_eq!(mode(&[("sslmode", "require"), ("sslrootcert", "a.crt")]), Ok(Mode::VerifyCa));
        assert_eq!(mode(&[("sslmode", "prefer"), ("sslrootcert", "a.crt")]), Ok(Mode::Prefer));
        assert_eq!(mode(&[("sslrootcert", "system")]), Ok(Mode::VerifyFull));
        assert!(
            mode(&[("sslrootcert", "system"), ("sslmode", "verify-ca")])
                .expect_err("is weak")
                .contains("verify-full")
        );
        assert!(mode(&[("sslmode", "on")]).expect_err("is none").contains("`allow`"));
        assert!(mode(&[("sslcert", "a.crt")]).expect_err("half").contains("sslkey"));
    }
}
