//! TLS as a client: whom to believe.
//!
//! Owns the verifier. It is rustls' own (webpki), with one addition: a server certificate that
//! equals, octet for octet, one given with `--ca` is trusted even if it is marked as an authority,
//! because that is what `openssl req -x509` makes. Its dates and its name are still checked. A pin
//! takes the place of the whole chain: it is this certificate, or this key, and no other.

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
use crate::error::{Error, Result};
use crate::exit::Exit;

/// The words for a certificate that vouches for itself.
pub(super) const SELF_SIGNED: &str = "the server's certificate is self-signed";

/// Whom to believe.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsOptions {
    /// PEM files of further authorities, or of the server's own certificate.
    pub ca_files: Vec<PathBuf>,
    /// The certificates or keys of which the server must show one; if there are any, nothing else counts.
    pub pins: Vec<Pin>,
    /// Believe anybody. Spelt out by the user or never.
    pub insecure: bool,
    /// The PEM files of the certificate that the server may ask for, and of its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

/// How a client begins TLS.
#[derive(Clone, Debug)]
pub(crate) struct ClientTls {
    config: Arc<ClientConfig>,
    verifier: Verifier,
    warnings: Vec<String>,
}

impl ClientTls {
    /// Loads this machine's roots and the given authorities.
    pub(crate) fn new(options: &TlsOptions) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut warnings = Vec::new();
        let judge = if options.insecure {
            VerificationPolicy::AcceptAny
        } else if !options.pins.is_empty() {
            VerificationPolicy::Pinned(options.pins.clone())
        } else {
            VerificationPolicy::Chain(ChainVerifier::new(options, &provider, &mut warnings)?)
        };
        let verifier = Verifier { policy: Arc::new(judge), provider: Arc::clone(&provider), peer_chain: None };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(Exit::Bug, "the TLS provider has no protocol version").with_source(error))?
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

    /// What was odd about the trust store but did not stop it.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The session of one connection to `host`, a name or an address.
    pub(crate) fn connection(&self, host: &str) -> Result<Connection> {
        client_connection(Arc::clone(&self.config), host)
    }

    /// The same, and what the server shows on it, believed or not.
    pub(crate) fn connection_with_chain(&self, host: &str) -> Result<(Connection, PeerChain)> {
        let seen = PeerChain::default();
        let mut config = (*self.config).clone();
        let verifier = Verifier { peer_chain: Some(seen.clone()), ..self.verifier.clone() };
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        Ok((client_connection(Arc::new(config), host)?, seen))
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|error| Error::new(Exit::Usage, format!("{host:?} cannot be in a certificate")).with_source(error))
}

/// Refuses what can be in no certificate.
pub(crate) fn check_server_name(host: &str) -> Result<()> {
    server_name(host).map(|_| ())
}

fn client_connection(config: Arc<ClientConfig>, host: &str) -> Result<Connection> {
    let name = server_name(host)?;
    Ok(Connection::Client(ClientConnection::new(config, name).map_err(super::into_error)?))
}

/// Holds a server to what is believed. The peer must hold its certificate's key in any case.
#[derive(Clone, Debug)]
struct Verifier {
    policy: Arc<VerificationPolicy>,
    provider: Arc<CryptoProvider>,
    /// Where what was shown is remembered.
    peer_chain: Option<PeerChain>,
}

/// What is believed.
#[derive(Debug)]
enum VerificationPolicy {
    /// Any certificate.
    AcceptAny,
    /// One of these, and no chain is looked at.
    Pinned(Vec<Pin>),
    /// One that somebody who is trusted vouches for.
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
        warnings.extend(native.errors.iter().map(|error| format!("a part of the trust store cannot be read: {error}")));
        let (_, ignored) = roots.add_parsable_certificates(native.certs);
        if ignored > 0 {
            warnings.push(format!("{ignored} certificates of the trust store cannot be used"));
        }
        let mut given = Vec::new();
        for path in &options.ca_files {
            given.extend(certificates(path)?);
        }
        roots.add_parsable_certificates(given.iter().cloned());
        if roots.is_empty() {
            return Err(Error::new(Exit::Config, "no trusted certificate authority found")
                .expected("the system's trust store, or one in SSL_CERT_FILE or SSL_CERT_DIR")
                .remedy("install ca-certificates, or name an authority with --ca FILE"));
        }
        let webpki = build_verifier(roots, provider)?;
        Ok(Self { webpki, ca_certificates: given, provider: Arc::clone(provider) })
    }

    /// Whether a certificate's own key signed it: as its own root it is accepted, or refused for
    /// being an authority, but never unknown.
    fn is_self_signed(&self, certificate: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> bool {
        let mut alone = RootCertStore::empty();
        if alone.add(certificate.clone().into_owned()).is_err() {
            return false;
        }
        let Ok(verifier) = build_verifier(alone, &self.provider) else { return false };
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
                // webpki looks at the dates before it looks at the mark, so they are good.
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
        .map_err(|error| Error::new(Exit::Config, "the trust store cannot be used").with_source(error))
}

/// Whether nobody who is trusted vouches for a certificate. An authority of the same name but with
/// another key, perhaps of another kind, is somebody else.
pub(super) fn is_unknown_issuer(reason: &CertificateError) -> bool {
    use CertificateError as Bad;
    matches!(
        reason,
        Bad::UnknownIssuer | Bad::BadSignature | Bad::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
    )
}

/// webpki's `CaUsedAsEndEntity`, which rustls wraps without a name of its own.
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

/// A certificate that is none of the pinned ones.
#[derive(Debug)]
pub(super) struct PinMismatch(Pin);

impl fmt::Display for PinMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server's certificate is none of the pinned ones; its own is {}", self.0)
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
        if let Some(seen) = &self.peer_chain {
            seen.record(certificate, intermediates);
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
