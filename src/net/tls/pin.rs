//! Pins: a certificate or a key that is known beforehand.
//!
//! Owns the two ways the field writes one: msmtp's and openssl's SHA-256 fingerprint of the whole
//! certificate in hexadecimal, and curl's `sha256//` with the base64 of the SHA-256 of its public key
//! (the `SubjectPublicKeyInfo`, as RFC 7469 §2.4 pins it).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::exit::Exit;

type Hash = [u8; 32];

/// A certificate or a key that is known beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pin {
    /// The hash of a certificate in DER.
    Certificate(Hash),
    /// The hash of a certificate's `SubjectPublicKeyInfo` in DER.
    Key(Hash),
}

impl Pin {
    /// The pin of a certificate in DER.
    pub(crate) fn certificate(certificate: &[u8]) -> Self {
        Self::Certificate(Sha256::digest(certificate).into())
    }

    /// Whether a certificate, or its key, both in DER, is meant.
    pub(crate) fn matches(&self, certificate: &[u8], key: &[u8]) -> bool {
        match self {
            Self::Certificate(hash) => Sha256::digest(certificate)[..] == hash[..],
            Self::Key(hash) => Sha256::digest(key)[..] == hash[..],
        }
    }
}

impl FromStr for Pin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let pin = match text.strip_prefix("sha256//") {
            Some(encoded) => BASE64_STANDARD.decode(encoded).ok().and_then(|hash| hash.try_into().ok()).map(Self::Key),
            None => parse_hex(text).map(Self::Certificate),
        };
        pin.ok_or_else(|| {
            Error::new(Exit::Usage, format!("{text:?} is no pin"))
                .expected("64 hexadecimal digits as 'openssl x509 -fingerprint -sha256' prints, or sha256//BASE64")
        })
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(hash) => hash.iter().try_for_each(|octet| write!(f, "{octet:02x}")),
            Self::Key(hash) => write!(f, "sha256//{}", BASE64_STANDARD.encode(hash)),
        }
    }
}

/// 32 octets in hexadecimal, with or without colons between them.
fn parse_hex(text: &str) -> Option<Hash> {
    let digits: Vec<char> = text.chars().filter(|c| *c != ':').collect();
    let octets = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high.to_digit(16)? * 16 + low.to_digit(16)?).ok(),
        _ => None,
    });
    octets.collect::<Option<Vec<u8>>>()?.try_into().ok()
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
        let key: Pin = "sha256//ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=".parse().expect("a key's");
        assert!(key.matches(b"key", b"abc") && !key.matches(b"abc", b"key"));
        assert_eq!(key.to_string(), "sha256//ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
        for wrong in ["", "ba", &plain[1..], "sha256//ungW", "sha1//x", &plain.replace('b', "g")] {
            assert!(wrong.parse::<Pin>().is_err(), "{wrong}");
        }
    }
}
