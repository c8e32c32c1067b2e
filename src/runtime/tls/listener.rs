//! TLS of a listener, ready for handshakes: certificates by name, what is asked of clients, tickets. Made on the control
//! side from files; workers only read it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256, digest};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SignatureAlgorithm, SupportedProtocolVersion, version};

use super::files::{Reader, TlsError};
use super::provider::Order;
use super::tickets::{Ring, Tickets};
use crate::config::secrets;
use crate::config::tls::certificate::{Facts, common_name_of, subject_of};
use crate::config::tls::served::{self, ClientAuth, Version};
use crate::config::tls::staple::Staple;

/// TLS of a listener.
#[derive(Debug)]
pub struct ListenerTls {
    /// What stands in the files of its certificates, in the order of the configuration.
    pub certificates: Vec<Shown>,
    /// Whether endpoints are told of clients' certificates.
    pub client_headers: bool,
    written: served::ListenerTls,
    digest: u64,
    book: Arc<Book>,
    rules: Vec<Rule>,
}

/// A certificate as metrics and events know it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its file.
    pub path: PathBuf,
    /// What it says.
    pub facts: Facts,
}

/// What is asked of clients, as a number that tells one from another: by whom their certificate must be signed, and
/// whether they must have one. Nothing is asked where there is none.
pub type Demand = Option<u64>;

/// One way to shake hands: certificates that ask clients for the same share it.
#[derive(Debug)]
struct Rule {
    asked: Demand,
    /// Our order of ciphers.
    config: Arc<ServerConfig>,
    /// The same with ChaCha20 in front.
    chacha: Arc<ServerConfig>,
}

/// The certificates by name.
#[derive(Debug)]
struct Book {
    certificates: Vec<Entry>,
    /// By whole names.
    exact: HashMap<Box<str>, Box<[usize]>>,
    /// By what follows the star and its dot.
    wildcard: HashMap<Box<str>, Box<[usize]>>,
    /// For whoever asks for no name, or another.
    default: Box<[usize]>,
}

#[derive(Debug)]
struct Entry {
    key: Arc<CertifiedKey>,
    /// The same with its staple, and when that runs out.
    stapled: Option<(Arc<CertifiedKey>, Option<SystemTime>)>,
    rule: usize,
}

/// The certificate that a client has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its subject (RFC 4514).
    pub subject: String,
    /// The common name in it, as it stands there.
    pub common_name: Option<String>,
    /// The SHA-256 of all of it, in hexadecimal.
    pub sha256: String,
    /// Whether it is still valid: an earlier session may be resumed after the end of its certificate.
    pub is_current: bool,
}

impl ClientCertificate {
    /// What a certificate in DER says at `now`.
    #[must_use]
    pub fn of(der: &[u8], now: SystemTime) -> Self {
        let sha256 = digest(&SHA256, der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let is_current = Facts::of(der).is_ok_and(|facts| facts.begins <= now && now < facts.expires);
        Self { subject: subject_of(der), common_name: common_name_of(der), sha256, is_current }
    }
}

impl ListenerTls {
    /// Reads what a listener is to show and to ask for. Where nothing differs from `previous`, that one goes on.
    ///
    /// # Errors
    /// [`TlsError`] says which file is wrong.
    pub fn new(
        written: &served::ListenerTls,
        previous: Option<&Arc<Self>>,
        ring: &Arc<Ring>,
    ) -> Result<Arc<Self>, TlsError> {
        let mut reader = Reader::default();
        let [provider, chacha] = [Order::Aes, Order::ChaCha].map(Order::provider);
        let mut rules = Vec::new();
        let mut asked: Vec<(Option<&ClientAuth>, usize)> = Vec::new();
        let mut builder = Builder { written, provider: &provider, reader: &mut reader };
        let (mut entries, mut certificates) = (Vec::new(), Vec::new());
        for certificate in &written.certificates {
            let (mut entry, shown) = builder.entry(certificate)?;
            let client = certificate.client.as_ref();
            entry.rule = match asked.iter().find(|(known, _)| *known == client) {
                Some((_, rule)) => *rule,
                None => {
                    let rule = builder.asked(client)?;
                    asked.push((client, rules.len()));
                    rules.push(rule);
                    rules.len() - 1
                }
            };
            entries.push(entry);
            certificates.push(shown);
        }
        let secrets = written.ticket_keys.as_deref().map(|path| builder.secrets(path)).transpose()?;
        let digest = reader.digest();
        if let Some(previous) = previous.filter(|known| known.digest == digest && known.written == *written) {
            return Ok(Arc::clone(previous));
        }
        let book = Arc::new(Book::new(entries, &certificates));
        let rules: Result<Vec<Rule>, TlsError> = rules
            .into_iter()
            .map(|(asked, roots, required)| {
                let context = asked.map(u64::to_be_bytes);
                let context = context.as_ref().map_or(&[][..], |bytes| &bytes[..]);
                let tickets = Arc::new(match &secrets {
                    Some(secrets) => Tickets::given(secrets, context),
                    None => Tickets::own(Arc::clone(ring), context),
                });
                let client = roots.map(|roots| (roots, required));
                let by = |provider: &Arc<CryptoProvider>| {
                    let config = server_config(written, provider, client.as_ref())?;
                    Ok(complete(config, written, Arc::clone(&book), Arc::clone(&tickets)))
                };
                Ok(Rule { asked, config: by(&provider)?, chacha: by(&chacha)? })
            })
            .collect();
        let (client_headers, written) = (written.client_headers, written.clone());
        Ok(Arc::new(Self { certificates, client_headers, written, digest, book, rules: rules? }))
    }

