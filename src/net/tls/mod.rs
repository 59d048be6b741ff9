//! TLS for clients and servers, with rustls and aws-lc-rs.
//!
//! Owns the trust decisions and the message for each way a handshake can fail. Encrypted bytes are
//! transferred by [`stream`](super::stream).

mod ca;
mod chain;
mod client;
mod pin;
mod server;

use std::fs;
use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError};

pub(crate) use ca::{CertificateAuthority, IssuedCertificate, Validity, self_signed};
pub(crate) use chain::Certificate;
pub(crate) use chain::PeerChain;
pub(crate) use client::{ClientTls, TlsOptions, check_server_name};
pub(crate) use pin::Pin;
pub(crate) use server::{PendingStartTls, ServerTls, StartTls};

/// TLS session of a client or a server.
pub(crate) use rustls::Connection as TlsConnection;

use crate::failure::{Failure, FailureKind, Result, io_error_text};

/// Returns the negotiated TLS version, such as `1.3`.
pub(crate) fn version(connection: &TlsConnection) -> Option<&'static str> {
    match connection.protocol_version()? {
        rustls::ProtocolVersion::TLSv1_3 => Some("1.3"),
        rustls::ProtocolVersion::TLSv1_2 => Some("1.2"),
        // Older versions are never negotiated.
        _ => None,
    }
}

/// Reads the certificates of a PEM file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    let pem = read_file(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(Failure::new(FailureKind::InvalidFile, format!("no certificate in '{shown}'"))
            .expected("a PEM file with -----BEGIN CERTIFICATE-----")),
        Err(error) => {
            Err(Failure::new(FailureKind::InvalidFile, format!("'{shown}' is not a PEM file")).with_source(error))
        }
    }
}

/// Reads the private key of a PEM file.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read_file(path)?).map_err(|error| {
        Failure::new(FailureKind::InvalidFile, format!("no private key in '{}'", path.display()))
            .expected("a PEM file with -----BEGIN PRIVATE KEY-----")
            .with_source(error)
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => FailureKind::NotFound,
            std::io::ErrorKind::PermissionDenied => FailureKind::PermissionDenied,
            _ => FailureKind::InvalidFile,
        };
        Failure::new(kind, format!("cannot read '{}': {}", path.display(), io_error_text(&error))).with_source(error)
    })
}

/// Describes a certificate chain and a private key that rustls rejects as a pair.
fn key_mismatch_error(chain: &Path, key: &Path, error: rustls::Error) -> Failure {
    Failure::new(
        FailureKind::InvalidFile,
        format!("certificate '{}' and key '{}' do not match", chain.display(), key.display()),
    )
    .with_source(error)
}

/// Describes a failed handshake or an invalid record.
pub(super) fn into_error(error: rustls::Error, is_server: bool) -> Failure {
    use rustls::Error as Tls;
    let described = match &error {
        Tls::InvalidCertificate(reason) => certificate_error(reason),
        Tls::InvalidMessage(_) if is_server => {
            Failure::new(FailureKind::Protocol, "invalid TLS record from the client").expected("a TLS handshake")
        }
        Tls::InvalidMessage(_) => {
            Failure::new(FailureKind::NotTls, "the server does not use TLS on this port").expected("a TLS handshake")
        }
        Tls::AlertReceived(alert) => alert_error(*alert),
        Tls::PeerIncompatible(_) => {
            Failure::new(FailureKind::Protocol, "no TLS version or cipher suite shared with the peer")
                .expected("TLS 1.2 or 1.3")
        }
        other => Failure::new(FailureKind::Protocol, format!("TLS failed: {other}")),
    };
    described.with_source(error)
}

fn certificate_error(reason: &CertificateError) -> Failure {
    use CertificateError as Reason;
    let (kind, message, expected) = match reason {
        Reason::Expired | Reason::ExpiredContext { .. } => (
            FailureKind::CertificateExpired,
            "the server's certificate has expired",
            "a certificate that is valid today",
        ),
        Reason::NotValidYet | Reason::NotValidYetContext { .. } => (
            FailureKind::CertificateNotYetValid,
            "the server's certificate is not valid yet",
            "a certificate that is valid today",
        ),
        Reason::NotValidForName | Reason::NotValidForNameContext { .. } => (
            FailureKind::CertificateName,
            "the server's certificate is for another name",
            "a certificate for the requested name",
        ),
        reason if client::is_unknown_issuer(reason) => (
            FailureKind::CertificateIssuer,
            "the server's certificate was issued by an untrusted CA",
            "a chain to a trusted root",
        ),
        Reason::Other(other) if other.to_string() == client::SELF_SIGNED => {
            (FailureKind::CertificateIssuer, client::SELF_SIGNED, "a certificate from a trusted CA")
        }
        Reason::Other(other) if other.0.downcast_ref::<client::PinMismatch>().is_some() => {
            return Failure::new(FailureKind::CertificatePin, other.to_string()).expected("a pinned certificate");
        }
        Reason::Revoked => {
            (FailureKind::Certificate, "the server's certificate has been revoked", "a valid certificate")
        }
        other => {
            let message = format!("the server's certificate was rejected: {other}");
            return Failure::new(FailureKind::Certificate, message);
        }
    };
    let names = match reason {
        Reason::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            let names: Vec<&str> = presented.iter().map(|name| bare_name(name)).collect();
            format!("; it is valid for {}", names.join(", "))
        }
        _ => String::new(),
    };
    Failure::new(kind, format!("{message}{names}")).expected(expected)
}

/// Extracts a name from its `Debug` form: `DnsName("x.test")`, `IpAddress(192.0.2.1)`.
fn bare_name(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
    inner.map_or(name, |inner| inner.trim_matches('"'))
}

/// Splits the variant's name into words: `HandshakeFailure` is "handshake failure", `UnknownCA` "unknown CA".
fn alert_name(alert: AlertDescription) -> String {
    let mut words = String::new();
    for letter in format!("{alert:?}").chars() {
        let in_acronym = words.ends_with(|last: char| last.is_ascii_uppercase());
        if letter.is_ascii_uppercase() && !words.is_empty() && !in_acronym {
            words.push(' ');
        }
        words.push(letter);
    }
    let lower =
        |word: &str| if word.len() > 1 && word == word.to_uppercase() { word.into() } else { word.to_lowercase() };
    words.split(' ').map(lower).collect::<Vec<String>>().join(" ")
}

fn alert_error(alert: AlertDescription) -> Failure {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired => Failure::new(
            FailureKind::Certificate,
            format!("the peer rejected the certificate (alert: {})", alert_name(alert)),
        ),
        AlertDescription::CertificateRequired => {
            Failure::new(FailureKind::CertificateRequired, "the server requires a client certificate")
        }
        AlertDescription::UnrecognisedName => {
            Failure::new(FailureKind::Certificate, "the server has no site with this name")
        }
        other => Failure::new(
            FailureKind::Protocol,
            format!("the peer aborted the TLS handshake (alert: {})", alert_name(other)),
        ),
    }
}
