//! Support for the tests that run the binary: the binary, servers that end with their test, scripted peers, and
//! the schema that every JSON line is validated against.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub(crate) mod relay;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;
use tempfile::TempDir;

/// Time limit of every wait in a test; far longer than any wait should take.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Command that runs the binary with an environment independent of the user.
pub(crate) fn netlab(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netlab"));
    command.args(arguments).stdin(Stdio::null());
    for name in ["NO_COLOR", "CLICOLOR_FORCE", "SSL_CERT_FILE", "SSL_CERT_DIR", "RUST_BACKTRACE"] {
        command.env_remove(name);
    }
    command
}

/// Exit code and output of a run.
#[derive(Debug)]
pub(crate) struct RunOutput {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for RunOutput {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        assert_ne!(code, 101, "a panic: {}", String::from_utf8_lossy(&output.stderr));
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl RunOutput {
    /// Events on stdout, each validated against the schema.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.stdout.lines().map(parse_event).collect()
    }

    /// Last event, which must be a summary.
    pub(crate) fn summary(&self) -> Value {
        let last = self.events().pop().expect("at least one event");
        assert_eq!(last["type"], "summary", "{}", self.stdout);
        last
    }
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> RunOutput {
    run_command(netlab(arguments))
}

/// Runs a command to its end.
pub(crate) fn run_command(mut command: Command) -> RunOutput {
    command.output().expect("the binary runs").into()
}

/// Parses a JSON line and validates it against the schema.
pub(crate) fn parse_event(line: &str) -> Value {
    static SCHEMA: OnceLock<jsonschema::Validator> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        let text = include_str!("../../assets/schema/events.json");
        let schema: Value = serde_json::from_str(text).expect("the schema is JSON");
        jsonschema::validator_for(&schema).expect("the schema is a schema")
    });
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert!(line.starts_with("{\"type\":\""), "type comes first: {line}");
    let faults: Vec<String> = schema.iter_errors(&value).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{line}\n{faults:#?}");
    value
}

/// netlab server that ends with its test.
pub(crate) struct Server {
    child: KillOnDrop,
    /// Addresses in the ready file.
    pub addresses: Vec<String>,
    _directory: TempDir,
}

impl Server {
    /// Starts `netlab ARGUMENTS --bind 127.0.0.1:0` and waits until it listens.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(netlab(&[arguments, &["--bind", "127.0.0.1:0"]].concat()))
    }

    /// Starts a command that has its own `--bind`. The ready file is a FIFO, so that waiting is a blocking read
    /// without sleeps; a server that exits instead is noticed at once.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let fifo = directory.path().join("ready");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
        let mut ready = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(&fifo)
            .expect("opened for reading");
        command.arg("--ready-file").arg(&fifo).stdout(Stdio::piped()).stderr(Stdio::piped());
        // From here on the process ends with the test, whatever fails.
        let mut child = KillOnDrop(command.spawn().expect("the binary runs"));
        let process = pidfd_open(pid(&child.0), PidfdFlags::empty()).expect("it has just been started");
        let mut fds = [PollFd::new(&ready, PollFlags::IN), PollFd::new(&process, PollFlags::IN)];
        poll(&mut fds, None).expect("polled");
        let mut text = String::new();
        if fds[0].revents().contains(PollFlags::IN) {
            rustix::io::ioctl_fionbio(&ready, false).expect("blocking from here on");
            ready.read_to_string(&mut text).expect("text");
        } else {
            let mut stderr = String::new();
            child.0.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
            panic!("the server ended with {}: {stderr}", child.0.wait().expect("ended"));
        }
        Self { child, addresses: text.lines().map(str::to_owned).collect(), _directory: directory }
    }

    /// First URL with `path` appended, which begins with `/`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.addresses[0].trim_end_matches('/'))
    }

    /// First address.
    pub(crate) fn address(&self) -> SocketAddr {
        let address =
            self.addresses[0].trim_start_matches("http://").trim_start_matches("https://").trim_end_matches('/');
        address.parse().expect("an address")
    }

    pub(crate) fn pid(&self) -> Pid {
        pid(&self.child.0)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// Takes stdout, for the test to read.
    pub(crate) fn stdout(&mut self) -> std::process::ChildStdout {
        self.child.0.stdout.take().expect("piped")
    }

    /// Takes stderr, for the test to read.
    pub(crate) fn stderr(&mut self) -> std::process::ChildStderr {
        self.child.0.stderr.take().expect("piped")
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn stop(self) -> RunOutput {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> RunOutput {
        let stdout = self.child.0.stdout.take();
        let stderr = self.child.0.stderr.take();
        let read = |pipe: Option<Box<dyn std::io::Read + Send>>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
                bytes
            })
        };
        let stdout = read(stdout.map(|pipe| Box::new(pipe) as _));
        let stderr = read(stderr.map(|pipe| Box::new(pipe) as _));
        let status = self.child.0.wait().expect("it ends");
        Output { status, stdout: stdout.join().expect("read"), stderr: stderr.join().expect("read") }.into()
    }
}

/// Makes a terminal the stdin of a command and returns its master side.
pub(crate) fn attach_terminal(command: &mut Command) -> std::fs::File {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&keyboard).expect("granted");
    unlockpt(&keyboard).expect("unlocked");
    let name = ptsname(&keyboard, Vec::new()).expect("a name").into_string().expect("ASCII");
    command.stdin(std::fs::OpenOptions::new().read(true).write(true).open(name).expect("opened"));
    keyboard.into()
}

/// Foreign program that ends with its test.
pub(crate) struct KillOnDrop(pub Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process id")).expect("not zero")
}

/// Opens a connection with timeouts for reads and writes.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a listener");
    stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("set");
    stream.set_write_timeout(Some(TEST_TIMEOUT)).expect("set");
    stream
}

/// Sends `bytes` and reads until the peer closes or resets the connection.
pub(crate) fn send_and_read(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    let _ = stream.write_all(bytes);
    read_until_close(stream)
}

/// Reads until the peer closes or resets the connection.
pub(crate) fn read_until_close(mut stream: TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the peer neither sent nor closed"),
        _ => received,
    }
}

/// Reads one response with a Content-Length from a connection that stays open.
pub(crate) fn read_one_response(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a response head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("ASCII");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |length| length.parse().expect("a number"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("the body");
    (head, body)
}

/// Peer that runs a script on each connection, one after the other.
pub(crate) struct ScriptedPeer {
    pub address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl ScriptedPeer {
    /// Starts a peer that accepts one connection per script.
    pub(crate) fn start(scripts: Vec<Box<dyn FnOnce(TcpStream) + Send>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let thread = std::thread::spawn(move || {
            for script in scripts {
                let (stream, _) = listener.accept().expect("a connection");
                stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("set");
                script(stream);
            }
        });
        Self { address, thread: Some(thread) }
    }

    /// Starts a peer that reads a request head, sends `response` and closes.
    pub(crate) fn answer(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Self::start(vec![Box::new(move |mut stream| {
            let _ = read_head(&mut stream);
            let _ = stream.write_all(&response);
        })])
    }

    /// URL with `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits until every script has run.
    pub(crate) fn done(mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the script succeeded");
        }
    }
}

/// Reads a request head from a connection.
pub(crate) fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Demo site of this checkout.
pub(crate) fn demo_site() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/site")
}

/// Creates a directory with these files.
pub(crate) fn site(files: &[(&str, &[u8])]) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, content) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        std::fs::write(path, content).expect("written");
    }
    directory
}

/// Path as an argument.
pub(crate) fn path_str(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}
