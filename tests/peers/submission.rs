//! Foreign mail servers against `mail`, and foreign mail clients against `mail-serve`.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{KillOnDrop, RunOutput, Server, path_str, run, run_command};
use crate::with;

/// Trials of the mail pair.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        with("postfix_relays_mails_with_mixed_recipients_chunking_and_dsn", &["postfix", "root"], postfix),
        with("mail_logs_in_to_dovecot_over_tls_by_every_mechanism", &["dovecot", "setpriv", "root"], dovecot),
        with("smtp_source_and_smtp_sink_exchange_mails_with_netlab", &["smtp-source", "smtp-sink"], source_and_sink),
        with("curl_delivers_to_mail_serve", &["curl"], curl),
        with("msmtp_delivers_to_mail_serve", &["msmtp"], msmtp),
        with("swaks_delivers_to_mail_serve", &["swaks"], swaks),
        with("a_browser_runs_and_loads_nothing_of_a_mail", &["chromium"], browser),
    ]
}

/// Picks a free port for servers that cannot pick one themselves.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// Waits until the server listens on the port or has ended.
fn wait_for(port: u16, server: &mut KillOnDrop) {
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(server.0.try_wait().expect("a status").is_none(), "the server ended before it listened");
        std::thread::yield_now();
    }
}

fn secret(directory: &Path, name: &str, content: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, content).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
    path_str(&path).to_owned()
}

fn outcomes(ran: &RunOutput) -> Vec<String> {
    let summary = ran.summary();
    let recipients = summary["recipients"].as_array().expect("a list");
    recipients.iter().map(|to| to["outcome"].as_str().expect("an outcome").to_owned()).collect()
}

