//! Certificates made on the spot.
//!
//! Owns a small authority that lives as long as the run: what it issues is good for those who trust it,
//! and for nobody else. It also issues what nobody should accept, so that clients can be tried.

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
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::time::Moment;

const DAY: Duration = Duration::from_secs(86_400);
/// How long before now a certificate begins, for peers whose clock is behind.
const CLOCK_SKEW: Duration = DAY;
const VALIDITY_PERIOD: Duration = Duration::from_secs(397 * 86_400);

/// Whether a certificate is valid today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    /// It is.
    Current,
    /// It was until yesterday.
    Expired,
}

/// Somebody who signs certificates.
pub(crate) struct CertificateAuthority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, as a server shows it.
pub(crate) struct IssuedCertificate {
    /// To show it.
    pub tls: ServerTls,
    /// Its SHA-256 in hexadecimal, as `--pin` takes it.
    pub sha256: String,
}

impl CertificateAuthority {
    /// A new one.
    pub(crate) fn new() -> Result<Self> {
        let mut params = certificate_params(&[], "netlab authority of one run", Validity::Current)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(certificate_error)?;
        CertifiedIssuer::self_signed(params, key).map(Self).map_err(certificate_error)
    }

    /// Its own certificate (PEM), which is what clients have to trust.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server's certificate for these names and addresses.
    pub(crate) fn issue(&self, names: &[String], validity: Validity) -> Result<IssuedCertificate> {
        let key = KeyPair::generate().map_err(certificate_error)?;
        let leaf = server_params(names, validity)?.signed_by(&key, &self.0).map_err(certificate_error)?;
        with_server_tls(vec![leaf.der().clone(), self.0.der().clone()], &key)
    }
}

/// A server's certificate that nobody but itself vouches for.
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
        Error::new(Exit::Bug, "a certificate that was made here does not fit its key").with_source(error)
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
        Error::new(Exit::Usage, format!("no certificate can be for {}", names.join(", ")))
            .expected("host names and IP addresses")
            .with_source(error)
    })?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = now();
    let (from, until) = match validity {
        Validity::Current => (now.before(CLOCK_SKEW), now + VALIDITY_PERIOD),
        Validity::Expired => (now.before(DAY * 30), now.before(DAY)),
    };
    // Midnight of that day in UTC, in the form that rcgen wants.
    let date = |moment: Moment| {
        let date = moment.timestamp().to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
        let part = |number: i8| u8::try_from(number).unwrap_or(1);
        rcgen::date_time_ymd(i32::from(date.year()), part(date.month()), part(date.day()))
    };
    (params.not_before, params.not_after) = (date(from), date(until));
    Ok(params)
}

fn certificate_error(error: rcgen::Error) -> Error {
    Error::new(Exit::Bug, "cannot make a certificate").with_source(error)
}
