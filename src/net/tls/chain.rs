//! The certificates that a server has shown.
//!
//! Owns what people want to know of one: for whom, by whom, how long still, and by which hash it can be
//! pinned. They are taken apart by x509-parser (RFC 5280 §4.1); whether one is believed was decided before.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::prelude::X509Certificate;

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Certificate {
    /// Whose it is, as a distinguished name.
    pub subject: String,
    /// Who has signed it.
    pub issuer: String,
    /// For which names and addresses, if it is a server's.
    pub names: Vec<String>,
    /// From when on it holds, in seconds since 1970.
    pub not_before_s: i64,
    /// Until when.
    pub not_after_s: i64,
    /// Its SHA-256 in hexadecimal, as it can be pinned.
    pub sha256: String,
}

/// A certificate taken apart; `None` if it cannot be.
pub(super) fn parse_certificate(der: &CertificateDer<'_>) -> Option<Certificate> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let validity = certificate.validity();
    Some(Certificate {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        names: subject_alt_names(&certificate),
        not_before_s: validity.not_before.timestamp(),
        not_after_s: validity.not_after.timestamp(),
        sha256: fingerprint(der),
    })
}

/// The SHA-256 of a certificate in hexadecimal.
pub(super) fn fingerprint(der: &[u8]) -> String {
    let mut sha256 = String::new();
    for octet in Sha256::digest(der) {
        let _ = write!(sha256, "{octet:02x}");
    }
    sha256
}

fn subject_alt_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    names.filter_map(general_name).collect()
}

fn general_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(|octets| std::net::Ipv4Addr::from(octets).to_string());
            let v6 = || <[u8; 16]>::try_from(*octets).map(|octets| std::net::Ipv6Addr::from(octets).to_string());
            v4.or_else(|_| v6()).ok()
        }
        _ => None,
    }
}

/// The chain of one connection, once it was shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerChain(Arc<Mutex<Vec<CertificateDer<'static>>>>);

impl PeerChain {
    /// Its certificates, the server's own first.
    pub(crate) fn certificates(&self) -> Vec<Certificate> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(parse_certificate).collect()
    }

    /// It is shown.
    pub(super) fn record(&self, certificate: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) {
        let shown = std::iter::once(certificate).chain(intermediates).map(|shown| shown.clone().into_owned());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = shown.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::parse_certificate;

    #[test]
    fn a_certificate_is_taken_apart() {
        let names = ["mx.test".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("made");
        let seen = parse_certificate(made.cert.der()).expect("a certificate");
        assert_eq!(seen.names, ["mx.test", "127.0.0.1", "::1"]);
        assert!(seen.not_before_s < seen.not_after_s && seen.sha256.len() == 64);
        assert_eq!(seen.subject, seen.issuer);
        assert!(parse_certificate(&b"no certificate".as_slice().into()).is_none());
    }
}
