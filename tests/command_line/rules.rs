//! Rules of scripts: reasons, summaries, verbosity, ready files, commands as values.

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{RunOutput, Server, demo_site, netlab, path_str, run, run_command, site};

/// Runs that fail, each with its exit code. `{ping}`, `{mail}` and `{web}` are addresses of servers.
const FAILING_RUNS: [(&str, i32); 14] = [
    ("ping 127.0.0.1:9 -c 1 --timeout 1s", 69),
    ("ping {ping} -c 1 --timeout 1s --fail-if received>0", 1),
    ("ping nosuch.invalid {ping} -c 1 --timeout 1s", 68),
    ("get {web}/absent -c 1", 1),
    ("get {web}/absent -o /dev/null", 1),
    ("get http://127.0.0.1:9/", 69),
    ("mail {mail} --plain --from a@x.test --to no@x.test --text hi", 69),
    ("mail {mail} --plain --from a@x.test --to no@x.test --to yes@x.test --text hi", 67),
    ("mail {mail} --plain --from a@x.test --to later@x.test --text hi", 75),
    ("heartbeat watch --bind 0 --for 50ms --until all_up", 1),
    ("heartbeat watch --bind 0 --for 50ms --expect web", 1),
    ("heartbeat send 127.0.0.1:9 -i 5ms -c 3", 69),
    ("heartbeat send 127.0.0.1:9 --exec -- false", 1),
    ("mail-serve --bind 0 --for 50ms --expect messages=1", 1),
];

fn servers() -> (Server, Server, Server, tempfile::TempDir) {
    let directory = site(&[("a", b"x")]);
    let web = Server::start(&["serve-http", path_str(directory.path())]);
    let ping = Server::start(&["ping-serve", "--loss", "0"]);
    let faults = ["--fault", "rcpt[no@x.test] = 550 no", "--fault", "rcpt[later@x.test] = 451 later"];
    let mail = Server::start(&[&["mail-serve"][..], &faults].concat());
    (web, ping, mail, directory)
}

#[test]
fn every_failure_has_a_reason_and_a_summary_with_the_exit_code() {
    let (web, ping, mail, _directory) = servers();
    let fill = |line: &str| {
        let url = web.url("");
        line.replace("{web}", &url).replace("{ping}", &ping.addresses[0]).replace("{mail}", &mail.addresses[0])
    };
    for (line, code) in FAILING_RUNS {
        let line = fill(line);
        let words: Vec<String> = line.split(' ').map(|word| word.replace('_', " ")).collect();
        let arguments: Vec<&str> = words.iter().map(String::as_str).collect();
        let text = run(&arguments);
        assert_eq!(text.code, code, "{line}\n{}{}", text.stdout, text.stderr);
        assert!(text.stderr.lines().any(|line| line.starts_with("netlab: ")), "{line}: no reason\n{}", text.stderr);
        let silent = run(&[&arguments[..1], &["-qq"], &arguments[1..]].concat());
        assert_eq!((silent.code, silent.stdout.as_str()), (code, ""), "{line}");
        assert!(silent.stderr.starts_with("netlab: "), "{line}: {}", silent.stderr);
        // Stdout belongs to the command of --exec.
        let json = run(&[&arguments[..1], &["--json"], &arguments[1..]].concat());
        let lines = if line.contains("--exec") { json.stderr } else { json.stdout };
        let lines = lines.lines().filter(|line| line.starts_with('{')).collect::<Vec<_>>().join("\n");
        let json = RunOutput { code: json.code, stdout: lines, stderr: String::new() };
        let events = json.events();
        assert!(events.iter().any(|event| event["type"] == "error"), "{line}: {}", json.stdout);
        assert!(events.iter().all(|event| event["time"].is_string()), "{line}: {}", json.stdout);
        let expected = if line.contains("nosuch") { 0 } else { code };
        assert_eq!((json.code, &json.summary()["exit"]), (code, &expected.into()), "{line}: {}", json.stdout);
    }
}

