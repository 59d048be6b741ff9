//! The mail client against scripted servers that say exactly what a test wants.

#[path = "../support/mod.rs"]
mod support;

mod compose;
mod dialogue;
mod ends;
mod load;
mod retry;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender};

use support::{RunOutput, ScriptedPeer, run};

/// What a server does: says something at once, or hears a line (or a message) before it does.
enum Turn {
    /// Says it without being asked.
    Say(&'static str),
    /// Hears a line that begins so, then says it.
    After(&'static str, &'static str),
    /// Hears a message up to its dot, then says it.
    AfterMessage(&'static str),
    /// Tells the test that it has come so far.
    Tell(Sender<()>),
    /// Hears nothing more until the test says so.
    Wait(Receiver<()>),
    /// Closes.
    Close,
    /// Goes at once: what is unread resets the line.
    Go,
}

use Turn::{After, AfterMessage, Close, Go, Say, Tell, Wait};

/// A server that plays these turns on one connection and gives what it heard.
fn server(turns: Vec<Turn>) -> (ScriptedPeer, Receiver<String>) {
    servers(vec![turns])
}

/// A server that plays these turns on one connection after the other and gives what it heard on each.
fn servers(all: Vec<Vec<Turn>>) -> (ScriptedPeer, Receiver<String>) {
    let (tell, heard) = std::sync::mpsc::channel();
    let script = |turns: Vec<Turn>| -> Box<dyn FnOnce(TcpStream) + Send> {
        let tell = tell.clone();
        Box::new(move |stream| drop(tell.send(play(stream, turns))))
    };
    (ScriptedPeer::start(all.into_iter().map(script).collect()), heard)
}

/// Plays the turns, and gives what was heard.
fn play(mut stream: TcpStream, turns: Vec<Turn>) -> String {
    let mut all = String::new();
    for turn in turns {
        let (ends, say) = match turn {
            Say(text) => {
                stream.write_all(text.as_bytes()).expect("said");
                continue;
            }
            Tell(sender) => {
                sender.send(()).expect("the test listens");
                continue;
            }
            Wait(receiver) => {
                let _ = receiver.recv();
                continue;
            }
            Go => return all,
            Close => {
                let _ = stream.shutdown(std::net::Shutdown::Write);
                break;
            }
            After(start, say) => (read_until(&mut stream, "\r\n", &mut all, start), say),
            AfterMessage(say) => (read_until(&mut stream, "\r\n.\r\n", &mut all, ""), say),
        };
        if !ends || stream.write_all(say.as_bytes()).is_err() {
            break;
        }
    }
    // What else it says before it goes.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).map(|_| all.push_str(&String::from_utf8_lossy(&rest)));
    all
}

/// Reads octet by octet up to `end`; whether it came.
fn read_until(stream: &mut TcpStream, end: &str, all: &mut String, start: &str) -> bool {
    let mut line = Vec::new();
    let mut octet = [0];
    while !line.ends_with(end.as_bytes()) {
        if !matches!(stream.read(&mut octet), Ok(1)) {
            return false;
        }
        line.push(octet[0]);
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
