//! Flags of the connection: server address, transport security, trust.
//!
//! Owns the default security of each port: 587 uses STARTTLS, 465 TLS, 25 and 2525 no TLS (RFC 8314 §3.3).

use std::net::{IpAddr, SocketAddr};

use clap::Args;

use crate::commands::args::TrustArgs;
use crate::commands::peer::{AddressArgs, Peer};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::net::Signals;
use crate::net::tls::{self, ClientTls};
use crate::output::Output;
use crate::smtp::Security;
use crate::time::Moment;

#[derive(Debug, Args)]
pub(super) struct TransportArgs {
    /// Mail server [default port: 587; 465 with --tls, 25 with --plain]
    #[arg(value_name = "HOST[:PORT]")]
    server: Peer,

    /// Require STARTTLS (default on port 587)
    #[arg(long, group = "security", help_heading = "Transport", hide_short_help = true)]
    starttls: bool,

    /// Use TLS from the first byte (default on port 465)
    #[arg(long, group = "security", help_heading = "Transport", hide_short_help = true)]
    tls: bool,

    /// Do not use TLS (default on ports 25 and 2525)
    #[arg(long, group = "security", help_heading = "Transport", hide_short_help = true)]
    plain: bool,

    /// Host name to expect in the certificate [default: HOST]
    #[arg(long, value_name = "NAME", help_heading = "Transport", hide_short_help = true)]
    server_name: Option<String>,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    addressing: AddressArgs,
}

impl TransportArgs {
    /// Returns true if certificates are not verified.
    pub(super) fn is_insecure(&self) -> bool {
        self.trust.insecure
    }

    /// Server name or address, as given on the command line.
    pub(super) fn host(&self) -> &str {
        &self.server.host
    }

    /// Host name to expect in the certificate.
    pub(super) fn server_name(&self) -> &str {
        self.server_name.as_deref().unwrap_or(self.host())
    }

    /// Local address to connect from.
    pub(super) fn source(&self) -> Option<IpAddr> {
        self.addressing.source
    }

    /// Resolves the server to all its addresses (RFC 5321 §5.1).
    pub(super) fn resolve(&self, deadline: Option<Moment>, signals: &mut Signals) -> Result<Vec<SocketAddr>, Failure> {
        self.addressing.resolve_all(&self.server, self.port(), deadline, signals)
    }

    /// Transport security, by flag or port.
    pub(super) fn security(&self) -> Security {
        match (self.starttls, self.tls, self.plain, self.server.port) {
            (true, ..) => Security::Starttls,
            (_, true, ..) | (.., false, Some(465)) => Security::Tls,
            (_, _, true, _) | (.., Some(25 | 2525)) => Security::Plain,
            _ => Security::Starttls,
        }
    }

    fn port(&self) -> u16 {
        self.server.port.unwrap_or(match self.security() {
            Security::Starttls => 587,
            Security::Tls => 465,
            Security::Plain => 25,
        })
    }

    /// Formats the server as HOST:PORT, with an IPv6 address in brackets.
    pub(super) fn host_and_port(&self) -> String {
        let host = &self.server.host;
        let port = self.port();
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Rejects TLS flags that would be ignored, and a name that no certificate can have.
    pub(super) fn check(&self) -> Result<()> {
        if self.security() != Security::Plain {
            return Ok(tls::check_server_name(self.server_name())?);
        }
        if self.server_name.is_none() && !self.trust.is_given() {
            return Ok(());
        }
        Err(Error::new(Exit::Usage, "this connection uses no TLS, so there is no certificate to verify or present")
            .expected("--starttls or --tls with --ca, --pin, --insecure, --cert, --key or --server-name"))
    }

    /// TLS configuration; `None` without TLS.
    pub(super) fn client_tls(&self, output: &Output) -> Result<Option<ClientTls>> {
        if self.security() == Security::Plain {
            return Ok(None);
        }
        if self.trust.insecure {
            output.note("warning: --insecure: the identity of the server is not verified");
        }
        let tls = ClientTls::new(&self.trust.trust())?;
        tls.warnings().iter().for_each(|warning| output.note(&format!("note: {warning}")));
        Ok(Some(tls))
    }
}
