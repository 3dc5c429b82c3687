//! TLS by rustls, in the modes of libpq.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Checks of the database's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verification {
    /// The connection is not encrypted.
    Off,
    /// No check: the connection is encrypted, to any server.
    None,
    /// It must be issued by a trusted authority.
    Authority,
    /// It must be issued by a trusted authority, for this host.
    Full,
}

/// TLS to one address of the database.
#[derive(Debug, Clone)]
pub(crate) struct TlsOptions {
    pub(crate) verification: Verification,
    /// File of trusted certificates. Without it, those that the machine trusts.
    pub(crate) root_certificate: Option<PathBuf>,
    pub(crate) client: Option<ClientFiles>,
}

/// Files with which this side says who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientFiles {
    /// The certificate, and those between it and its authority.
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Prepares TLS. An error names the parameter of the URL that it is about.
pub(crate) fn connector(options: &TlsOptions) -> Result<Option<MakeRustlsConnect>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let root_certificate = options.root_certificate.as_deref();
    let builder = match options.verification {
        Verification::Off => return Ok(None),
        Verification::None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Lenient { provider, authority: None })),
        Verification::Authority => {
            let roots = Arc::new(roots(root_certificate)?);
            let authority = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
            let authority = Some(authority.map_err(|error| format!("sslrootcert: {error}"))?);
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Lenient { provider, authority }))
        }
        Verification::Full => builder.with_root_certificates(roots(root_certificate)?),
    };
    let config = match &options.client {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let (certificates, key) =
                (certificates("sslcert", &files.certificate)?, private_key(&files.key)?);
            let config = builder.with_client_auth_cert(certificates, key);
            config.map_err(|error| format!("sslcert and sslkey do not fit each other: {error}"))?
        }
    };
    Ok(Some(MakeRustlsConnect::new(config)))
}

/// Reads the certificates of a file, which a parameter of the URL names.
fn certificates(parameter: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let place = file.display();
    let cannot = |error| format!("{parameter}: {place} cannot be read: {error}");
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).map_err(cannot)?.collect();
    let certificates = certificates.map_err(cannot)?;
    if certificates.is_empty() {
        return Err(format!("{parameter}: {place} has no certificate (PEM)"));
    }
    Ok(certificates)
}

/// Reads the private key, which nobody else may read.
fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let place = file.display();
    let cannot = |error: &dyn std::fmt::Display| format!("sslkey: {place} cannot be read: {error}");
    // The opened file is checked, so that no other one is read.
    let mut opened = std::fs::File::open(file).map_err(|error| cannot(&error))?;
    check_private(&opened.metadata().map_err(|error| cannot(&error))?)
        .map_err(|reason| format!("sslkey: {place} {reason}"))?;
    match PrivateKeyDer::from_pem_reader(&mut opened) {
        Err(rustls::pki_types::pem::Error::NoItemsFound) => {
            Err(format!("sslkey: {place} has no private key (PEM) without a password"))
        }
        other => other.map_err(|error| cannot(&error)),
    }
}

/// Refuses what libpq refuses: a key that others may read, unless it is one of root that a group may read.
#[cfg(unix)]
fn check_private(key: &std::fs::Metadata) -> Result<(), &'static str> {
    use std::os::unix::fs::MetadataExt;
    if !key.is_file() {
        return Err("is not a regular file");
    }
    let refused = if key.uid() == 0 { 0o037 } else { 0o077 };
    if key.mode() & refused != 0 {
        return Err("can be read by others; its mode must be 0600 or less, or 0640 or less if root owns it");
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_key: &std::fs::Metadata) -> Result<(), &'static str> {
    Ok(())
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match file {
        Some(file) => {
            for certificate in certificates("sslrootcert", file)? {
                let added = roots.add(certificate);
                added.map_err(|error| format!("sslrootcert: {}: {error}", file.display()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("this machine trusts no certificate; sslrootcert can name a file of them".to_owned());
    }
    Ok(roots)
}

/// Accepts any name, and any certificate where no authority is asked for.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    authority: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        // The chain is checked before the name, so this error means that the chain is right.
        match authority.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
