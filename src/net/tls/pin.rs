//! Pins: hashes of a server certificate or of its public key.
//!
//! Owns the two common notations: the SHA-256 fingerprint of the certificate in hexadecimal (msmtp, openssl), and
//! `sha256//` with the base64 SHA-256 of the public key (curl; the `SubjectPublicKeyInfo` of RFC 7469 §2.4).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::failure::{Failure, FailureKind, Result};
use crate::mac::sha256;

type Hash = [u8; 32];

/// Hash that identifies a server certificate or its public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pin {
    /// SHA-256 of the certificate in DER.
    Certificate(Hash),
    /// SHA-256 of the `SubjectPublicKeyInfo` in DER.
    Key(Hash),
}

impl Pin {
    /// Computes the pin of a certificate in DER.
    pub(crate) fn certificate(certificate: &[u8]) -> Self {
        Self::Certificate(sha256(certificate))
    }

    /// Returns whether the pin matches a certificate or its public key, both in DER.
    pub(crate) fn matches(&self, certificate: &[u8], key: &[u8]) -> bool {
        match self {
            Self::Certificate(hash) => sha256(certificate) == *hash,
            Self::Key(hash) => sha256(key) == *hash,
        }
    }
}

impl FromStr for Pin {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        let pin = match text.strip_prefix("sha256//") {
            Some(encoded) => BASE64_STANDARD.decode(encoded).ok().and_then(|hash| hash.try_into().ok()).map(Self::Key),
            None => parse_hex(text).map(Self::Certificate),
        };
        pin.ok_or_else(|| {
            Failure::new(FailureKind::InvalidValue, format!("invalid pin '{text}'"))
                .expected("64 hexadecimal digits as from 'openssl x509 -fingerprint -sha256', or sha256//BASE64")
        })
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(hash) => hash.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Self::Key(hash) => write!(f, "sha256//{}", BASE64_STANDARD.encode(hash)),
        }
    }
}

/// Parses 32 bytes in hexadecimal, with or without colons between them.
fn parse_hex(text: &str) -> Option<Hash> {
    let digits: Vec<char> = text.chars().filter(|c| *c != ':').collect();
    let bytes = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high.to_digit(16)? * 16 + low.to_digit(16)?).ok(),
        _ => None,
    });
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::Pin;

    #[test]
    fn a_pin_is_read_as_openssl_and_as_curl_write_it() {
        let plain = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let colons: Vec<String> = plain.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into()).collect();
        let pin: Pin = colons.join(":").to_uppercase().parse().expect("a fingerprint");
        assert_eq!((&pin, pin.to_string()), (&Pin::certificate(b"abc"), plain.to_owned()));
        assert!(pin.matches(b"abc", b"key") && !pin.matches(b"key", b"abc"));
        let key: Pin = "sha256//ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=".parse().expect("a key pin");
        assert!(key.matches(b"key", b"abc") && !key.matches(b"abc", b"key"));
        assert_eq!(key.to_string(), "sha256//ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
        for wrong in ["", "ba", &plain[1..], "sha256//ungW", "sha1//x", &plain.replace('b', "g")] {
            assert!(wrong.parse::<Pin>().is_err(), "{wrong}");
        }
    }
}
