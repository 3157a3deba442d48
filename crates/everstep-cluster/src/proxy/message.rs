//! Where PostgreSQL's messages begin and end (protocol 3).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// More than the store ever sends at once, and less than the memory of a machine.
pub(super) const LENGTH_MAX: usize = 256 << 20;
/// Every length counts itself.
const LENGTH_OF_LENGTH: usize = 4;

const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// What a client begins with, as it came.
#[derive(Debug)]
pub(super) enum Opening {
    /// It asks whether it may encrypt, and will begin again.
    Encrypt,
    /// Another connection's statement shall be cancelled; this one ends with that.
    Cancel(Vec<u8>),
    Startup(Vec<u8>),
}

pub(super) async fn opening(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Opening> {
    let mut bytes = vec![0; LENGTH_OF_LENGTH];
    from.read_exact(&mut bytes).await?;
    rest(&mut bytes, 0, from).await?;
    let code = bytes.get(4..8).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes);
    Ok(match code.ok_or_else(broken)? {
        TLS | GSS => Opening::Encrypt,
        CANCEL => Opening::Cancel(bytes),
        _ => Opening::Startup(bytes),
    })
}

/// A message after the beginning, whole.
#[derive(Debug)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    /// `None` when the other end has closed between two messages.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Message>> {
        let mut bytes = vec![0; 1 + LENGTH_OF_LENGTH];
        if from.read(&mut bytes[..1]).await? == 0 {
            return Ok(None);
        }
        from.read_exact(&mut bytes[1..]).await?;
        rest(&mut bytes, 1, from).await?;
        Ok(Some(Message(bytes)))
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[0]
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.0[1 + LENGTH_OF_LENGTH..]
    }

    /// The first texts of the body; a text that is not there is empty.
    pub(super) fn texts<const N: usize>(&self) -> [String; N] {
        let mut texts = self.body().split(|byte| *byte == 0);
        std::array::from_fn(|_| String::from_utf8_lossy(texts.next().unwrap_or_default()).into_owned())
    }
}

/// Reads what the length at `at` tells of.
async fn rest(bytes: &mut Vec<u8>, at: usize, from: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let length = bytes[at..].try_into().map(u32::from_be_bytes).map_err(|_| broken())?;
    let length = usize::try_from(length).map_err(|_| broken())?;
    if !(LENGTH_OF_LENGTH..=LENGTH_MAX).contains(&length) {
        return Err(broken());
    }
    let begun = bytes.len();
    bytes.resize(at + length, 0);
    from.read_exact(&mut bytes[begun..]).await.map(drop)
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "this is not PostgreSQL's protocol")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_read_whole_and_an_end_between_them_is_no_error() {
        let mut stream = &b"Q\0\0\0\x0dSELECT 1\0S\0\0\0\x04"[..];
        let query = Message::read(&mut stream).await.expect("reads").expect("is there");
        assert_eq!((query.kind(), query.texts::<2>()), (b'Q', ["SELECT 1".to_string(), String::new()]));
        assert_eq!(Message::read(&mut stream).await.expect("reads").expect("is there").body(), b"");
        assert!(Message::read(&mut stream).await.expect("reads").is_none());
        Message::read(&mut &b"Q\0\0\0\x0dSEL"[..]).await.expect_err("it ends inside");
        Message::read(&mut &b"Q\0\0\0\x03"[..]).await.expect_err("no length is so short");
    }

    #[tokio::test]
    async fn the_beginnings_are_told_apart() {
        assert!(matches!(opening(&mut &b"\0\0\0\x08\x04\xd2\x16\x2f"[..]).await, Ok(Opening::Encrypt)));
        assert!(matches!(
            opening(&mut &b"\0\0\0\x10\x04\xd2\x16\x2eaaaabbbb"[..]).await,
            Ok(Opening::Cancel(_))
        ));
        assert!(matches!(opening(&mut &b"\0\0\0\x09\0\x03\0\0\0"[..]).await, Ok(Opening::Startup(_))));
        opening(&mut &b"\0\0\0\x04"[..]).await.expect_err("it says nothing");
    }
}
