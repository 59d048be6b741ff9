//! TLS as a server: a certificate and its key.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{Connection, ServerConfig, ServerConnection};

use super::certificates;
use crate::error::{Error, Result};
use crate::exit::Exit;

/// What a server shows to its clients.
#[derive(Clone, Debug)]
pub struct ServerSide(Arc<ServerConfig>);

impl ServerSide {
    /// Reads a chain and its key from PEM files.
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self> {
        let certificates = certificates(chain)?;
        let shown = key.display();
        let pem = fs::read(key).map_err(|error| {
            let exit = match error.kind() {
                std::io::ErrorKind::NotFound => Exit::InputMissing,
                std::io::ErrorKind::PermissionDenied => Exit::Permission,
                _ => Exit::Config,
            };
            Error::new(exit, format!("cannot read {shown}: {error}")).because(error)
        })?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
            Error::new(Exit::Config, format!("{shown} holds no private key"))
                .expected("PEM: -----BEGIN PRIVATE KEY-----")
                .because(error)
        })?;
        let config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key).map_err(|error| {
                Error::new(Exit::Config, format!("{} and {shown} do not belong together", chain.display()))
                    .because(error)
            })?;
        Ok(Self(Arc::new(config)))
    }

    /// The session of one connection.
    pub fn connection(&self) -> Connection {
        let session = ServerConnection::new(Arc::clone(&self.0)).expect("a config that was built can be used");
        Connection::Server(session)
    }
}
