//! TLS as a server: a certificate and its key.

use std::path::Path;
use std::sync::Arc;

use rustls::{Connection, ServerConfig, ServerConnection};

use super::{certificates, private_key};
use crate::error::Result;

/// What a server shows to its clients.
#[derive(Clone, Debug)]
pub(crate) struct ServerTls(Arc<ServerConfig>);

impl ServerTls {
    /// Reads a chain and its key from PEM files.
    pub(crate) fn from_files(chain: &Path, key: &Path) -> Result<Self> {
        let certificates = certificates(chain)?;
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certificates, private_key(key)?)
            .map_err(|error| super::key_mismatch_error(chain, key, error))?;
        Ok(Self(Arc::new(config)))
    }

    /// Shows what a config says.
    pub(super) fn new(config: Arc<ServerConfig>) -> Self {
        Self(config)
    }

    /// The session of one connection.
    pub(crate) fn connection(&self) -> Connection {
        let session = ServerConnection::new(Arc::clone(&self.0)).expect("a config that was built can be used");
        Connection::Server(session)
    }
}
