//! Encrypted connections, as a URL asks for them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::SetupError;

/// The protocol's name, for servers that speak TLS at once ([PostgreSQL, 55.2.10](https://www.postgresql.org/docs/current/protocol-flow.html)).
const PROTOCOL: &[u8] = b"postgresql";

/// The checks of a server, and the authorities whose word counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tls {
    pub(super) check: Check,
    /// A file with the certificates of authorities, instead of the system's.
    pub(super) roots: Option<PathBuf>,
}

/// Says what a server has to prove: the same as to PostgreSQL's own client
/// ([32.19.1](https://www.postgresql.org/docs/current/libpq-ssl.html)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing: hosts that say `sslmode=require` have certificates that no system knows.
    Nothing,
    /// That an authority knows it.
    Authority,
    /// That, and its name.
    Name,
}

impl Tls {
    /// Makes what connects.
    ///
    /// # Errors
    ///
    /// If the certificates of authorities are needed and cannot be read.
    pub(super) fn connector(&self) -> Result<MakeRustlsConnect, SetupError> {
        let provider = Arc::new(ring::default_provider());
        let chain = match self.check {
            Check::Nothing => None,
            Check::Authority | Check::Name => {
                let roots = Arc::new(self.authorities()?);
                let chain =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
                Some(chain.build().map_err(SetupError::authorities)?)
            }
        };
        let verifier = Verifier {
            check: self.check,
            chain,
            provider: Arc::clone(&provider),
        };
        let config = ClientConfig::builder_with_provider(provider);
        let mut config = config
            .with_safe_default_protocol_versions()
            .map_err(SetupError::authorities)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(MakeRustlsConnect::new(config))
    }

    fn authorities(&self) -> Result<RootCertStore, SetupError> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = &self.roots {
            let why = |why: &dyn fmt::Display| {
                SetupError::authorities(format_args!("{}: {why}", file.display()))
            };
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| why(&error))? {
                let certificate = certificate.map_err(|error| why(&error))?;
                roots.add(certificate).map_err(|error| why(&error))?;
            }
            if roots.is_empty() {
                return Err(why(&"there is no certificate in it"));
            }
            return Ok(roots);
        }
        // Systems have certificates that are good for nothing among them.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(SetupError::authorities(
                "this system has none: install `ca-certificates`, or name a file by `sslrootcert`",
            ));
        }
        Ok(roots)
    }
}

/// Checks of a server's certificate what is asked, and in any case that the server has its key.
#[derive(Debug)]
struct Verifier {
    check: Check,
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // The name comes last: the rest was found good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.check == Check::Authority => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
