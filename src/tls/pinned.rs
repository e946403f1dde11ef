//! A client that trusts one certificate and no authority. For a server on the same machine, whose
//! certificate seldom has the name of the loopback address.

use super::{TlsError, provider, read_certificates};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{path::Path, sync::Arc};

/// The certificate is the first of the file, and the server has to show that it holds its key. The
/// name and the dates in it are not looked at.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug, thiserror::Error)]
#[error("the server shows another certificate than TLS_CERT: after a renewal, send it SIGHUP")]
struct OtherCertificate;

/// What a client needs to trust the certificate of this file, whatever name it is for.
///
/// # Errors
/// [`TlsError`] where the file has none.
pub fn pinned_client(certificate: &Path) -> Result<ClientConfig, TlsError> {
    let chain = read_certificates(certificate).map_err(TlsError::Certificates)?;
    let first = chain.into_iter().next();
    let provider = provider();
    let pinned = Pinned {
        certificate: first.ok_or(TlsError::Certificate(Error::NoCertificatesPresented))?,
        provider: Arc::clone(&provider),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_no_client_auth();
    Ok(config)
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *end_entity == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        // Within `Error::InvalidCertificate` its text would not be shown.
        Err(Error::Other(OtherError(Arc::new(OtherCertificate))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
