//! Captured mail: events, saved files, expectations, and the examples of the manual.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};

use rustix::process::Signal;

use crate::support::{Server, connect, netlab, path_str, run, run_command};
use crate::{Client, Mailbox};

#[test]
fn a_mail_is_reported_with_envelope_and_parts() {
    let mailbox = Mailbox::with_tls(&["--count", "1", "--expect", "messages=1 tls=1.3 auth=none from=me@x.test"]);
    let ran = mailbox.mail(&[
        "--to",
        "a@x.test",
        "--cc",
        "c@x.test",
        "--subject",
        "Gr\u{fc}\u{df}e",
        "--attach",
        "Cargo.toml",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ran = mailbox.server.wait();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let events = ran.events();
    let mail = events.iter().find(|event| event["type"] == "message").expect("a mail");
    assert_eq!(
        (&mail["from"], &mail["tls"], &mail["subject"]),
        (&"me@x.test".into(), &"1.3".into(), &"Gr\u{fc}\u{df}e".into())
    );
    let recipients: Vec<_> = mail["recipients"].as_array().expect("a list").iter().map(|to| &to["address"]).collect();
    assert_eq!(recipients, ["a@x.test", "c@x.test"]);
    let parts: Vec<_> = mail["parts"].as_array().expect("a list").iter().map(|part| &part["name"]).collect();
    assert_eq!(parts, [&serde_json::Value::Null, &"Cargo.toml".into()]);
    assert_eq!(mail["parts"][1]["bytes"], fs::metadata("Cargo.toml").expect("there").len());
    assert!(mail["file"].is_null() && mail["bare_lf"] == 0, "{mail}");
    let summary = ran.summary();
    assert_eq!(
        (&summary["messages"], &summary["recipients"], &summary["expected"]),
        (&1.into(), &2.into(), &true.into())
    );
}

#[test]
fn a_saved_mail_is_what_was_sent_byte_for_byte() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mails = directory.path().join("mails");
    let mailbox = Mailbox::start(&["--save", path_str(&mails)]);
    let mut client = Client::open(&mailbox.address());
    client.up_to_data();
    client.send(b"Subject: x\r\n\r\n..dot\r\na\n.\nb\rc\0\xff\r\n.\r\n");
    assert_eq!(client.code(), "250");
    let files: Vec<_> = fs::read_dir(&mails).expect("there").map(|file| file.expect("readable").path()).collect();
    assert_eq!(files.len(), 1);
    assert_eq!(fs::read(&files[0]).expect("there"), b"Subject: x\r\n\r\n.dot\r\na\n.\nb\rc\0\xff\r\n");
    client.command("QUIT");
    let events = mailbox.server.stop().events();
    let mail = events.iter().find(|event| event["type"] == "message").expect("a mail");
    assert_eq!((&mail["bare_lf"], &mail["bare_cr"]), (&2.into(), &1.into()));
    assert_eq!(mail["file"].as_str(), fs::canonicalize(&files[0]).expect("there").to_str());
}

#[test]
fn an_acknowledged_mail_survives_a_kill() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mails = directory.path().join("mails");
    let mailbox = Mailbox::start(&["--save", path_str(&mails), "--threads=2"]);
    let address = mailbox.address();
    // Four clients deliver continuously, each mail with its own subject; the kill hits between any two steps.
    let client = |client: usize| {
        let address = address.clone();
        std::thread::spawn(move || {
            let mut stream = connect(address.parse().expect("an address"));
            let mut replies = BufReader::new(stream.try_clone().expect("cloned"));
            let mut acknowledged = Vec::new();
            let mut line = String::new();
            let mut read_reply = |code: &str| {
                line.clear();
                while replies.read_line(&mut line).is_ok_and(|length| length > 0) {
                    if line.as_bytes().get(3) == Some(&b' ') {
                        return line.starts_with(code);
                    }
                    line.clear();
                }
                false
            };
            let _ = read_reply("220") && stream.write_all(b"EHLO t\r\n").is_ok() && read_reply("250");
            for number in 0..10_000 {
                let name = format!("{client}-{number}");
                let mail = format!("MAIL FROM:<>\r\nRCPT TO:<a@x.test>\r\nDATA\r\nSubject: {name}\r\n\r\nx\r\n.\r\n");
                let sent = stream.write_all(mail.as_bytes()).is_ok();
                if !(sent && read_reply("250") && read_reply("250") && read_reply("354") && read_reply("250")) {
                    break;
                }
                acknowledged.push(name);
            }
            acknowledged
        })
    };
    let clients: Vec<_> = (0..4).map(client).collect();
    // Once some files exist, others are being written.
    while fs::read_dir(&mails).map_or(0, Iterator::count) < 20 {
        std::thread::yield_now();
    }
    mailbox.server.signal(Signal::KILL);
    let acknowledged: Vec<String> = clients.into_iter().flat_map(|client| client.join().expect("finished")).collect();
    assert!(acknowledged.len() >= 10, "{acknowledged:?}");
    let kept = fs::read_dir(&mails).expect("there").map(|file| file.expect("readable").path());
    let kept = kept.filter(|path| path.extension().is_some_and(|end| end == "eml"));
    let kept: Vec<String> = kept.map(|path| fs::read_to_string(path).expect("there")).collect();
    for name in &acknowledged {
        let whole = format!("Subject: {name}\r\n\r\nx\r\n");
        assert!(kept.contains(&whole), "{name} was acknowledged");
    }
    assert!(kept.iter().all(|mail| mail.ends_with("\r\n\r\nx\r\n")), "a partial mail has a final name");
}

