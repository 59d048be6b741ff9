//! What a server has shown, also where it is not believed: whoever asks why wants to see it.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use super::chain::{Certificate, read};

/// The chain of one connection, once it was shown.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<Vec<CertificateDer<'static>>>>);

impl Seen {
    /// Its certificates, the server's own first.
    pub fn chain(&self) -> Vec<Certificate> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(read).collect()
    }
}

/// A verifier that remembers what it was asked about.
#[derive(Debug)]
pub struct Watched {
    /// Who decides.
    pub verifier: Arc<dyn ServerCertVerifier>,
    /// Where it is remembered.
    pub seen: Seen,
}

impl ServerCertVerifier for Watched {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = std::iter::once(certificate).chain(intermediates).map(|shown| shown.clone().into_owned());
        *self.seen.0.lock().unwrap_or_else(PoisonError::into_inner) = shown.collect();
        self.verifier.verify_server_cert(certificate, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
