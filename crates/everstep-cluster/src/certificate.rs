//! The certificate of a server that speaks TLS, and the authority that signed it: two, because clients do not take an
//! authority's own certificate for a server's. Made by `openssl`.

use std::{fs, path::Path, process::Command};

use crate::{
    account::Account,
    error::{Result, While},
    programs::said_by,
};

/// What clients must trust.
pub(crate) const AUTHORITY: &str = "authority.crt";
pub(crate) const CERTIFICATE: &str = "server.crt";
pub(crate) const KEY: &str = "server.key";

const DAYS: &str = "3650";
const CURVE: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
/// Whom the server may be, for clients that compare names.
const NAMES: &str = "basicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n";

pub(crate) fn make(folder: &Path, account: &Account) -> Result<()> {
    let openssl = |args: &[&str]| {
        said_by(Command::new("openssl").current_dir(folder).args(args))
            .during(|| "make a certificate by `openssl` (Debian: openssl)".into())
    };
    fs::write(folder.join("names"), NAMES).during(|| "write the names of a certificate".into())?;
    let authority =
        ["req", "-x509", "-days", DAYS, "-subj", "/CN=everstep tests", "-keyout", "authority.key"];
    openssl(&[&authority[..], &CURVE, &["-out", AUTHORITY]].concat())?;
    let request = ["req", "-new", "-subj", "/CN=localhost", "-keyout", KEY, "-out", "server.csr"];
    openssl(&[&request[..], &CURVE].concat())?;
    let sign =
        ["x509", "-req", "-days", DAYS, "-in", "server.csr", "-CA", AUTHORITY, "-CAkey", "authority.key"];
    openssl(&[&sign[..], &["-CAcreateserial", "-extfile", "names", "-out", CERTIFICATE]].concat())?;
    account.owns(&folder.join(CERTIFICATE))?;
    account.owns(&folder.join(KEY))
}
