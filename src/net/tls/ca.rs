//! Temporary certificate authority and self-signed certificates.
//!
//! Owns the keys of one run; they are never written to disk. Also issues invalid certificates, to test clients.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::super::clock::now;
use super::chain::fingerprint;
use super::server::ServerTls;
use crate::failure::{Failure, FailureKind, Result};
use crate::time::Moment;

const DAY: Duration = Duration::from_secs(86_400);
/// Time by which certificates are backdated, for peers whose clock is behind.
const CLOCK_SKEW: Duration = DAY;
const VALIDITY_PERIOD: Duration = Duration::from_secs(397 * 86_400);

/// Validity period of an issued certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    Current,
    /// Expired yesterday.
    Expired,
}

pub(crate) struct CertificateAuthority(CertifiedIssuer<'static, KeyPair>);

/// Server certificate, ready for use.
pub(crate) struct IssuedCertificate {
    pub tls: ServerTls,
    /// SHA-256 fingerprint in hexadecimal, the form that `--pin` accepts.
    pub sha256: String,
}

impl CertificateAuthority {
    pub(crate) fn new() -> Result<Self> {
        let mut params = certificate_params(&[], "netlab temporary CA", Validity::Current)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(certificate_error)?;
        CertifiedIssuer::self_signed(params, key).map(Self).map_err(certificate_error)
    }

    /// Returns the CA certificate in PEM, for clients to trust.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a server certificate for host names and IP addresses.
    pub(crate) fn issue(&self, names: &[String], validity: Validity) -> Result<IssuedCertificate> {
        let key = KeyPair::generate().map_err(certificate_error)?;
        let leaf = server_params(names, validity)?.signed_by(&key, &self.0).map_err(certificate_error)?;
        with_server_tls(vec![leaf.der().clone(), self.0.der().clone()], &key)
    }
}

/// Creates a self-signed server certificate.
pub(crate) fn self_signed(names: &[String]) -> Result<IssuedCertificate> {
    let key = KeyPair::generate().map_err(certificate_error)?;
    let leaf = server_params(names, Validity::Current)?.self_signed(&key).map_err(certificate_error)?;
    with_server_tls(vec![leaf.der().clone()], &key)
}

fn with_server_tls(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Result<IssuedCertificate> {
    let sha256 = chain.first().map(|leaf| fingerprint(leaf)).unwrap_or_default();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    let config = config.map_err(|error| {
        Failure::new(FailureKind::Bug, "a generated certificate does not match its key").with_source(error)
    })?;
    Ok(IssuedCertificate { tls: ServerTls::new(Arc::new(config)), sha256 })
}

fn server_params(names: &[String], validity: Validity) -> Result<CertificateParams> {
    let first = names.first().map_or("localhost", String::as_str);
    let mut params = certificate_params(names, first, validity)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn certificate_params(names: &[String], common_name: &str, validity: Validity) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names.to_vec()).map_err(|error| {
        Failure::new(FailureKind::InvalidValue, format!("cannot issue a certificate for '{}'", names.join(", ")))
            .expected("host names and IP addresses")
            .with_source(error)
    })?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = now();
    let (not_before, not_after) = match validity {
        Validity::Current => (now.before(CLOCK_SKEW), now + VALIDITY_PERIOD),
        Validity::Expired => (now.before(DAY * 30), now.before(DAY)),
    };
    // Midnight UTC of that day, in the form that rcgen takes.
    let date = |moment: Moment| {
        let date = moment.timestamp().to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
        let part = |number: i8| u8::try_from(number).unwrap_or(1);
        rcgen::date_time_ymd(i32::from(date.year()), part(date.month()), part(date.day()))
    };
    (params.not_before, params.not_after) = (date(not_before), date(not_after));
    Ok(params)
}

fn certificate_error(error: rcgen::Error) -> Failure {
    Failure::new(FailureKind::Bug, "cannot create a certificate").with_source(error)
}
