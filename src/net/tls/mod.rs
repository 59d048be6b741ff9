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

use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;

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
        Ok(_) => Err(Error::new(Exit::Config, format!("no certificate in '{shown}'"))
            .expected("a PEM file with -----BEGIN CERTIFICATE-----")),
        Err(error) => Err(Error::new(Exit::Config, format!("'{shown}' is not a PEM file")).with_source(error)),
    }
}

/// Reads the private key of a PEM file.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read_file(path)?).map_err(|error| {
        Error::new(Exit::Config, format!("no private key in '{}'", path.display()))
            .expected("a PEM file with -----BEGIN PRIVATE KEY-----")
            .with_source(error)
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| {
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::InputMissing,
            std::io::ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::Config,
        };
        Error::new(exit, format!("cannot read '{}': {}", path.display(), io_error_text(&error))).with_source(error)
    })
}

/// Describes a certificate chain and a private key that rustls rejects as a pair.
fn key_mismatch_error(chain: &Path, key: &Path, error: rustls::Error) -> Error {
    Error::new(Exit::Config, format!("certificate '{}' and key '{}' do not match", chain.display(), key.display()))
        .with_source(error)
}

/// Describes a failed handshake or an invalid record.
pub(super) fn into_error(error: rustls::Error, is_server: bool) -> Error {
    use rustls::Error as Tls;
    let described = match &error {
        Tls::InvalidCertificate(reason) => certificate_error(reason),
        Tls::InvalidMessage(_) if is_server => {
            Error::new(Exit::Protocol, "invalid TLS record from the client").expected("a TLS handshake")
        }
        Tls::InvalidMessage(_) => Error::new(Exit::Protocol, "the server does not use TLS on this port")
            .expected("a TLS handshake")
            .remedy("connect without TLS, or use the port for TLS"),
        Tls::AlertReceived(alert) => alert_error(*alert),
        Tls::PeerIncompatible(_) => {
            Error::new(Exit::Protocol, "no TLS version or cipher suite shared with the peer").expected("TLS 1.2 or 1.3")
        }
        other => Error::new(Exit::Protocol, format!("TLS failed: {other}")),
    };
    described.with_source(error)
}

fn certificate_error(reason: &CertificateError) -> Error {
    use CertificateError as Reason;
    let (message, expected, remedy) = match reason {
        Reason::Expired | Reason::ExpiredContext { .. } => (
            "the server's certificate has expired",
            "a certificate that is valid today",
            "renew it on the server, and check this machine's clock",
        ),
        Reason::NotValidYet | Reason::NotValidYetContext { .. } => (
            "the server's certificate is not valid yet",
            "a certificate that is valid today",
            "check the clocks of both machines",
        ),
        Reason::NotValidForName | Reason::NotValidForNameContext { .. } => (
            "the server's certificate is for another name",
            "a certificate for the requested name",
            "connect by a name in the certificate",
        ),
        reason if client::is_unknown_issuer(reason) => (
            "the server's certificate was issued by an untrusted CA",
            "a chain to a trusted root",
            "if you trust this CA, add --ca FILE with its certificate",
        ),
        Reason::Other(other) if other.to_string() == client::SELF_SIGNED => (
            client::SELF_SIGNED,
            "a certificate from a trusted CA",
            "if you trust the certificate, add --ca FILE with it",
        ),
        Reason::Other(other) if other.0.downcast_ref::<client::PinMismatch>().is_some() => {
            return Error::new(Exit::Certificate, other.to_string())
                .expected("a certificate that matches --pin")
                .remedy("if the operator of the server confirms the change, pin the new certificate");
        }
        Reason::Revoked => ("the server's certificate has been revoked", "a valid certificate", "contact the operator"),
        other => return Error::new(Exit::Certificate, format!("the server's certificate was rejected: {other}")),
    };
    let names = match reason {
        Reason::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            let names: Vec<&str> = presented.iter().map(|name| bare_name(name)).collect();
            format!("; it is valid for {}", names.join(", "))
        }
        _ => String::new(),
    };
    Error::new(Exit::Certificate, format!("{message}{names}")).expected(expected).remedy(remedy)
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

fn alert_error(alert: AlertDescription) -> Error {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired => {
            Error::new(Exit::Certificate, format!("the peer rejected the certificate (alert: {})", alert_name(alert)))
        }
        AlertDescription::CertificateRequired => {
            Error::new(Exit::Permission, "the server requires a client certificate").remedy("give one with --cert FILE")
        }
        AlertDescription::UnrecognisedName => Error::new(Exit::Certificate, "the server has no site with this name"),
        other => {
            Error::new(Exit::Protocol, format!("the peer aborted the TLS handshake (alert: {})", alert_name(other)))
        }
    }
}
