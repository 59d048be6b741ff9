//! Tests of `mail` against scripted servers.

#[path = "../support/mod.rs"]
mod support;

mod compose;
mod dialogue;
mod interrupted;
mod load;
mod retry;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender};

use support::{RunOutput, ScriptedPeer, run};

/// Turn of a scripted server.
enum Turn {
    /// Send the text at once.
    Send(&'static str),
    /// Read a line with this beginning, then send the text.
    After(&'static str, &'static str),
    /// Read a message up to its final dot, then send the text.
    AfterMessage(&'static str),
    /// Notify the test.
    Notify(Sender<()>),
    /// Wait for the test.
    Wait(Receiver<()>),
    /// Close the connection.
    Close,
    /// Close at once; unread data resets the connection.
    Abort,
}

use Turn::{Abort, After, AfterMessage, Close, Notify, Send, Wait};

/// Starts a server for one connection; the receiver gets what the client sent.
fn server(turns: Vec<Turn>) -> (ScriptedPeer, Receiver<String>) {
    servers(vec![turns])
}

/// Starts a server for several connections, one after the other.
fn servers(all: Vec<Vec<Turn>>) -> (ScriptedPeer, Receiver<String>) {
    let (sender, received) = std::sync::mpsc::channel();
    let script = |turns: Vec<Turn>| -> Box<dyn FnOnce(TcpStream) + std::marker::Send> {
        let sender = sender.clone();
        Box::new(move |stream| drop(sender.send(play(stream, turns))))
    };
    (ScriptedPeer::start(all.into_iter().map(script).collect()), received)
}

/// Runs the turns and returns what the client sent.
fn play(mut stream: TcpStream, turns: Vec<Turn>) -> String {
    let mut all = String::new();
    for turn in turns {
        let (ends, reply) = match turn {
            Send(text) => {
                stream.write_all(text.as_bytes()).expect("sent");
                continue;
            }
            Notify(sender) => {
                sender.send(()).expect("the test listens");
                continue;
            }
            Wait(receiver) => {
                let _ = receiver.recv();
                continue;
            }
            Abort => return all,
            Close => {
                let _ = stream.shutdown(std::net::Shutdown::Write);
                break;
            }
            After(start, reply) => (read_until(&mut stream, "\r\n", &mut all, start), reply),
            AfterMessage(reply) => (read_until(&mut stream, "\r\n.\r\n", &mut all, ""), reply),
        };
        if !ends || stream.write_all(reply.as_bytes()).is_err() {
            break;
        }
    }
    // Read the rest before closing.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).map(|_| all.push_str(&String::from_utf8_lossy(&rest)));
    all
}

/// Reads byte by byte up to `end`; returns false if the connection ended before.
fn read_until(stream: &mut TcpStream, end: &str, all: &mut String, start: &str) -> bool {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(end.as_bytes()) {
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return false;
        }
        line.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&line).into_owned();
    assert!(line.starts_with(start), "{start} was expected: {line}");
    all.push_str(&line);
    true
}

/// Sends the usual mail to this server.
fn mail(peer: &ScriptedPeer, flags: &[&str]) -> RunOutput {
    let server = peer.address.to_string();
    let usual =
        ["mail", &server, "--from", "me@x.test", "--to", "a@x.test", "--subject", "hi", "--text", "hello", "--json"];
    let security: &[&str] = if flags.contains(&"--starttls") || flags.contains(&"--tls") { &[] } else { &["--plain"] };
    run(&[&usual, security, flags].concat())
}