    /// How to shake hands with a client that has said hello, and what that asks it for.
    #[must_use]
    pub fn choose(&self, hello: &ClientHello<'_>) -> (Arc<ServerConfig>, Demand) {
        let rule = self.rule(hello.server_name());
        let config = match Order::of(hello.cipher_suites()) {
            Order::Aes => &rule.config,
            Order::ChaCha => &rule.chacha,
        };
        (Arc::clone(config), rule.asked)
    }

    /// Whether a request for `host` must not be served over a connection that was asked for `asked`: the certificate of
    /// that name asks clients for something else, and a client could get around that by naming one and wanting the other.
    #[must_use]
    pub fn is_misdirected(&self, host: &[u8], asked: Demand) -> bool {
        if let [only] = self.rules.as_slice() {
            return only.asked.is_some() && only.asked != asked;
        }
        let name = std::str::from_utf8(host).ok().map(str::to_ascii_lowercase);
        let wanted = self.rule(name.as_deref()).asked;
        wanted.is_some() && wanted != asked
    }

    fn rule(&self, name: Option<&str>) -> &Rule {
        let entry = self.book.candidates(name).first().and_then(|&at| self.book.certificates.get(at));
        // A listener has a certificate, and a certificate has a rule.
        &self.rules[entry.map_or(0, |entry| entry.rule)]
    }
}

/// What a rule asks, with who must have signed it and whether it must be there.
type Wanted = (Demand, Option<Arc<RootCertStore>>, bool);

struct Builder<'a> {
    written: &'a served::ListenerTls,
    provider: &'a CryptoProvider,
    reader: &'a mut Reader,
}

impl Builder<'_> {
    fn entry(&mut self, certificate: &served::Certificate) -> Result<(Entry, Shown), TlsError> {
        let path = &certificate.identity.cert;
        let chain = self.reader.certificates(path)?;
        let key = self.reader.private_key(&certificate.identity.key)?;
        let facts = chain.first().map_or_else(|| Err("it holds none".to_owned()), |first| Facts::of(first));
        let facts = facts.map_err(|why| TlsError::content(path, "a certificate", why))?;
        let key = CertifiedKey::from_der(chain, key, self.provider)
            .map_err(|why| TlsError::content(&certificate.identity.key, "the key of its certificate", why))?;
        let stapled = match &certificate.ocsp {
            None => None,
            Some(path) => {
                let der = self.reader.bytes(path)?;
                let staple =
                    Staple::of(&der).map_err(|why| TlsError::content(path, "an OCSP answer", why))?;
                Some((Arc::new(CertifiedKey { ocsp: Some(der), ..key.clone() }), staple.next_update))
            }
        };
        let entry = Entry { key: Arc::new(key), stapled, rule: 0 };
        Ok((entry, Shown { path: path.clone(), facts }))
    }

    fn asked(&mut self, client: Option<&ClientAuth>) -> Result<Wanted, TlsError> {
        let Some(ClientAuth { ca, required }) = client else { return Ok((None, None, false)) };
        let mut roots = RootCertStore::empty();
        let mut digest = Context::new(&SHA256);
        digest.update(&[u8::from(*required)]);
        for certificate in self.reader.certificates(ca)? {
            digest.update(&certificate);
            roots.add(certificate).map_err(|why| TlsError::content(ca, "a file of authorities", why))?;
        }
        let digest = digest.finish();
        let asked = digest.as_ref().first_chunk::<8>().map(|first| u64::from_be_bytes(*first));
        Ok((asked, Some(Arc::new(roots)), *required))
    }

    fn secrets(&mut self, path: &Path) -> Result<Vec<Vec<u8>>, TlsError> {
        debug_assert_eq!(self.written.ticket_keys.as_deref(), Some(path));
        // Read for the digest; what it means is the same file's own reader's to say.
        self.reader.bytes(path)?;
        secrets::read(path).map_err(|why| TlsError::content(path, "a file of ticket keys", why))
    }
}