#[test]
fn every_client_sends_from_the_given_source() {
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    udp.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    let peer = udp.local_addr().expect("bound").to_string();
    for client in [&["ping", "-c", "1", "--timeout", "1ms", "--linger", "0"][..], &["heartbeat", "send", "--once"]] {
        run(&[client, &["--source", "127.0.0.2", &peer]].concat());
        let (_, sender) = udp.recv_from(&mut [0; 2048]).expect("a datagram");
        assert_eq!(sender.ip().to_string(), "127.0.0.2", "{client:?}");
    }
    for command in ["get", "mail"] {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let peer = tcp.local_addr().expect("bound").to_string();
        let url = format!("http://{peer}/");
        let client = match command {
            "get" => vec!["get", &url],
            _ => vec!["mail", "--plain", "--from", "a@x.test", "--to", "b@x.test", "--text", "hi", &peer],
        };
        std::thread::scope(|scope| {
            let accepted = scope.spawn(|| tcp.accept().expect("a connection").1);
            run(&[&client[..], &["--source", "127.0.0.2"]].concat());
            // Ends the wait if the client did not connect.
            drop(TcpStream::connect(&peer));
            assert_eq!(accepted.join().expect("accepted").ip().to_string(), "127.0.0.2", "{command}");
        });
    }
}

#[test]
fn quiet_twice_prints_nothing_but_errors_and_the_last_flag_wins() {
    let ping = Server::start(&["ping-serve", "--loss", "0"]);
    let target = ping.addresses[0].as_str();
    let silent = run(&["ping", target, "-c", "1", "-qq"]);
    assert_eq!((silent.code, silent.stdout.as_str(), silent.stderr.as_str()), (0, "", ""));
    let last =
        run(&["ping", target, "-c", "9", "--count", "1", "--json", "--json", "--timeout", "1s", "--timeout", "2s"]);
    assert_eq!((last.code, &last.summary()["sent"]), (0, &1.into()), "{}", last.stderr);
}

#[test]
fn json_refuses_what_is_not_json() {
    for arguments in [&["completions", "bash", "--json"][..], &["get", "http://127.0.0.1:9/", "--json", "-o", "-"]] {
        let ran = run(arguments);
        assert_eq!((ran.code, &ran.events()[0]["type"]), (2, &"error".into()), "{arguments:?}: {}", ran.stdout);
    }
    let message = run(&["mail", "h", "--from", "a@x.test", "--to", "b@x.test", "--text", "hi", "--dry-run", "--json"]);
    let events = message.events();
    assert!(events[0]["content"].as_str().is_some_and(|text| text.ends_with("\r\nhi\r\n")), "{}", message.stdout);
    assert_eq!(message.summary()["exit"], 0);
}

/// Server that ends by itself, with a ready file.
fn brief_server(site: &Path, ready_file: &str) -> Command {
    netlab(&["serve-http", path_str(site), "--bind", "0", "--for", "20ms", "-q", "--ready-file", ready_file])
}

#[test]
fn a_ready_file_exists_only_while_the_server_listens() {
    let directory = site(&[("a", b"x")]);
    let ready = directory.path().join("ready");
    fs::write(&ready, "http://127.0.0.1:1/\n").expect("written");
    let failed = run(&["serve-http", "/nonexistent", "--ready-file", path_str(&ready)]);
    assert_eq!((failed.code, ready.exists()), (66, false), "a failed start leaves no file");
    let ran = run_command(brief_server(directory.path(), path_str(&ready)));
    assert_eq!((ran.code, ready.exists()), (0, false), "{}", ran.stderr);
}

#[test]
fn a_name_of_standard_output_is_written_to_and_not_replaced() {
    let directory = site(&[("a", b"body")]);
    let log = directory.path().join("log");
    for (name, is_append) in [("/dev/stdout", false), ("/proc/self/fd/1", true)] {
        fs::write(&log, "before\n").expect("written");
        let mut file = fs::OpenOptions::new().append(is_append).write(true).open(&log).expect("opened");
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).expect("at the end");
        let mut command = brief_server(directory.path(), name);
        let status = command.args(["--log", "json"]).stdout(Stdio::from(file)).status().expect("it runs");
        let text = fs::read_to_string(&log).expect("there");
        assert!(status.success() && text.starts_with("before\nhttp://"), "{name}: {text}");
        assert!(text.contains("\"summary\""), "what is printed later comes after it: {text}");
    }
}

