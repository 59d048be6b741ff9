//! Client side of TLS: verification of the server certificate.
//!
//! Owns the verifier. It is rustls' own (webpki), with one addition: a server certificate identical to one
//! given with `--ca` is trusted even if it is marked as a CA, because `openssl req -x509` creates such
//! certificates. Its dates and its name are still verified. A pin replaces the verification of the chain:
//! only this certificate, or this key, is accepted.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};

use super::chain::PeerChain;
use super::pin::Pin;
use super::{certificates, private_key};
use crate::failure::{Failure, FailureKind, Result};

pub(super) const SELF_SIGNED: &str = "the server's certificate is self-signed";

#[derive(Clone, Debug, Default)]
pub(crate) struct TlsOptions {
    /// PEM files of additional authorities, or of the server's own certificate.
    pub ca_files: Vec<PathBuf>,
    /// Accepted certificates or keys; if there are any, the chain is not verified.
    pub pins: Vec<Pin>,
    /// Disables verification; set only by an explicit flag.
    pub insecure: bool,
    /// PEM files of the client certificate and its private key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

/// TLS configuration of a client.
#[derive(Clone, Debug)]
pub(crate) struct ClientTls {
    config: Arc<ClientConfig>,
    verifier: Verifier,
    warnings: Vec<String>,
}

impl ClientTls {
    /// Loads the system's trust store and the given authorities.
    pub(crate) fn new(options: &TlsOptions) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut warnings = Vec::new();
        let policy = if options.insecure {
            VerificationPolicy::AcceptAny
        } else if !options.pins.is_empty() {
            VerificationPolicy::Pinned(options.pins.clone())
        } else {
            VerificationPolicy::Chain(ChainVerifier::new(options, &provider, &mut warnings)?)
        };
        let verifier = Verifier { policy: Arc::new(policy), provider: Arc::clone(&provider), peer_chain: None };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| {
                Failure::new(FailureKind::Bug, "the TLS provider has no protocol version").with_source(error)
            })?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier.clone()));
        let config = match &options.client_certificate {
            None => config.with_no_client_auth(),
            Some((chain, key)) => config
                .with_client_auth_cert(certificates(chain)?, private_key(key)?)
                .map_err(|error| super::key_mismatch_error(chain, key, error))?,
        };
        Ok(Self { config: Arc::new(config), verifier, warnings })
    }

    /// Returns the problems of the trust store that are not fatal.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Creates the session of one connection to `host`, a name or an IP address.
    pub(crate) fn connection(&self, host: &str) -> Result<Connection> {
        client_connection(Arc::clone(&self.config), host)
    }

    /// Creates a session and the chain that the server presents on it, even if it is rejected.
    pub(crate) fn connection_with_chain(&self, host: &str) -> Result<(Connection, PeerChain)> {
        let chain = PeerChain::default();
        let mut config = (*self.config).clone();
        let verifier = Verifier { peer_chain: Some(chain.clone()), ..self.verifier.clone() };
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        Ok((client_connection(Arc::new(config), host)?, chain))
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|error| {
        Failure::new(FailureKind::InvalidValue, format!("invalid host name '{host}'")).with_source(error)
    })
}

/// Rejects a host that cannot be the name in a certificate.
pub(crate) fn check_server_name(host: &str) -> Result<()> {
    server_name(host).map(|_| ())
}

fn client_connection(config: Arc<ClientConfig>, host: &str) -> Result<Connection> {
    let name = server_name(host)?;
    Ok(Connection::Client(ClientConnection::new(config, name).map_err(|error| super::into_error(error, false))?))
}

/// Verifier of server certificates. Under every policy, the peer must prove possession of the private key.
#[derive(Clone, Debug)]
struct Verifier {
    policy: Arc<VerificationPolicy>,
    provider: Arc<CryptoProvider>,
    /// Recorder of the presented chain.
    peer_chain: Option<PeerChain>,
}

#[derive(Debug)]
enum VerificationPolicy {
    AcceptAny,
    /// Accepts these certificates and keys, without regard to the chain.
    Pinned(Vec<Pin>),
    /// Accepts chains to a trusted root.
    Chain(ChainVerifier),
}

