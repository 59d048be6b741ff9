//! Cryptographic primitives: MAC keys, hashes, and a container for secret bytes.
//!
//! Owns [`MacKey`], HMAC-SHA-256 truncated to its first 128 bits (RFC 2104 §5) as used by authenticated STAMP
//! (RFC 8762 §4.4) and our heartbeat, and [`Secret`], bytes such as a password that are neither displayed nor
//! serialised. It must not know what the keys and secrets are used for.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};

/// Length of a tag in bytes.
pub(crate) const TAG_SIZE: usize = 16;

/// HMAC key; implements neither `Debug` nor `Display`.
#[derive(Clone)]
pub(crate) struct MacKey(Arc<hmac::Key>);

impl MacKey {
    /// Creates a key of any length; keys longer than a block are hashed (RFC 2104).
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; TAG_SIZE] {
        let whole = hmac::sign(&self.0, message);
        std::array::from_fn(|at| whole.as_ref().get(at).copied().unwrap_or_default())
    }

    /// Verifies the tag of a message. Compares in constant time, so that a forger learns nothing from the
    /// time a rejection takes.
    pub(crate) fn verify(&self, message: &[u8], tag: &[u8; TAG_SIZE]) -> bool {
        verify_slices_are_equal(&self.sign(message), tag).is_ok()
    }
}

/// SHA-256 (FIPS 180-4).
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, bytes);
    std::array::from_fn(|at| digest.as_ref().get(at).copied().unwrap_or_default())
}

/// HMAC-SHA-256 without truncation.
pub(crate) fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    std::array::from_fn(|at| tag.as_ref().get(at).copied().unwrap_or_default())
}

/// Secret bytes without `Debug`, `Display` and `Serialize`, so that they are never shown or stored.
#[derive(Clone)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, for an authentication mechanism that needs them.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    /// Overwrites the bytes, so that they do not remain in memory that is reused.
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::MacKey;

    #[test]
    fn the_tag_matches_rfc_4231() {
        // Test case 5: truncated to 128 bits.
        let key = MacKey::new(&[0x0c; 20]);
        let tag = key.sign(b"Test With Truncation");
        assert_eq!(tag, 0xa3b6_1674_7310_0ee0_6e0c_796c_2955_552b_u128.to_be_bytes());
        assert!(key.verify(b"Test With Truncation", &tag));
        assert!(!key.verify(b"test with truncation", &tag));
    }
}
