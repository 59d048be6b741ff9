//! TLS, both ways, over rustls with its default provider.
//!
//! Owns the trust decisions: which roots, which certificates, and the words for each way a
//! handshake can fail. The octets travel in [`link`](super::link).

mod authority;
mod chain;
mod client;
mod pin;
mod server;

use std::fs;
use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError};

pub(crate) use authority::{CertificateAuthority, IssuedCertificate, Validity, self_signed};
pub(crate) use chain::Certificate;
pub(crate) use chain::PeerChain;
pub(crate) use client::{ClientTls, TlsOptions, check_server_name};
pub(crate) use pin::Pin;
pub(crate) use server::ServerTls;

/// A TLS session of either side.
pub(crate) use rustls::Connection as Session;

use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;

/// The version a session speaks, as `1.3`.
pub(crate) fn version(session: &Session) -> Option<&'static str> {
    match session.protocol_version()? {
        rustls::ProtocolVersion::TLSv1_3 => Some("1.3"),
        rustls::ProtocolVersion::TLSv1_2 => Some("1.2"),
        // Nothing older is ever agreed on.
        _ => None,
    }
}

/// The certificates of a PEM file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    let pem = read_file(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(Error::new(Exit::Config, format!("{shown} holds no certificate"))
            .expected("PEM: -----BEGIN CERTIFICATE-----")),
        Err(error) => Err(Error::new(Exit::Config, format!("{shown} is not PEM")).with_source(error)),
    }
}

/// The private key of a PEM file.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read_file(path)?).map_err(|error| {
        Error::new(Exit::Config, format!("{} holds no private key", path.display()))
            .expected("PEM: -----BEGIN PRIVATE KEY-----")
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
        Error::new(exit, format!("cannot read {}: {}", path.display(), io_error_text(&error))).with_source(error)
    })
}

/// A chain and a key that rustls does not take together.
fn key_mismatch_error(chain: &Path, key: &Path, error: rustls::Error) -> Error {
    Error::new(Exit::Config, format!("{} and {} do not belong together", chain.display(), key.display()))
        .with_source(error)
}

/// What a failed handshake or a broken record means to the user.
pub(super) fn into_error(error: rustls::Error) -> Error {
    use rustls::Error as Tls;
    let made = match &error {
        Tls::InvalidCertificate(reason) => certificate_error(reason),
        Tls::InvalidMessage(_) => Error::new(Exit::Protocol, "the peer does not speak TLS on this port")
            .expected("a TLS handshake")
            .remedy("leave TLS off, or take the port that speaks it"),
        Tls::AlertReceived(alert) => alert_error(*alert),
        Tls::PeerIncompatible(_) => {
            Error::new(Exit::Protocol, "the peer and netlab share no TLS version or cipher").expected("TLS 1.2 or 1.3")
        }
        other => Error::new(Exit::Protocol, format!("TLS failed: {other}")),
    };
    made.with_source(error)
}

fn certificate_error(reason: &CertificateError) -> Error {
    use CertificateError as Bad;
    let (what, expected, remedy) = match reason {
        Bad::Expired | Bad::ExpiredContext { .. } => (
            "the server's certificate has expired",
            "a certificate valid today",
            "renew it on the server, and check this machine's clock",
        ),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => (
            "the server's certificate is not valid yet",
            "a certificate valid today",
            "check the clocks of both machines",
        ),
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => (
            "the server's certificate is for another name",
            "a certificate for the name that was asked for",
            "use a name it was issued for",
        ),
        reason if client::is_unknown_issuer(reason) => (
            "the server's certificate comes from an unknown authority",
            "a chain to a trusted root",
            "if you know the authority, name its certificate with --ca FILE",
        ),
        Bad::Other(other) if other.to_string() == client::SELF_SIGNED => {
            (client::SELF_SIGNED, "a certificate from a trusted authority", "if it is yours, name it with --ca FILE")
        }
        Bad::Other(other) if other.0.downcast_ref::<client::PinMismatch>().is_some() => {
            return Error::new(Exit::Certificate, other.to_string())
                .expected("a certificate named by --pin")
                .remedy("if the server changed it, and you know that from elsewhere, pin the new one");
        }
        Bad::Revoked => ("the server's certificate has been revoked", "a valid certificate", "ask the server's owner"),
        other => return Error::new(Exit::Certificate, format!("the server's certificate is not acceptable: {other}")),
    };
    let seen = match reason {
        Bad::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            let names: Vec<&str> = presented.iter().map(|name| bare_name(name)).collect();
            format!("; it is for {}", names.join(", "))
        }
        _ => String::new(),
    };
    Error::new(Exit::Certificate, format!("{what}{seen}")).expected(expected).remedy(remedy)
}

/// A name without the Rust around it: `DnsName("x.test")`, `IpAddress(192.0.2.1)`.
fn bare_name(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
    inner.map_or(name, |inner| inner.trim_matches('"'))
}

fn alert_error(alert: AlertDescription) -> Error {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired => {
            Error::new(Exit::Certificate, format!("the peer refuses the certificate it was shown ({alert:?})"))
        }
        AlertDescription::CertificateRequired => {
            Error::new(Exit::Permission, "the server wants a client certificate").remedy("name one with --cert FILE")
        }
        AlertDescription::UnrecognisedName => Error::new(Exit::Certificate, "the server knows no site of this name"),
        other => Error::new(Exit::Protocol, format!("the peer ended the TLS handshake ({other:?})")),
    }
}
