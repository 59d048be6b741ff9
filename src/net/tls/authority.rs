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
use super::server::ServerSide;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::time::Moment;

const DAY: Duration = Duration::from_secs(86_400);
/// How long before now a certificate begins, for peers whose clock is behind.
const SLACK: Duration = DAY;
const VALID: Duration = Duration::from_secs(397 * 86_400);

/// Whether a certificate is valid today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It is.
    Current,
    /// It was until yesterday.
    Expired,
}

/// Somebody who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, as a server shows it.
pub struct Issued {
    /// To show it.
    pub side: ServerSide,
    /// Its SHA-256 in hexadecimal, as `--pin` takes it.
    pub sha256: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Result<Self> {
        let mut params = parameters(&[], "netlab authority of one run", Validity::Current)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(failed)?;
        CertifiedIssuer::self_signed(params, key).map(Self).map_err(failed)
    }

    /// Its own certificate (PEM), which is what clients have to trust.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server's certificate for these names and addresses.
    pub fn issue(&self, names: &[String], validity: Validity) -> Result<Issued> {
        let key = KeyPair::generate().map_err(failed)?;
        let leaf = server(names, validity)?.signed_by(&key, &self.0).map_err(failed)?;
        issued(vec![leaf.der().clone(), self.0.der().clone()], &key)
    }
}

/// A server's certificate that nobody but itself vouches for.
pub fn self_signed(names: &[String]) -> Result<Issued> {
    let key = KeyPair::generate().map_err(failed)?;
    let leaf = server(names, Validity::Current)?.self_signed(&key).map_err(failed)?;
    issued(vec![leaf.der().clone()], &key)
}

fn issued(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Result<Issued> {
    let sha256 = chain.first().map(|leaf| fingerprint(leaf)).unwrap_or_default();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    let config = config.map_err(|error| {
        Error::new(Exit::Bug, "a certificate that was made here does not fit its key").with_source(error)
    })?;
    Ok(Issued { side: ServerSide::new(Arc::new(config)), sha256 })
}

fn server(names: &[String], validity: Validity) -> Result<CertificateParams> {
    let first = names.first().map_or("localhost", String::as_str);
    let mut params = parameters(names, first, validity)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn parameters(names: &[String], name: &str, validity: Validity) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names.to_vec()).map_err(|error| {
        Error::new(Exit::Usage, format!("no certificate can be for {}", names.join(", ")))
            .expected("host names and IP addresses")
            .with_source(error)
    })?;
    params.distinguished_name.push(DnType::CommonName, name);
    let now = now();
    let (from, until) = match validity {
        Validity::Current => (now.before(SLACK), now + VALID),
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

fn failed(error: rcgen::Error) -> Error {
    Error::new(Exit::Bug, "cannot make a certificate").with_source(error)
}
