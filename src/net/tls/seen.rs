//! What a server has shown, also where it is not believed: whoever asks why wants to see it.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;

use super::chain::{Certificate, parse_certificate};

/// The chain of one connection, once it was shown.
#[derive(Clone, Debug, Default)]
pub struct PeerChain(Arc<Mutex<Vec<CertificateDer<'static>>>>);

impl PeerChain {
    /// Its certificates, the server's own first.
    pub fn certificates(&self) -> Vec<Certificate> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(parse_certificate).collect()
    }

    /// It is shown.
    pub(super) fn record(&self, certificate: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) {
        let shown = std::iter::once(certificate).chain(intermediates).map(|shown| shown.clone().into_owned());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = shown.collect();
    }
}