fn postfix() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mails = tempfile::tempdir().expect("a temporary directory");
    // Three mixed messages, one more, and fifty; Postfix relays them back to our mail-serve.
    let mailbox =
        Server::start(&["mail-serve", "--json", "--save", path_str(mails.path()), "--count", "54", "--for", "60s"]);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("changed");
    let at = |name: &str| path_str(&directory.path().join(name)).to_owned();
    let port = free_port();
    for name in ["conf", "spool", "data"] {
        fs::create_dir(at(name)).expect("made");
    }
    let chown = Command::new("chown").args(["postfix", &at("data")]).status().expect("it runs");
    assert!(chown.success());
    let relay = mailbox.address().port().to_string();
    let main = include_str!("postfix_main.cf").replace("@DIR@", path_str(directory.path())).replace("@RELAY@", &relay);
    fs::write(at("conf/main.cf"), main).expect("written");
    fs::write(at("conf/master.cf"), include_str!("postfix_master.cf").replace("@PORT@", &port.to_string()))
        .expect("written");
    let control = |word: &str| {
        let mut command = Command::new("postfix");
        command.args(["-c", &at("conf"), word]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut server = KillOnDrop(control("start-fg").spawn().expect("it runs"));
    wait_for(port, &mut server);
    let target = format!("127.0.0.1:{port}");
    let send = |flags: &[&str]| {
        let usual = ["mail", &target, "--plain", "--from", "me@x.test", "--text", "a\n.\nb\n", "--json"];
        run(&[&usual[..], flags].concat())
    };
    let mixed = ["--to", "a@x.test", "--to", "no@x.test", "--to", "later@x.test"];
    for extra in [&[][..], &["--chunking"], &["--notify", "success,failure", "--ret", "hdrs", "--envid", "a+b"]] {
        let ran = send(&[&mixed[..], extra].concat());
        assert_eq!((ran.code, outcomes(&ran)), (75, ["accepted", "rejected", "deferred"].map(str::to_owned).to_vec()));
    }
    assert_eq!(send(&["--to", "no@x.test"]).code, 69);
    assert_eq!(send(&["--to", "a@x.test", "--to", "no@x.test"]).code, 67);
    let ran = send(&["--to", "a@x.test", "-c", "50", "--concurrency", "2", "--reuse"]);
    assert_eq!((ran.code, &ran.summary()["accepted"]), (0, &50.into()), "{}", ran.stderr);
    let events = mailbox.wait().events();
    let stopped = control("stop").status().expect("it runs");
    assert!(stopped.success());
    let _ = server.0.wait();
    let mails: Vec<&Value> = events.iter().filter(|event| event["type"] == "message").collect();
    assert_eq!(mails.len(), 54, "Postfix relays every mail that it accepted");
    mails.iter().for_each(|mail| assert_eq!(body(mail), "a\r\n.\r\nb\r\n", "{mail}"));
    assert!(mails.iter().all(|mail| mail["from"] == "me@x.test" && mail["recipients"][0]["address"] == "a@x.test"));
    let notified: Vec<_> = mails.iter().filter(|mail| mail["envid"] == "a+2Bb").collect();
    assert_eq!(notified.len(), 1);
    let (mail, recipient) = (notified[0], &notified[0]["recipients"][0]);
    assert_eq!((&mail["ret"], &recipient["orcpt"]), (&"HDRS".into(), &"rfc822;a@x.test".into()));
    assert!(
        recipient["notify"].as_str().is_some_and(|notify| notify.contains("SUCCESS") && notify.contains("FAILURE"))
    );
}

/// Body of a saved message.
fn body(mail: &Value) -> String {
    let saved = fs::read_to_string(mail["file"].as_str().expect("a file")).expect("saved");
    saved.split_once("\r\n\r\n").expect("headers").1.to_owned()
}

fn dovecot() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mails = tempfile::tempdir().expect("a temporary directory");
    let mailbox = Server::start(&["mail-serve", "--json", "--save", path_str(mails.path()), "--expect", "messages=8"]);
    let at = |name: &str| path_str(&directory.path().join(name)).to_owned();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("made");
    fs::write(at("c.pem"), made.cert.pem()).expect("written");
    fs::write(at("k.pem"), made.signing_key.serialize_pem()).expect("written");
    let (starttls, tls) = (free_port(), free_port());
    let settings = include_str!("dovecot.conf")
        .replace("@DIR@", path_str(directory.path()))
        .replace("@RELAY@", &mailbox.address().port().to_string())
        .replace("@STARTTLS@", &starttls.to_string())
        .replace("@TLS@", &tls.to_string());
    fs::write(at("d.conf"), settings).expect("written");
    let chown = Command::new("chown").args(["-R", "65534:65534", path_str(directory.path())]).status();
    let chown = chown.expect("it runs");
    assert!(chown.success());
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "dovecot", "-c", &at("d.conf"), "-F"]);
    let mut server = KillOnDrop(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it runs"));
    wait_for(starttls, &mut server);
    wait_for(tls, &mut server);
    let keys = tempfile::tempdir().expect("a temporary directory");
    let (right, wrong) = (secret(keys.path(), "right", "sesame"), secret(keys.path(), "wrong", "sesam"));
    let send = |flag: &str, port: u16, password: &str, extra: &[&str]| {
        let server = format!("localhost:{port}");
        let ca = at("c.pem");
        let login = ["mail", flag, &server, "--ca", &ca, "--user", "tim", "--password-file", password];
        let mail = ["--from", "me@x.test", "--to", "a@x.test", "--text", "a\n.b\n", "--json"];
        run(&[&login[..], &mail, extra].concat())
    };
    for (flag, port) in [("--starttls", starttls), ("--tls", tls)] {
        for mechanism in ["PLAIN", "LOGIN", "SCRAM-SHA-256"] {
            let ran = send(flag, port, &right, &["--auth", mechanism]);
            assert_eq!((ran.code, &ran.summary()["auth"]), (0, &mechanism.into()), "{}", ran.stderr);
        }
        assert_eq!(send(flag, port, &right, &["--chunking"]).summary()["auth"], "SCRAM-SHA-256");
    }
    assert_eq!(send("--tls", tls, &wrong, &[]).code, 77);
    let untrusted = run(&["mail", "--tls", &format!("127.0.0.1:{tls}"), "--info"]);
    assert_eq!(untrusted.code, 80, "{}", untrusted.stderr);
    drop(server);
    // The relayed messages arrived unchanged, including lines with dots.
    let ran = mailbox.stop();
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let events = ran.events();
    let mails = events.iter().filter(|event| event["type"] == "message");
    mails.for_each(|mail| assert_eq!(body(mail), "a\r\n.b\r\n", "{mail}"));
}