#[derive(Debug)]
struct ChainVerifier {
    webpki: Arc<WebPkiServerVerifier>,
    ca_certificates: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ChainVerifier {
    fn new(options: &TlsOptions, provider: &Arc<CryptoProvider>, warnings: &mut Vec<String>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        warnings.extend(native.errors.iter().map(|error| format!("cannot read part of the trust store: {error}")));
        let (_, ignored) = roots.add_parsable_certificates(native.certs);
        if ignored > 0 {
            warnings.push(format!("unusable certificates in the trust store: {ignored}"));
        }
        let mut ca_certificates = Vec::new();
        for path in &options.ca_files {
            ca_certificates.extend(certificates(path)?);
        }
        roots.add_parsable_certificates(ca_certificates.iter().cloned());
        if roots.is_empty() {
            return Err(Failure::new(FailureKind::NoTrustStore, "no trusted CA found")
                .expected("certificates in the system's trust store, SSL_CERT_FILE or SSL_CERT_DIR"));
        }
        let webpki = build_verifier(roots, provider)?;
        Ok(Self { webpki, ca_certificates, provider: Arc::clone(provider) })
    }

    /// Returns whether a certificate is signed by its own key: with itself as the only root, it is accepted
    /// or rejected as a CA, but its issuer is never unknown.
    fn is_self_signed(&self, certificate: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> bool {
        let mut roots = RootCertStore::empty();
        if roots.add(certificate.clone().into_owned()).is_err() {
            return false;
        }
        let Ok(verifier) = build_verifier(roots, &self.provider) else { return false };
        let verdict = verifier.verify_server_cert(certificate, &[], name, &[], now);
        !matches!(&verdict, Err(rustls::Error::InvalidCertificate(reason)) if is_unknown_issuer(reason))
    }

    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = self.webpki.verify_server_cert(certificate, intermediates, name, ocsp, now);
        match &verdict {
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
                if is_ca_as_end_entity(other) && self.ca_certificates.contains(certificate) =>
            {
                // webpki checks the dates before the CA flag, so they are valid.
                rustls::client::verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            Err(rustls::Error::InvalidCertificate(reason))
                if (is_unknown_issuer(reason) || matches!(reason, CertificateError::Other(_)))
                    && self.is_self_signed(certificate, name, now) =>
            {
                Err(CertificateError::Other(OtherError(Arc::new(SelfSigned))).into())
            }
            _ => verdict,
        }
    }
}

fn build_verifier(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| Failure::new(FailureKind::InvalidFile, "cannot use the trust store").with_source(error))
}

/// Returns whether no trusted authority issued a certificate. A trusted authority of the same name with
/// another key, perhaps of another type, is a different authority.
pub(super) fn is_unknown_issuer(reason: &CertificateError) -> bool {
    use CertificateError as Reason;
    matches!(
        reason,
        Reason::UnknownIssuer | Reason::BadSignature | Reason::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
    )
}

/// Recognizes webpki's `CaUsedAsEndEntity`, for which rustls has no variant.
fn is_ca_as_end_entity(other: &OtherError) -> bool {
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

#[derive(Debug)]
struct SelfSigned;

impl fmt::Display for SelfSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SELF_SIGNED)
    }
}

impl std::error::Error for SelfSigned {}

/// Certificate that matches no pin; holds its own fingerprint.
#[derive(Debug)]
pub(super) struct PinMismatch(Pin);

impl fmt::Display for PinMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server's certificate does not match the pinned one; its fingerprint is {}", self.0)
    }
}

impl std::error::Error for PinMismatch {}

fn verify_pins(pins: &[Pin], certificate: &CertificateDer<'_>) -> Result<ServerCertVerified, rustls::Error> {
    let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    if pins.iter().any(|pin| pin.matches(certificate, &key)) {
        return Ok(ServerCertVerified::assertion());
    }
    Err(CertificateError::Other(OtherError(Arc::new(PinMismatch(Pin::certificate(certificate))))).into())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(chain) = &self.peer_chain {
            chain.record(certificate, intermediates);
        }
        match &*self.policy {
            VerificationPolicy::AcceptAny => Ok(ServerCertVerified::assertion()),
            VerificationPolicy::Pinned(pins) => verify_pins(pins, certificate),
            VerificationPolicy::Chain(chain) => chain.verify(certificate, intermediates, name, ocsp, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
