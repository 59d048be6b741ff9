//! Examples of the README and the man pages, run as written against servers of their own.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::support::{Server, demo_site, netlab, path_str};
use super::{read, root};

/// Servers that the examples address by their textbook ports, and a directory with the files that they read.
struct Lab {
    servers: Vec<(&'static str, Server)>,
    directory: tempfile::TempDir,
}

impl Lab {
    /// Starts the servers; mail-serve gets these flags.
    fn start(mail_flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| directory.path().join(name);
        let localhost = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        for (name, content) in [
            ("server.pem", localhost.cert.pem()),
            ("chain.pem", localhost.cert.pem()),
            ("key.pem", localhost.signing_key.serialize_pem()),
            ("letter.txt", "hello\n".to_owned()),
            ("letter.eml", "From: me@x.test\r\nTo: you@x.test\r\nSubject: hi\r\n\r\nhello\r\n".to_owned()),
        ] {
            fs::write(at(name), content).expect("written");
        }
        for shell in [".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions", "site"] {
            fs::create_dir_all(at(shell)).expect("created");
        }
        fs::write(at("site/index.html"), "page").expect("written");
        std::os::unix::fs::symlink(root().join("assets"), at("assets")).expect("linked");
        let site = demo_site();
        let web = ["serve-http", path_str(&site), "--log", "off"];
        let (chain, key) = (at("chain.pem"), at("key.pem"));
        let tls = [&web[..], &["--tls-cert", path_str(&chain), "--tls-key", path_str(&key)]].concat();
        let mut mail_serve = netlab(&["mail-serve", "-q", "--bind", "127.0.0.1:0"]);
        mail_serve.args(mail_flags).current_dir(directory.path());
        let servers = vec![
            ("localhost:8443", Server::start(&tls)),
            ("127.0.0.1:6789", Server::start(&web)),
            ("127.0.0.1:12000", Server::start(&["ping-serve", "-q", "--loss", "0"])),
            ("127.0.0.1:12001", Server::start(&["heartbeat", "watch", "-q"])),
            ("127.0.0.1:2525", Server::spawn(mail_serve)),
        ];
        Self { servers, directory }
    }

