//! The certificate that the server shows, which can be exchanged while it serves.

use super::{TlsError, TlsFiles, provider, read_certificates, read_key};
use rustls::{
    Error, ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::sync::{Arc, PoisonError, RwLock};

/// A certificate with its key, and the files that they came from. Clones share it.
#[derive(Debug, Clone)]
pub struct ServedCertificate {
    files: TlsFiles,
    current: Arc<Current>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ServedCertificate {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] where one cannot be read, or where they do not belong together.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let current = Arc::new(read(&files)?);
        Ok(Self {
            files,
            current: Arc::new(Current(RwLock::new(current))),
        })
    }

    /// Reads the files again. Connections that are made from now on see what is in them.
    ///
    /// # Errors
    /// [`TlsError`] as in [`Self::load`]; the certificate then is the one that it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        let read = Arc::new(read(&self.files)?);
        let mut current = self
            .current
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = read;
        Ok(())
    }

    /// What a server needs to show it.
    ///
    /// # Errors
    /// [`TlsError::Setup`].
    pub fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.current) as _);
        Ok(config)
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let chain = read_certificates(&files.certificate).map_err(TlsError::Certificates)?;
    let key = read_key(&files.key).map_err(TlsError::Keys)?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        Error::InvalidCertificate(_) => TlsError::Certificate(error),
        _ => TlsError::Key(error),
    })
}