fn source_and_sink() {
    let mailbox = Server::start(&["mail-serve", "--json", "--count", "200", "--expect", "messages=200 failed=0"]);
    let arguments = ["-m", "200", "-s", "8", "-l", "2000", "-f", "me@x.test", "-t", "you@x.test"];
    let mut source = Command::new("smtp-source");
    let ran = succeeds_quietly(source.args(arguments).arg(mailbox.address().to_string()));
    assert!(ran, "smtp-source succeeds");
    assert_eq!(mailbox.wait().code, 0);
    let port = free_port();
    let user = String::from_utf8(Command::new("id").arg("-un").output().expect("it runs").stdout).expect("text");
    let mut sink = Command::new("smtp-sink");
    sink.args(["-u", user.trim(), &format!("127.0.0.1:{port}"), "16"]).stdin(Stdio::null());
    let mut sink = KillOnDrop(sink.spawn().expect("it runs"));
    wait_for(port, &mut sink);
    let target = format!("127.0.0.1:{port}");
    let usual = ["mail", &target, "--plain", "--from", "me@x.test", "--to", "a@x.test", "--text", "x", "--json"];
    let ran = run(&[&usual[..], &["-c", "100", "--concurrency", "4"]].concat());
    assert_eq!((ran.code, &ran.summary()["accepted"]), (0, &100.into()), "{}", ran.stderr);
}

fn succeeds_quietly(command: &mut Command) -> bool {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    output.status.success() && output.stderr.is_empty()
}

/// mail-serve with TLS and a login, for a foreign client.
struct MailServe {
    server: Server,
    directory: TempDir,
}

impl MailServe {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let users = secret(directory.path(), "users", "tim:sesame\n");
        let certificate = format!("--tls-self-signed={}", path_str(&directory.path().join("ca.pem")));
        let mails = path_str(&directory.path().join("mails")).to_owned();
        let flags = ["mail-serve", "--json", &certificate, "--auth-file", &users, "--save", &mails];
        let server = Server::start(&[&flags[..], &["--tls-bind", "127.0.0.1:0"]].concat());
        Self { server, directory }
    }

    fn path(&self, name: &str) -> String {
        path_str(&self.directory.path().join(name)).to_owned()
    }

    /// Port with STARTTLS, or the port with TLS.
    fn port(&self, tls: bool) -> String {
        let address = &self.server.addresses[usize::from(tls)];
        address.rsplit(':').next().expect("a port").to_owned()
    }

    /// Stops the server and returns the received messages.
    fn mails(self) -> Vec<Value> {
        let ran = self.server.stop();
        let mails: Vec<Value> = ran.events().into_iter().filter(|event| event["type"] == "message").collect();
        for mail in &mails {
            assert_eq!((&mail["tls"], &mail["auth"]), (&"1.3".into(), &"tim".into()), "{mail}");
            let saved = fs::read_to_string(mail["file"].as_str().expect("a file")).expect("saved");
            assert!(saved.contains("\r\n.dot\r\n") && !saved.contains("..dot"), "{saved}");
        }
        mails
    }
}

