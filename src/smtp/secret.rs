//! A password while it is in memory.

/// Octets that can be used, but neither shown nor written down: there is no `Debug`, no `Display`, no
/// `Serialize`.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Keeps it.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The octets, for a mechanism that needs them.
    pub fn expose(&self) -> &[u8] {
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
