//! Certificates: the one that HTTPS is served with, and those that a client of ours trusts. Used by
//! `app` to serve, by the health check and by `tail` to ask; knows files, and nothing of HTTP.

mod pinned;
mod served;

pub use pinned::pinned_client;
pub use served::ServedCertificate;

use rustls::{
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where the certificate and its key stand, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by those that lead to its authority.
    pub certificate: PathBuf,
    /// Its private key, not encrypted.
    pub key: PathBuf,
}

/// Why no TLS can be spoken. The text names the setting to be mended, and no path.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificates cannot be read.
    #[error("TLS_CERT (--tls-cert): the file holds no certificates in PEM")]
    Certificates(#[source] pem::Error),
    /// They are none that can be used.
    #[error("TLS_CERT (--tls-cert): the certificate cannot be used")]
    Certificate(#[source] rustls::Error),
    /// The key cannot be read.
    #[error("TLS_KEY (--tls-key): the file holds no unencrypted private key in PEM")]
    Keys(#[source] pem::Error),
    /// It is of no kind that can be used, or of another certificate.
    #[error("TLS_KEY (--tls-key): the key cannot be used with TLS_CERT")]
    Key(#[source] rustls::Error),
    /// A bug of ours: the cryptography at hand does not do.
    #[error("failed to set up TLS")]
    Setup(#[source] rustls::Error),
}

/// Lets libraries that build their own TLS, as reqwest does, find the cryptography that is compiled
/// in. Once is enough, and more does no harm.
pub fn install_provider() {
    // An error means that it is there already.
    let _ = ring::default_provider().install_default();
}

/// The certificates of a PEM file, of which there is at least one.
///
/// # Errors
/// [`pem::Error`] where the file cannot be read or has none.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let certificates = CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()?;
    match certificates.is_empty() {
        true => Err(pem::Error::NoItemsFound),
        false => Ok(certificates),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, pem::Error> {
    PrivateKeyDer::from_pem_file(path)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
