//! A certificate authority for one test.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

use crate::process::Trouble;

/// Issues certificates. Dropping it deletes its files.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: PathBuf,
    folder: TempDir,
}

/// A server's certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Authority {
    /// A new authority, which no client trusts yet.
    ///
    /// # Errors
    /// No key can be generated, or a file cannot be written.
    pub fn new() -> Result<Self, Trouble> {
        let mut params = CertificateParams::new(Vec::new()).map_err(refused)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "oidc-gate test authority");
        let key = KeyPair::generate().map_err(refused)?;
        let own = params.self_signed(&key).map_err(refused)?;
        let folder = TempDir::new()?;
        let certificate = folder.path().join("authority.pem");
        std::fs::write(&certificate, own.pem())?;
        Ok(Self { issuer: Issuer::new(params, key), certificate, folder })
    }

    /// Its own certificate as a PEM file, for clients that must trust it.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// A certificate for a server with these names and addresses.
    ///
    /// # Errors
    /// A name is invalid, or a file cannot be written.
    pub fn issue(&self, names: &[&str]) -> Result<Certificate, Trouble> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).map_err(refused)?;
        let key = KeyPair::generate().map_err(refused)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(refused)?;
        let name = crate::provider::random_text(8);
        let file = |suffix: &str| self.folder.path().join(format!("{name}.{suffix}"));
        let issued = Certificate { chain: file("pem"), key: file("key") };
        std::fs::write(&issued.chain, certificate.pem())?;
        std::fs::write(&issued.key, key.serialize_pem())?;
        Ok(issued)
    }
}

fn refused(error: rcgen::Error) -> Trouble {
    Trouble::new(format!("no certificate: {error}"))
}
