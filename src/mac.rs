//! A key that two ends share, and the tags it makes.
//!
//! Owns HMAC-SHA-256 cut to its first 128 bits (RFC 2104 §5), which authenticated STAMP (RFC 8762
//! §4.4) and our heartbeat both use. It must not know what it protects.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The length of a tag in octets.
pub(crate) const TAG_SIZE: usize = 16;

/// A secret that can be used, but not shown.
#[derive(Clone)]
pub(crate) struct MacKey(Hmac<Sha256>);

impl MacKey {
    /// A key of any length; RFC 2104 hashes those that are longer than a block.
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("HMAC takes keys of any length"))
    }

    /// The tag of a message.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; TAG_SIZE] {
        let whole: [u8; 32] = self.0.clone().chain_update(message).finalize().into_bytes().into();
        std::array::from_fn(|at| whole.get(at).copied().unwrap_or_default())
    }

    /// Whether a tag is that of a message. Compares in constant time, so that a forger learns
    /// nothing from how long a refusal takes.
    pub(crate) fn verify(&self, message: &[u8], tag: &[u8; TAG_SIZE]) -> bool {
        self.0.clone().chain_update(message).verify_truncated_left(tag).is_ok()
    }
}

/// Octets that can be used, but neither shown nor written down: there is no `Debug`, no `Display`, no
/// `Serialize`.
#[derive(Clone)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    /// Keeps it.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The octets, for a mechanism that needs them.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    /// Overwritten, so that it is not found in what the memory is used for next.
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::MacKey;

    #[test]
    fn the_tag_is_that_of_rfc_4231() {
        // Test case 5: truncated to 128 bits.
        let key = MacKey::new(&[0x0c; 20]);
        let tag = key.sign(b"Test With Truncation");
        assert_eq!(tag, 0xa3b6_1674_7310_0ee0_6e0c_796c_2955_552b_u128.to_be_bytes());
        assert!(key.verify(b"Test With Truncation", &tag));
        assert!(!key.verify(b"test with truncation", &tag));
    }
}
