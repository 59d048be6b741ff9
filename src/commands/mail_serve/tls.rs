//! Server certificates of `mail-serve`.
//!
//! Owns the choice between files and a generated certificate, and the certificates for rules of `--fault`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::commands::report;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::tls::{CertificateAuthority, IssuedCertificate, ServerTls, Validity, self_signed};
use crate::smtp::server::fault::{CertificateFault, Effect, FaultRules};

/// Listener group with TLS from the first byte.
pub(super) const TLS_LISTENER: usize = 1;

#[derive(Debug, Args)]
pub(super) struct TlsArgs {
    /// Offer STARTTLS with the certificate chain in FILE (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key", hide_short_help = true, help_heading = "TLS")]
    tls_cert: Option<PathBuf>,

    /// Private key of --tls-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert", hide_short_help = true, help_heading = "TLS")]
    tls_key: Option<PathBuf>,

    /// Offer STARTTLS with a generated certificate
    ///
    /// The certificate is valid for localhost, both loopback addresses and the name of the server, and is
    /// signed by a temporary CA. With =FILE, the certificate of the CA is written to FILE, for --ca of a
    /// client. The SHA-256 of the server certificate, for --pin, is printed at the start.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "", value_parser = clap::value_parser!(OsString), conflicts_with = "tls_cert")]
    tls_self_signed: Option<OsString>,
}

#[derive(Clone)]
pub(super) struct ServerCerts {
    pub regular: ServerTls,
    /// Certificates for fault rules, by the index of the rule.
    pub faulty: Vec<(usize, ServerTls)>,
    /// SHA-256 of the regular certificate, if it was generated.
    pub sha256: Option<String>,
}

impl TlsArgs {
    pub(super) fn is_enabled(&self) -> bool {
        self.tls_cert.is_some() || self.tls_self_signed.is_some()
    }

    /// Reads or generates the certificates; `None` without TLS.
    pub(super) fn server_certs(&self, server_name: &str, faults: &FaultRules) -> Result<Option<ServerCerts>> {
        let requested: Vec<(usize, &CertificateFault)> = (0..)
            .zip(faults.rules())
            .filter_map(|(index, rule)| match &rule.action.effect {
                Effect::Certificate(certificate) => Some((index, certificate)),
                _ => None,
            })
            .collect();
        let Some(file) = &self.tls_self_signed else {
            if !requested.is_empty() {
                return Err(Error::new(Exit::Usage, "--fault 'cert = …' requires a generated certificate")
                    .expected("--tls-self-signed")
                    .remedy("use --tls-self-signed instead of --tls-cert, or leave out the rule"));
            }
            let files = self.tls_cert.as_deref().zip(self.tls_key.as_deref());
            let tls = files.map(|(chain, key)| ServerTls::from_files(chain, key)).transpose()?;
            return Ok(tls.map(|regular| ServerCerts { regular, faulty: Vec::new(), sha256: None }));
        };
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        if !server_name.starts_with('[') && server_name != "localhost" {
            names.push(server_name.to_owned());
        }
        let authority = CertificateAuthority::new()?;
        let IssuedCertificate { tls: regular, sha256 } = authority.issue(&names, Validity::Current)?;
        let issue = |certificate: &CertificateFault| match certificate {
            CertificateFault::Expired => authority.issue(&names, Validity::Expired),
            CertificateFault::WrongName(other) => authority.issue(std::slice::from_ref(other), Validity::Current),
            CertificateFault::SelfSigned => self_signed(&names),
        };
        let faulty = requested.into_iter().map(|(index, certificate)| Ok((index, issue(certificate)?.tls)));
        let faulty = faulty.collect::<Result<Vec<_>>>()?;
        if !file.is_empty() {
            report::write_file(Path::new(file), authority.pem().as_bytes())?;
        }
        Ok(Some(ServerCerts { regular, faulty, sha256: Some(sha256) }))
    }
}