fn curl() {
    let server = MailServe::start();
    let mail = secret(server.directory.path(), "mail", "Subject: from curl\r\n\r\n.dot\r\nend\r\n");
    for tls in [false, true] {
        let scheme = if tls { "smtps" } else { "smtp" };
        let url = format!("{scheme}://127.0.0.1:{}", server.port(tls));
        let mut command = Command::new("curl");
        command.args(["-sS", "--noproxy", "*", "--ssl-reqd", "--cacert", &server.path("ca.pem"), "--url", &url]);
        command.args(["--user", "tim:sesame", "--mail-from", "me@x.test", "--mail-rcpt", "a@x.test"]);
        let ran = run_command({
            command.args(["--mail-rcpt", "b@x.test", "--upload-file", &mail]);
            command
        });
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    let mails = server.mails();
    assert_eq!((mails.len(), &mails[0]["subject"]), (2, &"from curl".into()));
    assert_eq!(mails[0]["recipients"].as_array().map(Vec::len), Some(2));
}

fn msmtp() {
    let server = MailServe::start();
    let mail = secret(server.directory.path(), "mail", "Subject: from msmtp\n\n.dot\nend\n");
    for mechanism in ["plain", "login", "scram-sha-256"] {
        let mut command = Command::new("msmtp");
        command.args(["-C", "/dev/null", "--host=127.0.0.1", &format!("--port={}", server.port(false)), "--tls=on"]);
        command.args([&format!("--tls-trust-file={}", server.path("ca.pem")), &format!("--auth={mechanism}")]);
        command.args(["--user=tim", "--passwordeval=echo sesame", "-f", "me@x.test", "a@x.test"]);
        command.stdin(fs::File::open(&mail).expect("there"));
        let ran = run_command(command);
        assert_eq!(ran.code, 0, "{mechanism}: {}", ran.stderr);
    }
    let mechanisms: Vec<Value> = server.mails().iter().map(|mail| mail["auth_mechanism"].clone()).collect();
    assert_eq!(mechanisms, ["PLAIN", "LOGIN", "SCRAM-SHA-256"]);
}

fn swaks() {
    let server = MailServe::start();
    for (tls, mechanism) in [(false, "PLAIN"), (true, "LOGIN")] {
        let mut command = Command::new("swaks");
        command.args(["--server", "127.0.0.1", "--port", &server.port(tls), if tls { "-tlsc" } else { "-tls" }]);
        command.args([
            "--tls-verify",
            "--tls-ca-path",
            &server.path("ca.pem"),
            "-a",
            mechanism,
            "-au",
            "tim",
            "-ap",
            "sesame",
        ]);
        command.args(["-f", "me@x.test", "-t", "a@x.test", "--body", "x\\n.dot\\n", "--hide-all"]);
        let ran = run_command(command);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    }
    assert_eq!(server.mails().len(), 2);
}

fn browser() {
    // Listener for anything that the message makes the browser load.
    let tracker = Server::start(&["serve-http", path_str(&crate::support::demo_site()), "--json"]);
    let mailbox = Server::start(&["mail-serve", "--json", "--http", "127.0.0.1:0"]);
    let from = |path: &str| tracker.url(path);
    let html = format!(
        "<h1>hi</h1><img src='{}'><link rel=stylesheet href='{}'><iframe src='{}'></iframe><style>@import '{}'</style>\
         <script src='{}'></script><script>fetch('{}'); top.location='{}'</script><meta http-equiv=refresh content='0;url={}'>\
         <svg onload=\"fetch('{}')\"></svg><form action='{}'><input autofocus onfocus='this.form.submit()'></form>",
        from("/img"),
        from("/css"),
        from("/frame"),
        from("/import"),
        from("/script"),
        from("/fetch"),
        from("/top"),
        from("/meta"),
        from("/svg"),
        from("/form"),
    );
    let target = mailbox.address().to_string();
    let usual = ["mail", &target, "--plain", "--from", "me@x.test", "--to", "a@x.test"];
    let subject = "</title><script>document.title='taken'</script>";
    let ran = run(&[&usual[..], &["--subject", subject, "--text", "hi", "--html", &html]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let pages = mailbox.addresses.last().expect("the pages").clone();
    for path in ["", "mail/1", "mail/1/html"] {
        let shown = crate::web::chromium(&format!("{pages}{path}"), &["--virtual-time-budget=2000", "--dump-dom"]);
        assert!(
            !shown.contains("<title>taken") && (path.ends_with("html") || shown.contains("netlab</title>")),
            "{shown}"
        );
    }
    assert_eq!(tracker.stop().summary()["requests"], 0, "nothing was loaded");
}
