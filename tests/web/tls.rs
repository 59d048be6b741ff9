//! `serve-http` and `get` over TLS, with certificates created for each test.

use std::fs;
use std::path::PathBuf;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData as _, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;

use crate::support::{Server, demo_site, netlab, path_str, run, send_and_read, site};

/// Certificate files of one test.
struct Files {
    _directory: TempDir,
    chain: PathBuf,
    key: PathBuf,
    ca: PathBuf,
}

impl Files {
    fn new(certificate: &str, key: &KeyPair, ca: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = |name: &str, content: &str| {
            let path = directory.path().join(name);
            fs::write(&path, content).expect("written");
            path
        };
        let (chain, key, ca) =
            (file("chain.pem", certificate), file("key.pem", &key.serialize_pem()), file("ca.pem", ca));
        Self { _directory: directory, chain, key, ca }
    }

    fn serve(&self, flags: &[&str]) -> Server {
        let site = demo_site();
        let tls =
            ["serve-http", path_str(&site), "--tls-cert", path_str(&self.chain), "--tls-key", path_str(&self.key)];
        Server::start(&[&tls, flags].concat())
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, format!("netlab test {name}"));
    params
}

/// Creates a certificate for `name`, signed by a new CA.
fn issued(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Files {
    let mut authority = params("authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("signed");
    let key = KeyPair::generate().expect("a key");
    let mut params = params(name);
    change(&mut params);
    let certificate = params.signed_by(&key, &authority).expect("signed");
    Files::new(&certificate.pem(), &key, &authority.pem())
}

/// Creates a self-signed certificate; `is_ca` as created by `openssl req -x509`.
fn self_signed(name: &str, is_ca: bool, change: impl FnOnce(&mut CertificateParams)) -> Files {
    let key = KeyPair::generate().expect("a key");
    let mut params = params(name);
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    change(&mut params);
    let certificate = params.self_signed(&key).expect("signed");
    Files::new(&certificate.pem(), &key, &certificate.pem())
}

fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
}

#[test]
fn plain_http_on_the_tls_port_gets_a_readable_400() {
    let files = issued("localhost", |_| {});
    let server = files.serve(&["--json"]);
    let response = send_and_read(server.address(), b"GET /style.css HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let text = String::from_utf8_lossy(&response);
    assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("https://"), "{text}");
    let binary = send_and_read(server.address(), b"\0\0\0\0\0\0");
    assert!(binary.starts_with(b"\x15\x03"), "an alert: {binary:?}");
    let ran = server.stop();
    let events = ran.events();
    assert_eq!((&events[1]["target"], &events[1]["status"]), (&"/style.css".into(), &400.into()));
}

#[test]
fn a_client_of_another_protocol_is_rejected() {
    let files = issued("localhost", |_| {});
    let server = files.serve(&[]);
    for (protocols, is_accepted) in [(&["smtp"][..], false), (&["h2", "http/1.1"], true), (&[], true)] {
        let mut roots = rustls::RootCertStore::empty();
        let ca = fs::read(&files.ca).expect("the CA");
        roots.add(CertificateDer::from_pem_slice(&ca).expect("a certificate")).expect("added");
        let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = "localhost".try_into().expect("a name");
        let mut client = rustls::ClientConnection::new(std::sync::Arc::new(config), name).expect("a client");
        let mut socket = std::net::TcpStream::connect(server.address()).expect("connected");
        let result = client.complete_io(&mut socket).and_then(|_| client.complete_io(&mut socket));
        assert_eq!(result.is_ok(), is_accepted, "{protocols:?}: {result:?}");
    }
}

#[test]
fn a_page_is_fetched_over_tls_from_a_trusted_server() {
    let files = issued("127.0.0.1", |_| {});
    let server = files.serve(&[]);
    assert!(server.addresses[0].starts_with("https://"));
    let page = fs::read_to_string(demo_site().join("HelloWorld.html")).expect("the demo site");
    let ran = run(&["get", "--ca", path_str(&files.ca), &server.url("/HelloWorld.html")]);
    assert_eq!((ran.code, ran.stdout), (0, page), "{}", ran.stderr);
    let image = fs::read(demo_site().join("exchange.png")).expect("the demo site");
    let output = netlab(&["get", "--ca", path_str(&files.ca), &server.url("/exchange.png")]).output().expect("it runs");
    assert_eq!(output.stdout, image);
}

#[test]
fn a_large_file_is_complete_over_tls() {
    let files = issued("127.0.0.1", |_| {});
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let directory = site(&[("large", &content)]);
    let server = Server::start(&[
        "serve-http",
        path_str(directory.path()),
        "--tls-cert",
        path_str(&files.chain),
        "--tls-key",
        path_str(&files.key),
    ]);
    let output = netlab(&["get", "--ca", path_str(&files.ca), &server.url("/large")]).output().expect("it runs");
    assert!(output.stdout == content, "received {} bytes", output.stdout.len());
}

#[test]
fn the_probe_measures_the_handshake_and_reports_the_version() {
    let files = issued("127.0.0.1", |_| {});
    let server = files.serve(&[]);
    let ran = run(&["get", "--json", "--ca", path_str(&files.ca), &server.url("/style.css")]);
    let response = &ran.events()[0];
    assert_eq!(response["tls"], "1.3");
    assert!(response["phases"]["tls_ns"].as_u64().is_some_and(|nanos| nanos > 0), "{response}");
    let traced = run(&["get", "--trace", "--ca", path_str(&files.ca), &server.url("/style.css")]);
    assert!(
        traced.stderr.contains("~> GET /style.css") && traced.stderr.contains("<~ HTTP/1.1 200 OK"),
        "{}",
        traced.stderr
    );
}

#[test]
fn each_certificate_fault_is_code_80_with_its_own_message() {
    let cases = [
        (issued("127.0.0.1", |_| {}), "untrusted CA", false),
        (self_signed("127.0.0.1", false, |_| {}), "self-signed", false),
        (self_signed("127.0.0.1", true, |_| {}), "self-signed", false),
        (issued("other.example", |_| {}), "another name", true),
        (issued("127.0.0.1", expired), "expired", true),
        (issued("127.0.0.1", |params| params.not_before = date_time_ymd(2999, 1, 1)), "not valid yet", true),
        (self_signed("127.0.0.1", true, expired), "expired", true),
        (self_signed("other.example", true, |_| {}), "another name", true),
    ];
    for (files, word, trusted) in &cases {
        let server = files.serve(&[]);
        let url = server.url("/style.css");
        let ca = ["--ca", path_str(&files.ca)];
        let ran = run(&[&["get"][..], if *trusted { &ca[..] } else { &[] }, &[&url]].concat());
        assert_eq!(ran.code, 80, "{word}: {}", ran.stderr);
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
        assert_eq!(run(&["get", "--insecure", &url]).code, 0, "{word}");
    }
}

#[test]
fn a_self_signed_certificate_is_trusted_with_ca() {
    for is_ca in [true, false] {
        let files = self_signed("127.0.0.1", is_ca, |_| {});
        let server = files.serve(&[]);
        let ran = run(&["get", "--ca", path_str(&files.ca), &server.url("/style.css")]);
        assert_eq!(ran.code, 0, "marked as a CA: {is_ca}: {}", ran.stderr);
    }
}

#[test]
fn a_pin_replaces_the_verification_of_the_chain() {
    // Expired, self-signed and for another name: the pin accepts it, and no other certificate.
    let key = KeyPair::generate().expect("a key");
    let mut params = params("other.example");
    expired(&mut params);
    let certificate = params.self_signed(&key).expect("signed");
    let server = Files::new(&certificate.pem(), &key, &certificate.pem()).serve(&[]);
    let get = |pin: &str| run(&["get", "--pin", pin, &server.url("/style.css")]);
    let fingerprint = |der: &[u8]| {
        digest::digest(&digest::SHA256, der)
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .concat()
    };
    let of_key = BASE64_STANDARD.encode(digest::digest(&digest::SHA256, &key.subject_public_key_info()).as_ref());
    for good in [fingerprint(certificate.der()), format!("sha256//{of_key}")] {
        let ran = get(&good);
        assert_eq!(ran.code, 0, "{good}: {}", ran.stderr);
    }
    let ran = get(&fingerprint(b"another"));
    assert_eq!(ran.code, 80, "{}", ran.stderr);
    assert!(ran.stderr.contains(&fingerprint(certificate.der())), "{}", ran.stderr);
    assert_eq!(get("sha256//short").code, 2);
}

#[test]
fn ca_does_not_accept_another_server_certificate() {
    // Trusted is the other certificate, which has the same name.
    let files = self_signed("127.0.0.1", true, |_| {});
    let other = self_signed("127.0.0.1", true, |_| {});
    let server = files.serve(&[]);
    assert_eq!(run(&["get", "--ca", path_str(&other.ca), &server.url("/style.css")]).code, 80);
}

#[test]
fn clear_text_on_a_tls_port_and_tls_on_a_clear_text_port_are_reported() {
    let files = issued("127.0.0.1", |_| {});
    let clear = Server::start(&["serve-http", path_str(&demo_site()), "--json"]);
    let ran = run(&["get", "--ca", path_str(&files.ca), &clear.url("/").replace("http:", "https:")]);
    assert!(matches!(ran.code, 75 | 76), "{} {}", ran.code, ran.stderr);
    let logged = clear.stop();
    assert!(logged.stdout.contains("looks like TLS"), "{}", logged.stdout);
    let tls = files.serve(&["--json"]);
    let ran = run(&["get", &tls.url("/").replace("https:", "http:")]);
    assert!(ran.code == 1 && ran.stderr.contains("400 Bad Request"), "{} {}", ran.code, ran.stderr);
}

#[test]
fn a_failed_handshake_is_reported_and_counted() {
    let files = issued("127.0.0.1", |_| {});
    let server = files.serve(&["--json"]);
    assert_eq!(run(&["get", &server.url("/")]).code, 80, "the CA is unknown");
    send_and_read(server.address(), b"\0\0\0\0\0\0");
    let ran = server.stop();
    let why: Vec<String> =
        ran.events().iter().filter(|event| event["type"] == "failed").map(|event| event["why"].to_string()).collect();
    assert_eq!((why.len(), &ran.summary()["failed"]), (2, &2.into()), "{why:?}");
}

#[test]
fn an_unusable_trust_store_is_code_78() {
    let directory = site(&[("empty", b""), ("junk", b"-----BEGIN CERTIFICATE-----\nx\n")]);
    for (name, code) in [("empty", 78), ("junk", 78), ("none", 66)] {
        let ca = directory.path().join(name);
        assert_eq!(run(&["get", "--ca", path_str(&ca), "https://127.0.0.1:1/"]).code, code, "{name}");
    }
    let mut command = netlab(&["get", "https://127.0.0.1:1/"]);
    command.env("SSL_CERT_FILE", directory.path().join("empty"));
    let ran = crate::support::run_command(command);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    assert!(ran.stderr.contains("--ca FILE"), "{}", ran.stderr);
}

#[test]
fn a_close_without_close_notify_is_accepted_only_with_a_length() {
    let files = issued("127.0.0.1", |_| {});
    let chain = rustls::pki_types::pem::PemObject::pem_file_iter(&files.chain)
        .expect("readable")
        .collect::<Result<Vec<_>, _>>()
        .expect("PEM");
    let key = rustls::pki_types::pem::PemObject::from_pem_file(&files.key).expect("PEM");
    let config = std::sync::Arc::new(
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("they match"),
    );
    for (response, code) in
        [("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0), ("HTTP/1.1 200 OK\r\n\r\nhello", 82)]
    {
        let config = std::sync::Arc::clone(&config);
        let peer = crate::support::ScriptedPeer::start(vec![Box::new(move |mut stream| {
            let mut session = rustls::ServerConnection::new(config).expect("a session");
            let mut tls = rustls::Stream::new(&mut session, &mut stream);
            let mut head = [0; 1024];
            std::io::Read::read(&mut tls, &mut head).expect("a request");
            std::io::Write::write_all(&mut tls, response.as_bytes()).expect("sent");
            // Dropped without close_notify, as in a truncation attack.
        })]);
        let ran = run(&["get", "--ca", path_str(&files.ca), &peer.url("/").replace("http:", "https:")]);
        assert_eq!(ran.code, code, "{response:?}: {}", ran.stderr);
    }
}

#[test]
fn a_generated_certificate_is_accepted_by_its_ca_and_by_its_pin() {
    let directory = site(&[("a", b"hello")]);
    let ca = directory.path().join("ca.pem");
    let generated = format!("--tls-self-signed={}", path_str(&ca));
    let server = Server::start(&["serve-http", path_str(directory.path()), &generated, "--json"]);
    let url = server.url("/a");
    assert!(url.starts_with("https://"), "{url}");
    assert_eq!(run(&["get", &url, "--ca", path_str(&ca)]).stdout, "hello");
    assert_eq!(run(&["get", &url]).code, 80);
    let listening = server.stop().events().remove(0);
    let pin = listening["certificate_sha256"].as_str().expect("a digest").to_owned();
    let server = Server::start(&["serve-http", path_str(directory.path()), "--tls-self-signed"]);
    assert_eq!(run(&["get", &server.url("/a"), "--pin", &pin]).code, 80, "each start has a new certificate");
}
