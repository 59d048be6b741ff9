//! Server certificates of `mail-serve`.
//!
//! Owns the certificates for rules of `--fault`.

use crate::commands::server_tls::{ServerCertificate, ServerTlsArgs, certificate_names};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::tls::{ServerTls, Validity, self_signed};
use crate::smtp::server::fault::{CertificateFault, Effect, FaultRules};

/// Listener group with TLS from the first byte.
pub(super) const TLS_LISTENER: usize = 1;

#[derive(Clone)]
pub(super) struct ServerCerts {
    pub regular: ServerCertificate,
    /// Certificates for fault rules, by the index of the rule.
    pub faulty: Vec<(usize, ServerTls)>,
}

/// Reads or generates the certificates; `None` without TLS.
pub(super) fn server_certs(args: &ServerTlsArgs, name: &str, faults: &FaultRules) -> Result<Option<ServerCerts>> {
    let requested: Vec<(usize, &CertificateFault)> = (0..)
        .zip(faults.rules())
        .filter_map(|(index, rule)| match &rule.action.effect {
            Effect::Certificate(certificate) => Some((index, certificate)),
            _ => None,
        })
        .collect();
    if !requested.is_empty() && !args.is_generated() {
        return Err(Error::new(Exit::Usage, "--fault 'cert = …' requires a generated certificate")
            .expected("--tls-self-signed")
            .remedy("use --tls-self-signed instead of --tls-cert, or leave out the rule"));
    }
    let authority = args.authority()?;
    let Some(regular) = args.certificate(Some(name), authority.as_ref())? else { return Ok(None) };
    let names = certificate_names(Some(name));
    let mut faulty = Vec::new();
    if let Some(authority) = &authority {
        for (index, certificate) in requested {
            let issued = match certificate {
                CertificateFault::Expired => authority.issue(&names, Validity::Expired),
                CertificateFault::WrongName(other) => authority.issue(std::slice::from_ref(other), Validity::Current),
                CertificateFault::SelfSigned => self_signed(&names),
            }?;
            faulty.push((index, issued.tls));
        }
    }
    Ok(Some(ServerCerts { regular, faulty }))
}
