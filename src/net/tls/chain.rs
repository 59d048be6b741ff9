//! Certificate chain that a server has presented.
//!
//! Owns the reported fields of a certificate: subject, issuer, names, validity and fingerprint, parsed with
//! x509-parser (RFC 5280 §4.1). Does not verify anything.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;
use schemars::JsonSchema;
use serde::Serialize;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::prelude::X509Certificate;

/// Fields of an X.509 certificate.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub(crate) struct Certificate {
    /// Distinguished name of the subject.
    pub subject: String,
    /// Distinguished name of the issuer.
    pub issuer: String,
    /// Subject alternative names: host names and IP addresses.
    pub names: Vec<String>,
    /// Start of the validity period, in seconds since 1970.
    pub not_before_s: i64,
    /// End of the validity period, in seconds since 1970.
    pub not_after_s: i64,
    /// SHA-256 fingerprint in hexadecimal, the form that `--pin` accepts.
    pub sha256: String,
}

/// Parses a certificate; `None` if it is malformed.
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

/// Returns the SHA-256 fingerprint of a certificate in hexadecimal.
pub(super) fn fingerprint(der: &[u8]) -> String {
    let mut sha256 = String::new();
    for byte in crate::mac::sha256(der) {
        let _ = write!(sha256, "{byte:02x}");
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
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|bytes| std::net::Ipv4Addr::from(bytes).to_string());
            let v6 = || <[u8; 16]>::try_from(*bytes).map(|bytes| std::net::Ipv6Addr::from(bytes).to_string());
            v4.or_else(|_| v6()).ok()
        }
        _ => None,
    }
}

/// Certificate chain of one connection; empty until the server presents it.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerChain(Arc<Mutex<Vec<CertificateDer<'static>>>>);

impl PeerChain {
    /// Returns the certificates, the server's own first.
    pub(crate) fn certificates(&self) -> Vec<Certificate> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(parse_certificate).collect()
    }

    pub(super) fn record(&self, certificate: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) {
        let chain = std::iter::once(certificate).chain(intermediates).map(|der| der.clone().into_owned());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::parse_certificate;

    #[test]
    fn a_certificate_is_parsed() {
        let names = ["mx.test".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let generated = rcgen::generate_simple_self_signed(names).expect("generated");
        let parsed = parse_certificate(generated.cert.der()).expect("a certificate");
        assert_eq!(parsed.names, ["mx.test", "127.0.0.1", "::1"]);
        assert!(parsed.not_before_s < parsed.not_after_s && parsed.sha256.len() == 64);
        assert_eq!(parsed.subject, parsed.issuer);
        assert!(parse_certificate(&b"not DER".as_slice().into()).is_none());
    }
}