#[test]
fn a_mail_that_cannot_be_saved_is_deferred_and_the_server_continues() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mails = directory.path().join("mails");
    let mailbox = Mailbox::start(&["--save", path_str(&mails)]);
    fs::remove_dir_all(&mails).expect("removed");
    assert_eq!(mailbox.mail(&[]).code, 75);
    fs::create_dir(&mails).expect("made again");
    assert_eq!(mailbox.mail(&[]).code, 0);
    let ran = mailbox.server.stop();
    assert_eq!((ran.code, ran.summary()["messages"].as_u64()), (0, Some(1)), "{}", ran.stdout);
}

#[test]
fn the_count_limits_mails_and_a_further_one_is_rejected() {
    let mailbox = Mailbox::start(&["--count", "2", "--fault", "dot#3 = 552 5.3.4 too big"]);
    let mut late = Client::open(&mailbox.address());
    late.up_to_data();
    for _ in 0..2 {
        assert_eq!(mailbox.mail(&[]).code, 0);
    }
    late.send("x\r\n.\r\n");
    assert_eq!(late.code(), "421");
    let ran = mailbox.server.wait();
    assert_eq!((ran.code, ran.summary()["messages"].as_u64()), (0, Some(2)));
    assert_eq!(ran.summary()["faults"], 0, "a mail beyond --count is not an occurrence");
}

#[test]
fn a_stopping_server_completes_a_mail_in_progress() {
    let mailbox = Mailbox::start(&[]);
    let mut idle = Client::open(&mailbox.address());
    let mut client = Client::open(&mailbox.address());
    client.up_to_data();
    client.send("half\r\n");
    mailbox.server.signal(Signal::TERM);
    assert_eq!(idle.code(), "421");
    client.send("the other\r\n.\r\n");
    assert_eq!(client.code(), "250");
    assert_eq!(client.command("QUIT"), "221");
    assert_eq!(mailbox.server.wait().summary()["messages"], 1);
}

