//! Servers under a service manager: passed sockets, readiness, watchdog, and the unit files.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::{KillOnDrop, TEST_TIMEOUT, demo_site, netlab, path_str, pid, run, send_and_read};

/// Socket of a service manager, and its path.
fn notify_socket(directory: &tempfile::TempDir) -> (UnixDatagram, std::path::PathBuf) {
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(TEST_TIMEOUT)).expect("set");
    (socket, path)
}

fn message(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 256];
    let length = socket.recv(&mut bytes).expect("a message");
    String::from_utf8_lossy(&bytes[..length]).trim().to_owned()
}

#[test]
fn a_server_uses_the_socket_it_is_passed_and_reports_its_state() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let site = demo_site();
    for (arguments, request, answer) in [
        (&["serve-http", path_str(&site), "--threads=2"][..], &b"GET / HTTP/1.0\r\n\r\n"[..], "HTTP/1.1 200"),
        (&["mail-serve"], b"QUIT\r\n", "221 2.0.0 bye"),
    ] {
        let directory = tempfile::tempdir_in(directory.path()).expect("a directory");
        let (notifications, path) = notify_socket(&directory);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        // The shell moves the socket to descriptor 3 and keeps its process id for the server.
        let mut command = Command::new("sh");
        command.args(["-c", "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\""]);
        command.arg(env!("CARGO_BIN_EXE_netlab")).args(arguments).env("NOTIFY_SOCKET", &path);
        command.stdin(Stdio::from(OwnedFd::from(listener))).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = KillOnDrop(command.spawn().expect("it runs"));
        assert_eq!(message(&notifications), "READY=1");
        let reply = String::from_utf8(send_and_read(address, request)).expect("text");
        assert!(reply.contains(answer), "{reply}");
        rustix::process::kill_process(pid(&child.0), Signal::TERM).expect("it runs");
        assert_eq!(message(&notifications), "STOPPING=1");
        assert_eq!(child.0.wait().expect("ended").code(), Some(0));
    }
}

#[test]
fn the_watcher_reports_to_the_watchdog() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (notifications, path) = notify_socket(&directory);
    let mut command = netlab(&["heartbeat", "watch", "--bind", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "20000");
    let mut child = KillOnDrop(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs"));
    assert_eq!(message(&notifications), "READY=1");
    assert_eq!([message(&notifications), message(&notifications)], ["WATCHDOG=1", "WATCHDOG=1"]);
    rustix::process::kill_process(pid(&child.0), Signal::TERM).expect("it runs");
    while message(&notifications) != "STOPPING=1" {}
    assert_eq!(child.0.wait().expect("ended").code(), Some(0));
}

#[test]
fn a_passed_socket_that_is_unusable_or_missing_is_an_error() {
    let site = demo_site();
    for descriptors in ["exec 3</dev/null; LISTEN_FDS=1", "LISTEN_FDS=1", "LISTEN_FDS=9"] {
        for arguments in [&["mail-serve"][..], &["serve-http", path_str(&site)]] {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("{descriptors} LISTEN_PID=$$ exec \"$0\" \"$@\"")]);
            command.arg(env!("CARGO_BIN_EXE_netlab")).args(arguments);
            let ran = crate::support::run_command(command);
            assert!(ran.code == 2 && ran.stderr.contains("LISTEN_FDS"), "{} {}", ran.code, ran.stderr);
        }
    }
}

#[test]
fn the_command_of_each_unit_file_is_accepted() {
    let state = tempfile::tempdir().expect("a temporary directory");
    let site = demo_site();
    let units = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/systemd")).expect("unit files");
    let mut count = 0;
    for unit in units {
        let text = std::fs::read_to_string(unit.expect("readable").path()).expect("text");
        let Some(command) = text.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/netlab ")) else {
            continue;
        };
        count += 1;
        let command =
            command.replace("${STATE_DIRECTORY}", path_str(state.path())).replace("/srv/www", path_str(&site));
        let command = command.replace("--http 12002", "--http 0");
        let words: Vec<&str> = command.split(' ').chain(["--bind", "127.0.0.1:0", "--for", "10ms"]).collect();
        let ran = run(&words);
        assert_eq!(ran.code, 0, "{command}: {}", ran.stderr);
    }
    assert_eq!(count, 4);
}
