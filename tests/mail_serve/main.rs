//! mail-serve, with our own client and with invalid input.

#[path = "../support/mod.rs"]
mod support;

mod capture;
mod faults;
mod hostile;
mod logins;
mod messages;
mod pages;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use support::{RunOutput, Server, connect, path_str, run};
use tempfile::TempDir;

/// A mail server with a temporary directory.
struct Mailbox {
    server: Server,
    directory: TempDir,
}

impl Mailbox {
    fn start(flags: &[&str]) -> Self {
        Self::within(tempfile::tempdir().expect("a temporary directory"), flags)
    }

    /// Starts a server with a generated certificate.
    fn with_tls(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let certificate = format!("--tls-self-signed={}", path_str(&directory.path().join("ca.pem")));
        Self::within(directory, &[&[certificate.as_str()], flags].concat())
    }

    fn within(directory: TempDir, flags: &[&str]) -> Self {
        Self { server: Server::start(&[&["mail-serve", "--json"], flags].concat()), directory }
    }

    fn address(&self) -> String {
        self.server.address().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Sends a mail with our client, with STARTTLS if the server has a certificate.
    fn mail(&self, flags: &[&str]) -> RunOutput {
        let address = self.address();
        let ca = self.path("ca.pem");
        let security: &[&str] =
            if ca.exists() { &["--starttls", &address, "--ca", path_str(&ca)] } else { &["--plain", &address] };
        let defaults = [("--to", "a@x.test"), ("--subject", "hi"), ("--text", "hello")];
        let missing = defaults.iter().filter(|(flag, _)| !flags.contains(flag));
        let defaults: Vec<&str> = missing.flat_map(|(flag, value)| [*flag, *value]).collect();
        run(&[&["mail", "--from", "me@x.test"], security, &defaults, flags, &["--json"]].concat())
    }
}

/// A client that sends commands line by line.
struct Client(BufReader<TcpStream>);

impl Client {
    /// Connects and reads the banner.
    fn open(address: &str) -> Self {
        let mut client = Self::begin(address);
        assert_eq!(client.code(), "220");
        client
    }

    /// Connects without reading the banner.
    fn begin(address: &str) -> Self {
        Self(BufReader::new(connect(address.parse().expect("an address"))))
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).expect("sent");
    }

    fn reply(&mut self) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("a reply in time");
            all += &line;
            if line.as_bytes().get(3) != Some(&b'-') {
                return all;
            }
        }
    }

    /// Reads a reply and returns its code; empty at the end of the connection.
    fn code(&mut self) -> String {
        self.reply().chars().take(3).collect()
    }

    /// Sends a command and returns the code of its reply.
    fn command(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n"));
        self.code()
    }

    /// Sends all commands up to DATA.
    fn up_to_data(&mut self) {
        for (line, code) in
            [("EHLO t", "250"), ("MAIL FROM:<a@x.test>", "250"), ("RCPT TO:<b@x.test>", "250"), ("DATA", "354")]
        {
            assert_eq!(self.command(line), code, "{line}");
        }
    }
}

/// Creates a file that only its owner can read.
fn secret(directory: &Path, name: &str, content: &str) -> PathBuf {
    let path = directory.join(name);
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path).expect("created");
    file.write_all(content.as_bytes()).expect("written");
    path
}