#[test]
fn a_failed_expectation_is_reported_with_exit_code_1() {
    for (expected, found) in [
        ("messages=2", "messages is 1"),
        ("messages>=1 tls=1.3", "tls of a message is none"),
        ("auth=tim", "auth of a message is none"),
        ("subject=ho", "subject of a message is hi"),
        ("to=b@x.test", "to of a message is a@x.test"),
    ] {
        let mailbox = Mailbox::start(&["--count", "1", "--expect", expected]);
        assert_eq!(mailbox.mail(&[]).code, 0);
        let ran = mailbox.server.wait();
        assert_eq!((ran.code, ran.summary()["expected"].as_bool()), (1, Some(false)), "{expected}");
        assert!(ran.stderr.contains(found), "{}", ran.stderr);
    }
    let ran = run(&["mail-serve", "--bind", "127.0.0.1:0", "--for", "1ms", "--expect", "messages=0 connections=0"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn a_message_in_chunks_with_dsn_parameters_is_captured() {
    let mailbox = Mailbox::start(&[]);
    let mut client = Client::open(&mailbox.address());
    for (line, code) in [
        ("EHLO t", "250"),
        ("MAIL FROM:<a@x.test> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ1", "250"),
        ("RCPT TO:<j\u{f6}rg@x.test> NOTIFY=SUCCESS,FAILURE ORCPT=utf-8;j\u{f6}rg@x.test", "250"),
        ("BDAT 5\r\n.\r\n", "250"),
        ("BDAT 4 LAST\r\nab", "250"),
    ] {
        assert_eq!(client.command(line), code, "{line}");
    }
    let events = mailbox.server.stop().events();
    let mail = events.iter().find(|event| event["type"] == "message").expect("a mail");
    assert_eq!((&mail["chunked"], &mail["smtputf8"], &mail["eight_bit"]), (&true.into(), &true.into(), &true.into()));
    assert_eq!(
        (&mail["ret"], &mail["envid"], &mail["recipients"][0]["notify"]),
        (&"HDRS".into(), &"QQ1".into(), &"SUCCESS,FAILURE".into())
    );
    assert_eq!(mail["bytes"], 9);
}

#[test]
fn invalid_configurations_are_rejected_at_start() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let open = directory.path().join("open");
    fs::write(&open, "tim:tea\n").expect("written");
    let odd = crate::secret(directory.path(), "odd", "tim\n");
    let empty = crate::secret(directory.path(), "empty", "# comment\n");
    for (flags, code, word) in [
        (&["--fault", "dot = explode"][..], 2, "explode"),
        (&["--fault", "cert = expired"], 2, "--tls-self-signed"),
        (&["--fault", "starttls = 454"], 2, "TLS"),
        (&["--fault", "starttls = hide"], 2, "TLS"),
        (&["--fault", "auth = hide"], 2, "--auth-file"),
        (&["--fault", "auth = 334 x3"], 2, "--auth-file"),
        (&["--fault", "ehlo = hide SZIE"], 2, "SZIE"),
        (&["--max-size", "0"], 2, "max-size"),
        (&["--tls-bind", "0"], 2, "TLS"),
        (&["--expect", "mails=1"], 2, "messages"),
        (&["--plan", "3"], 2, "--fault"),
        (&["--insecure-auth"], 2, "--auth-file"),
        (&["--name", "a b"], 2, "domain"),
        (&["--max-size", "x"], 2, "max-size"),
        (&["--auth-file", path_str(&open)], 77, "chmod 600"),
        (&["--auth-file", path_str(&odd)], 78, "line 1"),
        (&["--auth-file", path_str(&empty)], 78, "no users"),
        (&["--auth-file", "/nonexistent"], 66, "/nonexistent"),
        (&["--save", "/nonexistent/mails"], 73, "/nonexistent"),
        (&["--tls-self-signed=/nonexistent/ca.pem"], 73, "/nonexistent"),
    ] {
        let ran = run(&[&["mail-serve", "--bind", "127.0.0.1:0", "--for", "5s"], flags].concat());
        assert!(ran.code == code && ran.stderr.contains(word), "{flags:?}: {} {}", ran.code, ran.stderr);
    }
}

#[test]
fn a_generated_certificate_needs_no_file() {
    let flags = ["mail-serve", "--bind", "127.0.0.1:0", "--for", "1ms", "--tls-self-signed", "--json"];
    let ran = run(&[&flags[..], &["--fault", "starttls = hide", "--fault", "cert = expired"]].concat());
    assert!(ran.code == 0 && ran.events()[0]["certificate_sha256"].is_string(), "{}", ran.stderr);
}

#[test]
fn a_unix_socket_accepts_mail() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("s");
    let mut command = netlab(&["mail-serve", "--json", "--count", "1"]);
    command.arg("--bind").arg(format!("unix:{}", path_str(&path)));
    let server = Server::spawn(command);
    let mut client = std::os::unix::net::UnixStream::connect(&path).expect("connected");
    client.write_all(b"EHLO t\r\nMAIL FROM:<>\r\nRCPT TO:<a@x.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n").expect("sent");
    let ran = server.wait();
    assert!(ran.code == 0 && ran.stdout.contains("\"peer\":\"unix\""), "{}", ran.stdout);
}

#[test]
fn the_plan_predicts_what_happens() {
    let rule = "dot p=30% = drop";
    let plan = |seed: &str| {
        let ran = run(&["mail-serve", "--fault", rule, "--seed", seed, "--plan", "40", "--json"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let decisions = ran.events().into_iter().filter(|event| event["type"] == "decision");
        decisions.map(|event| event["fires"].as_bool().expect("a decision")).collect::<Vec<_>>()
    };
    let first = plan("7");
    assert_eq!(first, plan("7"));
    assert_ne!(first, plan("8"));
    let mailbox = Mailbox::start(&["--fault", rule, "--seed", "7"]);
    let happened: Vec<bool> = (0..12).map(|_| mailbox.mail(&[]).code == 83).collect();
    assert_eq!(happened, first[..12]);
}

#[test]
fn text_output_escapes_hostile_subjects() {
    let mut command = netlab(&["mail-serve", "--count", "1", "--bind", "127.0.0.1:0"]);
    command.env("TZ", "UTC");
    let server = Server::spawn(command);
    let mut client = Client::open(&server.address().to_string());
    client.up_to_data();
    client.send("Subject: =?utf-8?q?a=1b=5b2J=0ab?=\r\n\r\nx\r\n.\r\n");
    assert_eq!(client.code(), "250");
    drop(client);
    let ran = server.wait();
    assert!(ran.stdout.contains("mail 1 from <a@x.test> to <b@x.test>, "), "{}", ran.stdout);
    assert!(!ran.stdout.contains('\x1b') && ran.stdout.contains("--- 1 message on 1 connection"), "{}", ran.stdout);
    assert!(run_command(netlab(&["mail-serve", "--help"])).stdout.contains("PATTERN"));
}

#[test]
fn the_client_uses_chunking_and_dsn_or_fails_without_them() {
    let mailbox = Mailbox::start(&[]);
    let options = ["--chunking", "--notify", "success,failure", "--ret", "hdrs", "--envid", "run=7"];
    let ran = mailbox.mail(&[&options[..], &["--text", ".dot\n.", "--to", "a+b@x.test"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let events = mailbox.server.stop().events();
    let mail = events.iter().find(|event| event["type"] == "message").expect("a mail");
    let recipient = &mail["recipients"][0];
    assert_eq!((&mail["chunked"], &mail["ret"], &mail["envid"]), (&true.into(), &"HDRS".into(), &"run+3D7".into()));
    assert_eq!((&recipient["notify"], &recipient["orcpt"]), (&"SUCCESS,FAILURE".into(), &"rfc822;a+2Bb@x.test".into()));
    for (hidden, flags) in
        [("CHUNKING", &["--chunking"][..]), ("DSN", &["--notify", "never"]), ("DSN", &["--envid", "x"])]
    {
        let mailbox = Mailbox::start(&["--fault", &format!("ehlo = hide {hidden}")]);
        let ran = mailbox.mail(flags);
        assert!(ran.code == 69 && ran.stderr.contains(hidden), "{}", ran.stderr);
        assert_eq!(mailbox.server.stop().summary()["messages"], 0);
    }
    let mailbox = Mailbox::with_tls(&[]);
    let ran = mailbox.mail(&["--require-tls"]);
    assert!(ran.code == 69 && ran.stderr.contains("REQUIRETLS"), "{}", ran.stderr);
    for (rule, code) in [("dot = 451 later", 75), ("dot = drop", 83), ("dot = 554 no", 69)] {
        let mailbox = Mailbox::start(&["--fault", rule]);
        assert_eq!(mailbox.mail(&["--chunking"]).code, code, "{rule}");
    }
}

#[test]
fn a_non_ascii_address_is_sent_as_the_server_supports_it() {
    for (rule, to, code, arrives) in [
        ("quit#9 = drop", "a@ex\u{e4}mple.test", 0, "a@ex\u{e4}mple.test"),
        ("ehlo = hide SMTPUTF8", "a@ex\u{e4}mple.test", 0, "a@xn--exmple-cua.test"),
        ("quit#9 = drop", "j\u{f6}rg@x.test", 0, "j\u{f6}rg@x.test"),
        ("ehlo = hide SMTPUTF8", "j\u{f6}rg@x.test", 65, ""),
    ] {
        let mails = tempfile::tempdir().expect("a temporary directory");
        let mailbox = Mailbox::start(&["--fault", rule, "--save", path_str(mails.path())]);
        assert_eq!(mailbox.mail(&["--to", to]).code, code, "{to}");
        for file in fs::read_dir(mails.path()).expect("there") {
            let message = fs::read(file.expect("readable").path()).expect("there");
            assert_eq!(message.is_ascii(), to.starts_with("a@"), "{}", String::from_utf8_lossy(&message));
        }
        let events = mailbox.server.stop().events();
        let mail = events.iter().find(|event| event["type"] == "message");
        assert_eq!(mail.map_or("", |mail| mail["recipients"][0]["address"].as_str().unwrap_or("?")), arrives);
    }
}

#[test]
fn a_reader_that_reads_nothing_does_not_delay_the_end() {
    let mut mailbox = Mailbox::start(&[]);
    let _unread = mailbox.server.stdout();
    assert_eq!(mailbox.mail(&["-c", "600", "--reuse"]).code, 0);
    let ran = mailbox.server.stop();
    assert!(ran.code == 74 && ran.stderr.contains("standard output is not being read"), "{} {}", ran.code, ran.stderr);
}

#[test]
fn the_null_sender_can_be_expected() {
    for (expected, code) in [("from=<>", 0), ("from=a@x.test", 1)] {
        let mailbox = Mailbox::start(&["--count", "1", "--expect", expected]);
        let mut client = Client::open(&mailbox.address());
        for (line, code) in [("EHLO t", "250"), ("MAIL FROM:<>", "250"), ("RCPT TO:<a@x.test>", "250"), ("DATA", "354")]
        {
            assert_eq!(client.command(line), code);
        }
        assert_eq!(client.command("."), "250");
        drop(client);
        assert_eq!(mailbox.server.wait().code, code, "{expected}");
    }
}

#[test]
fn a_random_plan_reports_its_seed() {
    let ran = run(&["mail-serve", "--fault", "dot p=30% = drop", "--plan", "1"]);
    assert!(ran.code == 0 && ran.stderr.contains("--seed "), "{}", ran.stderr);
    assert_eq!(run(&["mail-serve", "--fault", "dot#1 = drop", "--plan", "1"]).stderr, "");
}

#[test]
fn an_untrusted_certificate_is_shown() {
    let mailbox = Mailbox::with_tls(&[]);
    let ran = run(&["mail", "--starttls", &mailbox.address(), "--info", "--json"]);
    let summary = ran.summary();
    assert_eq!((ran.code, &summary["stage"], summary["offers"].is_null()), (80, &"tls".into(), true), "{}", ran.stderr);
    assert!(summary["certificates"][0]["not_after_s"].is_i64() && summary["offers_before_tls"].is_array(), "{summary}");
}

#[test]
fn every_address_of_a_name_is_tried() {
    let mailbox = Mailbox::start(&["--count", "1"]);
    let port = mailbox.server.address().port();
    let server = format!("localhost:{port}");
    let ran = run(&["mail", &server, "--plain", "--from", "a@x.test", "--to", "b@x.test", "--text", "hi"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}