fn server_config(
    written: &served::ListenerTls,
    provider: &Arc<CryptoProvider>,
    client: Option<&(Arc<RootCertStore>, bool)>,
) -> Result<rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>, TlsError> {
    let versions: &[&SupportedProtocolVersion] = match written.min_version {
        Version::V12 => &[&version::TLS13, &version::TLS12],
        Version::V13 => &[&version::TLS13],
    };
    let refused = |error: rustls::Error| TlsError::Refused(error.to_string());
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(refused)?;
    let Some((roots, required)) = client else { return Ok(builder.with_no_client_auth()) };
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider));
    let verifier = if *required { verifier } else { verifier.allow_unauthenticated() };
    let verifier = verifier.build().map_err(|error| TlsError::Refused(error.to_string()))?;
    Ok(builder.with_client_cert_verifier(verifier))
}

fn complete(
    builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
    written: &served::ListenerTls,
    book: Arc<Book>,
    tickets: Arc<Tickets>,
) -> Arc<ServerConfig> {
    let mut config = builder.with_cert_resolver(book);
    config.ignore_client_order = true;
    config.alpn_protocols = written.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config.ticketer = tickets;
    // Sessions are kept by clients, in tickets: nothing to fill, nothing to share.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Arc::new(config)
}

impl Book {
    fn new(certificates: Vec<Entry>, shown: &[Shown]) -> Self {
        let (mut exact, mut wildcard): (HashMap<_, Vec<_>>, HashMap<_, Vec<_>>) = Default::default();
        for (at, one) in shown.iter().enumerate() {
            for name in &one.facts.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut wildcard, rest),
                    None => (&mut exact, name.as_str()),
                };
                map.entry(Box::<str>::from(name)).or_default().push(at);
            }
        }
        // Those that share a name with the first one are that certificate for clients of other abilities.
        let first = shown.first().map_or(&[][..], |one| &one.facts.names);
        let shares = |one: &Shown| one.facts.names.iter().any(|name| first.contains(name));
        let others = shown.iter().enumerate().skip(1).filter(|(_, one)| shares(one)).map(|(at, _)| at);
        let default: Vec<usize> = std::iter::once(0).chain(others).collect();
        let sorted = |mut all: Vec<usize>| {
            all.sort_by_key(|&at| certificates.get(at).is_some_and(Entry::is_dear));
            all.into_boxed_slice()
        };
        Self {
            exact: exact.into_iter().map(|(name, all)| (name, sorted(all))).collect(),
            wildcard: wildcard.into_iter().map(|(name, all)| (name, sorted(all))).collect(),
            default: sorted(default),
            certificates,
        }
    }

    /// The certificates for a name, those that cost least first; there is one at least.
    fn candidates(&self, name: Option<&str>) -> &[usize] {
        let Some(name) = name else { return &self.default };
        let name = name.strip_suffix('.').unwrap_or(name);
        let found = self.exact.get(name).or_else(|| self.wildcard.get(name.split_once('.')?.1));
        found.unwrap_or(&self.default)
    }
}

impl Entry {
    /// An RSA signature costs some 20 times an ECDSA one.
    fn is_dear(&self) -> bool {
        self.key.key.algorithm() == SignatureAlgorithm::RSA
    }

    /// The certificate with its staple, unless that has run out: clients refuse such.
    fn at(&self, now: SystemTime) -> &Arc<CertifiedKey> {
        match &self.stapled {
            Some((stapled, until)) if until.is_none_or(|until| now < until) => stapled,
            _ => &self.key,
        }
    }
}

impl ResolvesServerCert for Book {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.candidates(hello.server_name()).iter();
        let mut entries = candidates.filter_map(|&at| self.certificates.get(at));
        let first = entries.clone().next();
        // rustls has left out the schemes that the client's version or its cipher suites do not go with.
        let fits = |entry: &&Entry| entry.key.key.choose_scheme(hello.signature_schemes()).is_some();
        entries.find(fits).or(first).map(|entry| Arc::clone(entry.at(SystemTime::now())))
    }
}

/// Whose certificate this is, for whoever has the chain.
#[must_use]
pub fn client_certificate(chain: &[CertificateDer<'_>], now: SystemTime) -> Option<ClientCertificate> {
    chain.first().map(|own| ClientCertificate::of(own, now))
}
