//! Where the server is, and under which TLS it is believed.
//!
//! Owns the flags of the line, and what the port says where they say nothing: 587 wants STARTTLS, 465 is TLS,
//! 25 and 2525 are clear (RFC 8314 §3.3).

use std::net::SocketAddr;

use clap::Args;

use crate::commands::args::{FamilyArgs, Peer, TrustArgs};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::Signals;
use crate::net::tls::{self, ClientTls};
use crate::output::Output;
use crate::smtp::Security;
use crate::time::Moment;

/// The line to the server.
#[derive(Debug, Args)]
pub(super) struct TransportArgs {
    /// The server; without a port 587, with --tls 465, with --plain 25
    #[arg(value_name = "HOST[:PORT]")]
    server: Peer,

    /// Clear until STARTTLS, and nothing without it; the default of port 587
    #[arg(long, group = "security", help_heading = "Transport", hide_short_help = true)]
    starttls: bool,

    /// TLS from the first byte on; the default of port 465
    #[arg(long, group = "security", help_heading = "Transport", hide_short_help = true)]
    tls: bool,

    /// No TLS at all; the default of ports 25 and 2525
    #[arg(long, group = "security", help_heading = "Transport", hide_short_help = true)]
    plain: bool,

    /// The name that the certificate must have
    #[arg(long, value_name = "NAME", help_heading = "Transport", hide_short_help = true)]
    server_name: Option<String>,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    family: FamilyArgs,
}

impl TransportArgs {
    /// Whether whatever the server shows is believed.
    pub(super) fn is_insecure(&self) -> bool {
        self.trust.insecure
    }

    /// The server's name, or its address.
    pub(super) fn host(&self) -> &str {
        &self.server.host
    }

    /// The name that the certificate must have.
    pub(super) fn server_name(&self) -> &str {
        self.server_name.as_deref().unwrap_or(self.host())
    }

    /// Looks the server up: every address that it has (RFC 5321 §5.1).
    pub(super) fn resolve(&self, deadline: Option<Moment>, signals: &mut Signals) -> Result<Vec<SocketAddr>> {
        self.family.resolve_all(&self.server, self.port(), deadline, signals)
    }

    /// When the line is encrypted.
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

    /// The server as it was typed, with its port.
    pub(super) fn host_and_port(&self) -> String {
        let host = &self.server.host;
        let port = self.port();
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Refuses what would be ignored, and a name that no certificate can have.
    pub(super) fn check(&self) -> Result<()> {
        if self.security() != Security::Plain {
            return tls::check_server_name(self.server_name());
        }
        if self.server_name.is_none() && !self.trust.is_given() {
            return Ok(());
        }
        Err(Error::new(Exit::Usage, "there is no TLS on this line, and so no certificate to be checked or shown")
            .expected("--starttls or --tls with --ca, --pin, --insecure, --cert, --key or --server-name"))
    }

    /// Our side of TLS, if there is to be any.
    pub(super) fn client_tls(&self, output: &Output) -> Result<Option<ClientTls>> {
        if self.security() == Security::Plain {
            return Ok(None);
        }
        if self.trust.insecure {
            output.note("warning: with --insecure anybody could be the server");
        }
        let side = ClientTls::new(&self.trust.trust())?;
        side.warnings().iter().for_each(|warning| output.note(&format!("note: {warning}")));
        Ok(Some(side))
    }
}
