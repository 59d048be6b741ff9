//! Which certificate a mail server shows.
//!
//! Owns the choice between files and a certificate made on the spot, and the certificates that a rule of
//! `--fault` wants shown.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::disk;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::tls::{CertificateAuthority, IssuedCertificate, ServerTls, Validity, self_signed};
use crate::smtp::server::fault::{CertificateFault, Effect, FaultRules};

/// TLS, if there is any.
#[derive(Debug, Args)]
pub(super) struct TlsArgs {
    /// Offer STARTTLS with this chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key", hide_short_help = true, help_heading = "TLS")]
    tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert", hide_short_help = true, help_heading = "TLS")]
    tls_key: Option<PathBuf>,

    /// Offer STARTTLS with a certificate made now
    ///
    /// It is for localhost, both loopback addresses and the server's own name, signed by an authority that lives as
    /// long as the run. With =FILE the authority's certificate is written there, for a client's --ca;
    /// the SHA-256 of the server's own, for --pin, is shown at the start.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "", value_parser = clap::value_parser!(OsString), conflicts_with = "tls_cert")]
    tls_self_signed: Option<OsString>,
}

/// What is shown.
#[derive(Clone)]
pub(super) struct ServerCerts {
    /// Usually.
    pub regular: ServerTls,
    /// By the rules with these numbers.
    pub faulty: Vec<(usize, ServerTls)>,
    /// The SHA-256 of the usual one, if it was made here.
    pub sha256: Option<String>,
}

impl TlsArgs {
    /// Whether there is TLS.
    pub(super) fn is_enabled(&self) -> bool {
        self.tls_cert.is_some() || self.tls_self_signed.is_some()
    }

    /// What is shown, if there is TLS.
    pub(super) fn server_certs(&self, server_name: &str, faults: &FaultRules) -> Result<Option<ServerCerts>> {
        let wanted: Vec<(usize, &CertificateFault)> = (0..)
            .zip(faults.rules())
            .filter_map(|(number, rule)| match &rule.action.effect {
                Effect::Certificate(certificate) => Some((number, certificate)),
                _ => None,
            })
            .collect();
        let Some(file) = &self.tls_self_signed else {
            if !wanted.is_empty() {
                return Err(Error::new(Exit::Usage, "--fault 'cert = …' wants a certificate that can be made wrong")
                    .expected("--tls-self-signed")
                    .remedy("take --tls-self-signed instead of --tls-cert, or leave the rule out"));
            }
            let files = self.tls_cert.as_deref().zip(self.tls_key.as_deref());
            let side = files.map(|(chain, key)| ServerTls::from_files(chain, key)).transpose()?;
            return Ok(side.map(|usual| ServerCerts { regular: usual, faulty: Vec::new(), sha256: None }));
        };
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        if !server_name.starts_with('[') && server_name != "localhost" {
            names.push(server_name.to_owned());
        }
        let authority = CertificateAuthority::new()?;
        let IssuedCertificate { tls: usual, sha256 } = authority.issue(&names, Validity::Current)?;
        let wrong = |certificate: &CertificateFault| match certificate {
            CertificateFault::Expired => authority.issue(&names, Validity::Expired),
            CertificateFault::WrongName(other) => authority.issue(std::slice::from_ref(other), Validity::Current),
            CertificateFault::SelfSigned => self_signed(&names),
        };
        let faulty = wanted.into_iter().map(|(number, certificate)| Ok((number, wrong(certificate)?.tls)));
        let faulty = faulty.collect::<Result<Vec<_>>>()?;
        if !file.is_empty() {
            disk::replace(Path::new(file), authority.pem().as_bytes())?;
        }
        Ok(Some(ServerCerts { regular: usual, faulty, sha256: Some(sha256) }))
    }
}