    /// Runs one line with `sh` and returns its exit code and stderr.
    fn run(&self, line: &str) -> (Option<i32>, String) {
        let line = self.servers.iter().fold(line.to_owned(), |line, (textbook, server)| {
            let host = textbook.split(':').next().unwrap_or_default();
            let port = server.address().port();
            // Textbooks write host and port as two words.
            let words = textbook.replace(':', " ");
            line.replace(textbook, &format!("{host}:{port}")).replace(&words, &format!("{host} {port}"))
        });
        let binaries = Path::new(env!("CARGO_BIN_EXE_netlab")).parent().expect("a directory");
        let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command.args(["-c", &line]).current_dir(self.directory.path());
        let output = command.env("HOME", self.directory.path()).env("PATH", path).output().expect("a shell");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

const SERVERS: [&str; 4] = ["netlab serve-http", "netlab ping-serve", "netlab heartbeat watch", "netlab mail-serve"];

fn is_server(line: &str) -> bool {
    SERVERS.iter().any(|server| line.starts_with(server)) && !line.contains("--plan")
}

/// Every console line of the README that starts with `netlab` and ends by itself is run. A comment
/// `# exit N` names its exit code.
#[test]
fn readme_examples_run() {
    let lab = Lab::start(&["--tls-self-signed=ca.pem", "--fault", "rcpt#1 = 451 4.7.1 greylisted"]);
    let mut count = 0;
    for block in read(&root().join("README.md")).split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        for line in block.lines() {
            let Some(line) = line.strip_prefix("$ ").filter(|line| line.starts_with("netlab ")) else { continue };
            let (line, code) =
                line.split_once("   # exit ").map_or((line, 0), |(line, code)| (line, code.parse().expect("a code")));
            if is_server(line) && !line.contains("--for") {
                continue;
            }
            let (exit, stderr) = lab.run(line);
            assert_eq!(exit, Some(code), "{line}: {stderr}");
            count += 1;
        }
    }
    assert!(count >= 5, "only {count} examples were found");
}

/// Examples of the EXAMPLES sections of all pages, as `man` shows them.
fn manual_examples() -> Vec<String> {
    let mut examples = Vec::new();
    for entry in fs::read_dir(root().join("man/in")).expect("readable") {
        let page = read(&entry.expect("readable").path());
        let section = page.split(".SH EXAMPLES").nth(1).and_then(|rest| rest.split("\n.SH ").next());
        for line in section.unwrap_or_default().lines().filter(|line| line.starts_with('.') && *line != ".TP") {
            let line = line.strip_prefix(".B netlab").unwrap_or_else(|| panic!("not an example: {line}"));
            let text = [("\\-", "-"), ("\\(aq", "'"), ("\\(dq", "\""), ("\\(ti", "~"), ("\\e", "\\")]
                .iter()
                .fold(format!("netlab{line}"), |line, (roff, text)| line.replace(roff, text));
            assert!(!text.contains('\\') || text.contains("\\r\\n"), "unknown escape in {text}");
            examples.push(text);
        }
    }
    examples
}

/// Replaces the value of a flag, or appends flag and value.
fn with_flag(line: &str, flag: &str, value: &str) -> String {
    match line.split_once(&format!(" {flag} ")) {
        Some((before, after)) => {
            let rest = after.split_once(' ').map_or("", |(_, rest)| rest);
            format!("{before} {flag} {value} {rest}").trim_end().to_owned()
        }
        None => format!("{line} {flag} {value}"),
    }
}

/// Shortens what would run until stopped, and moves servers to free ports.
fn adapted(line: &str) -> String {
    let line = line.rsplit(" & ").next().unwrap_or_default().trim_end_matches(" &");
    let end = line.find(" | ").or_else(|| line.find(" > ")).unwrap_or(line.len());
    let (line, rest) = line.split_at(end);
    let mut line = line.to_owned();
    if is_server(&line) {
        line = with_flag(&with_flag(&line, "--bind", "127.0.0.1:0"), "--for", "50ms");
        if line.contains("--http ") {
            line = with_flag(&line, "--http", "127.0.0.1:0");
        }
    } else if line.starts_with("netlab ping ") {
        line = line.replace("127.0.0.1 ", "127.0.0.1:12000 ").replace("-c 200", "-c 20");
        if line.ends_with("127.0.0.1") {
            line.push_str(":12000");
        }
        if !line.contains("-i ") {
            line = with_flag(&line, "-i", "10ms");
        }
    } else if line == "netlab heartbeat send 127.0.0.1:12001 -i 5s" {
        line = with_flag(&line, "-c", "1");
    } else if line.starts_with("netlab mail 127.0.0.1:2525 ") {
        // Port 2525 implies --plain; the port of the test does not.
        line += " --plain";
    }
    if line.contains("-c 1000") {
        line = with_flag(&line, "-c", "20");
    }
    line + rest
}

/// Exit code of an example: servers whose assertion nothing fulfils end with 1. Hosts of `example.org` are
/// replaced by a port where nothing listens.
fn expected_exit(line: &str) -> i32 {
    match () {
        () if is_server(line) && line.contains("--expect ") => 1,
        () if line == "netlab mail --starttls 127.0.0.1:9" => 2,
        () if line.contains("127.0.0.1:9") => 69,
        () => 0,
    }
}

#[test]
fn manual_examples_run() {
    let lab = Lab::start(&[]);
    let pass = lab.directory.path().join("pass");
    fs::write(&pass, "#!/bin/sh\necho secret\n").expect("written");
    let has_jq = Command::new("jq").arg("--version").output().is_ok();
    let examples = manual_examples();
    assert!(examples.len() >= 30, "only {} examples were found", examples.len());
    for example in examples {
        let mut line = adapted(&example);
        for host in ["smtp.example.org:587", "smtp.example.org:25", "smtp.example.org"] {
            line = line.replace(host, "127.0.0.1:9");
        }
        line = line.replace("pass show mail", &format!("sh {} show mail", path_str(&pass)));
        // The shell returns the exit code of the last command of a pipe.
        let netlab = line.split(" | ").next().unwrap_or_default();
        let (exit, stderr) = lab.run(netlab);
        assert_eq!(exit, Some(expected_exit(netlab)), "{example} (run as {netlab}): {stderr}");
        if netlab == line || !has_jq {
            continue;
        }
        let (exit, stderr) = lab.run(&line);
        assert_eq!(exit, Some(0), "{example} (run as {line}): {stderr}");
    }
}