#[test]
fn a_hangup_ends_a_server_like_sigterm_unless_it_is_ignored() {
    let server = Server::start(&["ping-serve", "--json"]);
    server.signal(Signal::HUP);
    let ran = server.wait();
    assert_eq!((ran.code, &ran.summary()["exit"]), (0, &0.into()));
    let mut nohup = Command::new("nohup");
    nohup.arg(env!("CARGO_BIN_EXE_netlab")).args(["ping-serve", "--bind", "127.0.0.1:0", "--json"]);
    nohup.stdin(Stdio::null()).process_group(0);
    let server = Server::spawn(nohup);
    server.signal(Signal::HUP);
    let events = server.stop().events();
    assert_eq!(events.last().map(|last| last["type"].clone()), Some("summary".into()));
}

#[test]
fn a_target_that_fails_does_not_stop_the_others() {
    let ping = Server::start(&["ping-serve", "--loss", "0"]);
    let ran = run(&["ping", "nosuch.invalid", &ping.addresses[0], "-c", "1", "--json"]);
    assert_eq!((ran.code, &ran.summary()["received"]), (68, &1.into()), "{}", ran.stdout);
    let beats = run(&["heartbeat", "send", "nosuch.invalid", "127.0.0.1:9", "-c", "1", "--json"]);
    assert_eq!(beats.summary()["targets"].as_array().map(Vec::len), Some(1), "{}", beats.stdout);
}

#[test]
fn commands_given_as_values_are_found_before_the_run() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let plain = directory.path().join("plain");
    fs::write(&plain, "#!/bin/sh\n").expect("written");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).expect("set");
    for (program, code) in [("nosuch", 127), (path_str(&plain), 126)] {
        for arguments in [
            &["heartbeat", "watch", "--bind", "0", "--for", "1ms", "--on-change", program][..],
            &["heartbeat", "send", "127.0.0.1:9", "--exec", program],
        ] {
            let ran = run(arguments);
            assert!(ran.code == code && ran.stderr.contains(program), "{arguments:?}: {} {}", ran.code, ran.stderr);
        }
    }
}

#[test]
fn stdout_belongs_to_the_command_that_is_run() {
    for format in [&["--json"][..], &[]] {
        let arguments = ["heartbeat", "send", "127.0.0.1:9", "-i", "1s", "--exec", "--", "echo", "own"];
        let ran = run_command(netlab(&[format, &arguments].concat()));
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "own\n"), "{}", ran.stderr);
        assert!(ran.stderr.contains(if format.is_empty() { "---" } else { "\"child_exit\":0" }), "{}", ran.stderr);
    }
}

#[test]
fn any_descriptor_is_written_at_its_own_position() {
    let directory = site(&[("page", b"page\n")]);
    let web = Server::start(&["serve-http", path_str(directory.path()), "--log", "off"]);
    let url = web.url("/page");
    let binary = env!("CARGO_BIN_EXE_netlab");
    for (name, redirect) in [("/dev/fd/3", "3>"), ("/proc/self/fd/3", "3>"), ("/dev/stderr", "2>")] {
        let log = directory.path().join("log");
        let number = redirect.trim_end_matches('>');
        let text = format!(
            "{{ echo one >&{number}; \"$NETLAB\" get -o {name} \"$URL\"; echo two >&{number}; }} {redirect} \"$LOG\""
        );
        let mut command = Command::new("sh");
        command.args(["-c", &text]).env("NETLAB", binary).env("URL", &url).env("LOG", &log);
        assert_eq!(run_command(command).code, 0, "{name}");
        assert_eq!(fs::read_to_string(&log).expect("written"), "one\npage\ntwo\n", "{name}");
    }
}

#[test]
fn a_command_that_succeeds_is_no_error_and_a_usage_error_leaves_no_ready_file() {
    let ran = run(&["heartbeat", "send", "127.0.0.1:9", "--json", "--exec", "true"]);
    assert!(ran.code == 0 && !ran.stderr.contains("\"type\":\"error\""), "{}", ran.stderr);
    let directory = site(&[("ready", b"stale")]);
    let ready = directory.path().join("ready");
    assert_eq!(run(&["ping-serve", "--loss", "abc", "--ready-file", path_str(&ready)]).code, 2);
    assert!(!ready.exists());
    fs::write(&ready, "a file of the user").expect("written");
    assert_eq!(run(&["get", "--ready-file", path_str(&ready), "x"]).code, 2);
    assert!(ready.exists(), "get has no ready file");
}

