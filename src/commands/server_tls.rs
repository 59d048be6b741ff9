//! Flags for the certificate of a server: files, or a certificate that is generated at the start.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use super::report;
use crate::error::Result;
use crate::net::tls::{CertificateAuthority, IssuedCertificate, ServerTls, Validity};
use crate::stop::StopConditions;

#[derive(Debug, Args)]
pub(super) struct ServerTlsArgs {
    /// Offer TLS with the certificate chain in FILE (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key", hide_short_help = true, help_heading = "TLS")]
    tls_cert: Option<PathBuf>,

    /// Private key of --tls-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert", hide_short_help = true, help_heading = "TLS")]
    tls_key: Option<PathBuf>,

    /// Offer TLS with a generated certificate
    ///
    /// With SMTP, TLS begins after STARTTLS. The certificate is valid for localhost, both loopback addresses and the name of a mail server, and is
    /// signed by a temporary CA. With =FILE, the certificate of the CA is written to FILE, for a client's --ca. The SHA-256 of the server certificate, for --pin, is printed at the start.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "", value_parser = clap::value_parser!(OsString), conflicts_with = "tls_cert")]
    tls_self_signed: Option<OsString>,
}

/// Certificate of a server.
#[derive(Clone)]
pub(super) struct ServerCertificate {
    pub tls: ServerTls,
    /// SHA-256 of the certificate, if it was generated.
    pub sha256: Option<String>,
    /// Certificate of the CA, if it was generated.
    ca: Option<String>,
}

impl ServerTlsArgs {
    pub(super) fn is_enabled(&self) -> bool {
        self.tls_cert.is_some() || self.is_generated()
    }

    /// Returns true if the certificate is generated.
    pub(super) fn is_generated(&self) -> bool {
        self.tls_self_signed.is_some()
    }

    /// Writes the certificate of the temporary CA to the file of `--tls-self-signed=FILE`.
    pub(super) fn write_ca(&self, certificate: Option<&ServerCertificate>, stop: &StopConditions) -> Result<()> {
        let file = self.tls_self_signed.as_deref().filter(|file| !file.is_empty());
        match file.zip(certificate.and_then(|certificate| certificate.ca.as_ref())) {
            Some((file, ca)) => report::write_file(Path::new(file), ca.as_bytes(), stop),
            None => Ok(()),
        }
    }

    /// Reads the certificate, or has `authority` issue it for localhost, the loopback addresses and `name`; `None`
    /// without TLS.
    pub(super) fn certificate(
        &self,
        name: Option<&str>,
        authority: Option<&CertificateAuthority>,
    ) -> Result<Option<ServerCertificate>> {
        if let Some(authority) = authority {
            let IssuedCertificate { tls, sha256 } = authority.issue(&certificate_names(name), Validity::Current)?;
            return Ok(Some(ServerCertificate { tls, sha256: Some(sha256), ca: Some(authority.pem()) }));
        }
        let files = self.tls_cert.as_deref().zip(self.tls_key.as_deref());
        let tls = files.map(|(chain, key)| ServerTls::from_files(chain, key)).transpose()?;
        Ok(tls.map(|tls| ServerCertificate { tls, sha256: None, ca: None }))
    }

    /// Creates the temporary CA, if the certificate is generated.
    pub(super) fn authority(&self) -> Result<Option<CertificateAuthority>> {
        Ok(if self.is_generated() { Some(CertificateAuthority::new()?) } else { None })
    }
}

/// Names of a generated certificate.
pub(super) fn certificate_names(name: Option<&str>) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    names.extend(name.filter(|name| !name.starts_with('[') && *name != "localhost").map(str::to_owned));
    names
}
