//! A certificate that signs itself, in files, gone when dropped.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

pub(crate) struct TestCertificate {
    directory: TempDir,
    trust: Trust,
}

/// What a client has to know of it.
#[derive(Clone)]
pub(crate) struct Trust {
    pub(crate) name: String,
    pub(crate) pem: String,
}

impl TestCertificate {
    /// One for loopback, as a client that verifies names wants it.
    pub(crate) fn for_loopback() -> Self {
        Self::new("127.0.0.1")
    }

    /// One for a name or an IP address.
    pub(crate) fn new(name: &str) -> Self {
        Self::write(name, tempfile::tempdir().unwrap())
    }

    /// Another one for the same name, with a key of its own, in the same files.
    pub(crate) fn renew(self) -> Self {
        Self::write(&self.trust.name, self.directory)
    }

    fn write(name: &str, directory: TempDir) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([name.to_owned()]).unwrap();
        let certificate = Self {
            directory,
            trust: Trust {
                name: name.to_owned(),
                pem: cert.pem(),
            },
        };
        fs::write(certificate.cert_path(), cert.pem()).unwrap();
        fs::write(certificate.key_path(), signing_key.serialize_pem()).unwrap();
        certificate
    }

    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    pub(crate) fn cert_path(&self) -> PathBuf {
        self.path().join("cert.pem")
    }

    pub(crate) fn key_path(&self) -> PathBuf {
        self.path().join("key.pem")
    }

    /// Where the files are.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}
