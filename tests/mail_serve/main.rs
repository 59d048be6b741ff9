//! The mailbox, with our own client and with what no client would say.

#[path = "../support/mod.rs"]
mod support;

mod capture;
mod faults;
mod hostile;
mod logins;
mod pages;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use support::{RunOutput, Server, connect, path_str, run};
use tempfile::TempDir;

/// A mailbox with what it writes to a directory of its own.
struct Mailbox {
    server: Server,
    directory: TempDir,
}

impl Mailbox {
    /// One with these flags.
    fn start(flags: &[&str]) -> Self {
        Self::within(tempfile::tempdir().expect("a temporary directory"), flags)
    }

    /// One with a certificate of its own.
    fn with_tls(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let certificate = format!("--tls-self-signed={}", path_str(&directory.path().join("ca.pem")));
        Self::within(directory, &[&[certificate.as_str()], flags].concat())
    }

    fn within(directory: TempDir, flags: &[&str]) -> Self {
        Self { server: Server::start(&[&["mail-serve", "--json"], flags].concat()), directory }
    }

    /// Its first address.
    fn address(&self) -> String {
        self.server.address().to_string()
    }

    /// A file of its directory.
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Sends a mail with our client; `security` is where and how.
    fn mail(&self, flags: &[&str]) -> RunOutput {
        let address = self.address();
        let ca = self.path("ca.pem");
        let security: &[&str] =
            if ca.exists() { &["--starttls", &address, "--ca", path_str(&ca)] } else { &["--plain", &address] };
        let usual = [("--to", "a@x.test"), ("--subject", "hi"), ("--text", "hello")];
        let unless_given = usual.iter().filter(|(flag, _)| !flags.contains(flag));
        let usual: Vec<&str> = unless_given.flat_map(|(flag, value)| [*flag, *value]).collect();
        run(&[&["mail", "--from", "me@x.test"], security, &usual, flags, &["--json"]].concat())
    }
}

/// A line-by-line talk with a mailbox.
struct Talk(BufReader<TcpStream>);

impl Talk {
    /// Connects and hears the banner.
    fn open(address: &str) -> Self {
        let mut talk = Self::begin(address);
        assert_eq!(talk.code(), "220");
        talk
    }

    /// Connects and hears nothing yet.
    fn begin(address: &str) -> Self {
        Self(BufReader::new(connect(address.parse().expect("an address"))))
    }

    /// Says octets.
    fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(octets.as_ref()).expect("said");
    }

    /// Hears one reply.
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

    /// The code of one reply; empty at the end.
    fn code(&mut self) -> String {
        self.reply().chars().take(3).collect()
    }

    /// Says a line and hears the code of its reply.
    fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n"));
        self.code()
    }

    /// Everything up to DATA.
    fn up_to_data(&mut self) {
        for (line, code) in
            [("EHLO t", "250"), ("MAIL FROM:<a@x.test>", "250"), ("RCPT TO:<b@x.test>", "250"), ("DATA", "354")]
        {
            assert_eq!(self.ask(line), code, "{line}");
        }
    }
}

/// A file that only its owner can read.
fn secret(directory: &Path, name: &str, content: &str) -> PathBuf {
    let path = directory.join(name);
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path).expect("created");
    file.write_all(content.as_bytes()).expect("written");
    path
}
