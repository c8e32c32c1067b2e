//! What is made of settings and files, and when two are the same.

use super::*;

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file");
    path
}

fn authority(name: &str) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate")
}

#[test]
fn what_is_wrong_with_the_files_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = authority("a.test");
    let ca = write(folder.path(), "ca.pem", &good.cert.pem());
    let text = write(folder.path(), "text.pem", "hello");
    let key = write(folder.path(), "key.pem", &authority("b.test").signing_key.serialize_pem());
    let message = |settings| Client::new(settings).expect_err("refused").to_string();
    let with_ca = |ca: &Path| Settings { ca: Some(ca.to_owned()), ..Settings::default() };
    let with_pair = |chain: &Path, key: &Path| Settings {
        certificate: Some(Certificate { chain: chain.to_owned(), key: key.to_owned() }),
        ..with_ca(&ca)
    };
    assert!(message(with_ca(&folder.path().join("none.pem"))).contains("none.pem cannot be read"));
    assert!(message(with_ca(&text)).contains("text.pem is not a PEM file of certificates: it holds none"));
    assert!(message(with_pair(&ca, &text)).contains("text.pem is not a PEM file with a private key"));
    assert!(message(with_pair(&ca, &key)).starts_with("TLS settings are refused"));
    assert_eq!(parse_name("a b").expect_err("no name").to_string(), "\"a b\" is no server name");
}

/// A client that trusts an authority of its own, and the file of that.
fn trusting(folder: &Path) -> (Settings, PathBuf) {
    let ca = write(folder, "ca.pem", &authority("a.test").cert.pem());
    (Settings { ca: Some(ca.clone()), ..Settings::default() }, ca)
}

#[test]
fn a_client_is_another_one_once_its_files_have_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (settings, ca) = trusting(folder.path());
    let client = || Client::new(settings.clone()).expect("a client");
    let first = client();
    assert_eq!(first, client());
    std::fs::write(ca, authority("a.test").cert.pem()).expect("written");
    assert_ne!(first, client());
}

#[test]
fn files_that_many_pools_name_are_read_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (settings, ca) = trusting(folder.path());
    let mut clients = Clients::default();
    let first = clients.of(&settings).expect("a client");
    std::fs::remove_file(ca).expect("removed");
    assert!(Arc::ptr_eq(&first, &clients.of(&settings).expect("the same client")));
}

#[test]
fn an_endpoint_proves_its_host_or_address_unless_a_name_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let client = Arc::new(Client::new(trusting(folder.path()).0).expect("a client"));
    let ip = Address::parse("192.0.2.1:443").expect("an address");
    let name = |naming, host: Option<&str>| {
        let pool = PoolTls::new(Arc::clone(&client), naming, &[], 8);
        EndpointTls::new(&pool, host, &ip).name().to_str().into_owned()
    };
    assert_eq!(name(Naming::Endpoint, Some("app.internal.")), "app.internal");
    assert_eq!(name(Naming::Endpoint, None), "192.0.2.1");
    let fixed = Naming::Fixed(parse_name("api.test").expect("a name"));
    assert_eq!(name(fixed, Some("app.internal")), "api.test");
}

#[test]
fn only_requests_offer_protocols() {
    let folder = tempfile::tempdir().expect("a folder");
    let client = Arc::new(Client::new(trusting(folder.path()).0).expect("a client"));
    let pool = PoolTls::new(client, Naming::Endpoint, &[b"http/1.1"], 8);
    let endpoint = EndpointTls::new(&pool, None, &Address::parse("192.0.2.1:443").expect("an address"));
    assert_eq!(endpoint.client(Work::Request).alpn_protocols, [b"http/1.1"]);
    assert!(endpoint.client(Work::Connection).alpn_protocols.is_empty());
    assert!(Arc::ptr_eq(endpoint.client(Work::Request), endpoint.client(Work::Request)));
}

#[test]
fn tls_that_stays_the_same_can_be_told_from_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let (settings, ca) = trusting(folder.path());
    let make =
        |naming| PoolTls::new(Arc::new(Client::new(settings.clone()).expect("a client")), naming, &[], 8);
    let first = make(Naming::Endpoint);
    assert!(first.is_same(&make(Naming::Endpoint)));
    assert!(!first.is_same(&make(Naming::Host)));
    assert_ne!(first.number(), make(Naming::Endpoint).number());
    std::fs::write(ca, authority("a.test").cert.pem()).expect("written");
    assert!(!first.is_same(&make(Naming::Endpoint)));
}