#[test]
fn a_deadline_ends_a_run_whose_output_is_not_read() {
    let directory = site(&[("large", &vec![b'x'; 1 << 20])]);
    let web = Server::start(&["serve-http", path_str(directory.path())]);
    let (url, fifo) = (web.url("/large"), directory.path().join("fifo"));
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("a FIFO");
    let absent = run(&["get", &url, "-o", path_str(&fifo), "--deadline", "300ms"]);
    assert!(absent.code == 73 && absent.stderr.contains("no program has opened"), "{} {}", absent.code, absent.stderr);
    let ready = ["--ready-file", path_str(&fifo), "--for", "100ms", "--bind", "127.0.0.1:0"];
    for server in
        [&["serve-http", path_str(directory.path())][..], &["ping-serve"], &["mail-serve"], &["heartbeat", "watch"]]
    {
        assert_eq!(run(&[server, &ready].concat()).code, 73, "{server:?}");
    }
    let ca = format!("--tls-self-signed={}", path_str(&fifo));
    assert_eq!(run(&["mail-serve", &ca, "--for", "100ms", "--bind", "127.0.0.1:0"]).code, 73);
    let chart = ["-w", "300ms", "-c", "1", "--svg", path_str(&fifo)];
    assert_eq!(run(&[&["get", &url][..], &chart].concat()).code, 73);
    assert_eq!(run(&[&["ping", "127.0.0.1:9"][..], &chart].concat()).code, 73);
    // The test holds the reading end and does not read.
    let mut child = netlab(&["get", &url, "-o", "-", "--deadline", "300ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let code = child.wait().expect("it ends").code();
    assert_eq!(code, Some(74));
}

#[test]
fn a_deadline_ends_a_run_whose_input_has_no_end() {
    let directory = site(&[]);
    let fifo = directory.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a FIFO");
    let (file, text) = (path_str(&fifo), format!("@{}", fifo.display()));
    let mail = ["mail", "127.0.0.1:9", "--plain", "--from", "a@x.test", "--to", "b@x.test", "-w", "50ms"];
    for (command, arguments) in [
        (&["get", "http://127.0.0.1:9/", "-w", "50ms", "-d"][..], &[text.as_str()][..]),
        (&["get", "http://127.0.0.1:9/", "-w", "50ms", "-d"], &["@-"]),
        (&mail, &["--text", &text]),
        (&mail, &["--html", "@-"]),
        (&mail, &["--text", "hi", "--attach", file]),
        (&mail, &["--raw", file]),
        (&mail, &["--text", "hi", "--user", "u", "--insecure-auth", "--password-file", file]),
        (&["ping", "127.0.0.1:9", "-w", "50ms", "--wire", "stamp", "--key-file"], &[file]),
        (&["heartbeat", "send", "127.0.0.1:9", "-w", "50ms", "--key-file"], &[file]),
        (&["ping-serve", "--bind", "0", "--for", "50ms", "--key-file"], &[file]),
        (&["mail-serve", "--bind", "0", "--for", "50ms", "--auth-file"], &[file]),
    ] {
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let words = [command, arguments].concat();
        let ran = netlab(&words).stdin(reader).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(75), "{words:?}: {stderr}");
        assert!(stderr.contains("cannot read") && stderr.contains("timed out"), "{words:?}: {stderr}");
    }
}

#[test]
fn a_stderr_that_is_not_read_does_not_outlast_the_run() {
    let (web, pings) =
        (Server::start(&["serve-http", path_str(&demo_site()), "--log", "off"]), Server::start(&["ping-serve", "-q"]));
    let (url, address) = (web.url("/style.css"), pings.address().to_string());
    let clients: [&[&str]; 2] = [
        &["get", &url, "-c", "0", "--interval", "0", "--trace", "-w", "1s"],
        &["ping", &address, "-c", "0", "-i", "1ms", "--trace", "-w", "1s"],
    ];
    for arguments in clients {
        // Nobody reads the pipe, which is full after a second.
        let (_reader, writer) = std::io::pipe().expect("a pipe");
        let mut child = netlab(arguments).stdout(Stdio::null()).stderr(writer).spawn().expect("it runs");
        assert!(child.wait().expect("ended").code().is_some(), "{arguments:?}");
    }
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    let mut command =
        netlab(&["serve-http", path_str(&demo_site()), "--bind", "127.0.0.1:0", "--trace", "--for", "1s"]);
    let directory = tempfile::tempdir().expect("a directory");
    let ready = directory.path().join("ready");
    command.arg("--ready-file").arg(&ready).stdout(Stdio::null()).stderr(writer);
    let mut child = command.spawn().expect("it runs");
    let traced = std::iter::repeat_with(|| fs::read_to_string(&ready)).find_map(Result::ok).expect("an address");
    run(&["get", &format!("{}style.css", traced.trim()), "-c", "500", "--interval", "0", "-w", "800ms"]);
    assert_eq!(child.wait().expect("ended").code(), Some(0));
}

#[test]
fn the_family_and_the_deadline_have_the_same_flags_everywhere() {
    for arguments in [
        &["get", "-6", "http://127.0.0.1:9/"][..],
        &["ping", "-6", "127.0.0.1:9"],
        &["heartbeat", "send", "-6", "127.0.0.1:9"],
        &["mail", "-6", "--info", "127.0.0.1:9"],
    ] {
        let ran = run(arguments);
        assert!(ran.code == 2 && ran.stderr.contains("has no IPv6 address"), "{arguments:?}: {}", ran.stderr);
    }
    let ran = run(&["heartbeat", "send", "127.0.0.1:9", "-w", "100ms", "-i", "20ms", "--json"]);
    assert!(ran.events().iter().any(|event| event["type"] == "bye"), "{}", ran.stdout);
    let peer =
        crate::support::ScriptedPeer::start(vec![Box::new(|stream| drop(crate::support::read_until_close(stream)))]);
    assert_eq!(run(&["get", &format!("http://{}/", peer.address), "-w", "100ms"]).code, 75);
}

#[test]
fn a_server_shows_and_explains_its_dialogue_without_secrets() {
    let site = demo_site();
    let server = Server::start(&["serve-http", path_str(&site), "--explain"]);
    let url = server.url("/HelloWorld.html");
    assert_eq!(run(&["get", &url, "-H", "Authorization: Basic c2VjcmV0"]).code, 0);
    let explained = run(&["get", &url, "--explain"]);
    assert!(explained.stderr.contains("** the client asks for the content of this path (RFC 9110 §9.3.1)"));
    let trace = server.stop().stderr;
    for part in [
        "GET /HelloWorld.html HTTP/1.1",
        ": Authorization: [hidden]",
        "-> ",
        "HTTP/1.1 200 OK",
        "the request succeeded",
        "sent content: ",
    ] {
        assert!(trace.contains(part), "{part}: {trace}");
    }
    assert!(!trace.contains("c2VjcmV0"), "{trace}");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let users = directory.path().join("users");
    fs::write(&users, "tim:tea\n").expect("written");
    fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).expect("set");
    let server = Server::start(&["mail-serve", "--trace", "--insecure-auth", "--auth-file", path_str(&users)]);
    // A client that is out of step sends its password as a command, or in place of a mechanism.
    let dialogue = b"EHLO x\r\nAUTH PLAIN AHRpbQB0ZWE=\r\nAUTH LOGIN\r\nc2VjcmV0\r\n*\r\nAUTH c2VjcmV0\r\nc2VjcmV0\r\n\
        AUTH\tPLAIN c2VjcmV0\r\nNOOP\r\nQUIT\r\nAUTH PLAIN c2VjcmV0";
    crate::support::send_and_read(server.address(), dialogue);
    let trace = server.stop().stderr;
    for part in [": AUTH PLAIN [hidden]", "235 2.7.0", ": AUTH [hidden]", ": [hidden]", ": NOOP", ": QUIT"] {
        assert!(trace.contains(part), "{part}: {trace}");
    }
    assert!(!trace.contains("AHRp") && !trace.contains("c2Vj"), "{trace}");
    // What cannot be parsed is shown too.
    let server = Server::start(&["serve-http", path_str(&site), "--trace"]);
    let mut client = crate::support::connect(server.address());
    std::io::Write::write_all(&mut client, b"GET / HTTP/1.1\r\nHalf").expect("sent");
    client.shutdown(std::net::Shutdown::Write).expect("shut down");
    drop(crate::support::read_until_close(client));
    assert!(server.stop().stderr.contains(": Half"));
}
