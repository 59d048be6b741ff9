//! `--trace` and `--explain`: the dialogue on stderr; of a server with the peer in front of each line.
//!
//! Owns what is shown of each piece: heads line by line, bodies as a count, datagrams with their meaning. Sessions
//! redact secrets before tracing.

use std::net::SocketAddr;

use clap::Args;

use super::report::{display_peer, plural};
use crate::http;
use crate::output::{Escaped, NoteSender, Output, Stderr, Style, Trace, TraceKind};
use crate::protocol::{Datagram, DatagramTraceObserver, InputPiece, TraceObserver, is_utf8};
use crate::smtp::explain;

/// Flags of commands that can show their dialogue.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct TraceArgs {
    /// Print what is sent and received, on stderr
    #[arg(long)]
    trace: bool,

    /// As --trace, with a sentence and the RFC clause for each step
    #[arg(long, hide_short_help = true)]
    explain: bool,
}

impl TraceArgs {
    /// Creates the trace of a client.
    pub(super) fn client_trace(self, output: &Output) -> Trace {
        Trace::new(self.trace, self.explain, output.style(), output.stderr().clone())
    }

    /// Creates the trace of a server, whose writer thread prints it.
    fn server_trace(self, style: Style) -> Trace {
        Trace::new(self.trace, self.explain, style, Stderr::default())
    }

    /// Creates the trace of one connection of a server, if --trace or --explain is given.
    pub(super) fn server_dialogue_trace(
        self,
        protocol: TracedProtocol,
        peer: Option<SocketAddr>,
        (style, notes): (Style, NoteSender),
    ) -> Option<DialogueTrace> {
        let trace = self.server_trace(style);
        trace.is_enabled().then(|| DialogueTrace { peer: display_peer(peer), trace, protocol, notes })
    }

    /// Creates the explanations of a server's events.
    pub(super) fn explainer(self, style: Style, notes: NoteSender) -> Explainer {
        Explainer { trace: self.server_trace(style), notes }
    }

    /// Creates the trace of one thread of a datagram server, if --trace or --explain is given.
    pub(super) fn server_datagram_trace(
        self,
        describer: DatagramDescriber,
        (style, notes): (Style, NoteSender),
    ) -> Option<DatagramTrace> {
        let trace = self.server_trace(style);
        trace.is_enabled().then_some(DatagramTrace { peer: None, trace, describer, notes: Some(notes) })
    }
}

/// Explanations of a server's events, which the writer thread prints.
pub(super) struct Explainer {
    trace: Trace,
    notes: NoteSender,
}

impl Explainer {
    pub(super) fn explain(&self, sentence: Option<&str>) {
        let text = self.trace.format_explanation(sentence);
        if !text.is_empty() {
            self.notes.send(text);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TracedProtocol {
    Http,
    Smtp,
}

/// Trace of one connection. The writer thread prints it, so that a slow terminal does not stop the server.
pub(super) struct DialogueTrace {
    peer: String,
    trace: Trace,
    protocol: TracedProtocol,
    notes: NoteSender,
}

impl DialogueTrace {
    fn line(&self, kind: TraceKind, line: &str) {
        self.notes.send(self.trace.format_lines(kind, format!("{}: {line}", self.peer).as_bytes()));
    }

    fn explain(&self, sentence: Option<&str>) {
        if let Some(sentence) = sentence.filter(|_| self.trace.explains()) {
            self.line(TraceKind::Info, sentence);
        }
    }

    fn count(&self, kind: TraceKind, bytes: u64) {
        let word = if kind == TraceKind::Received { "received" } else { "sent" };
        self.line(TraceKind::Info, &format!("{word} content: {bytes} {}", plural(bytes, "byte", "bytes")));
    }

    fn explain_response(&self, lines: &[&str]) {
        let code = lines.first().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        if let Some(code) = code {
            self.explain(Some(http::explain::status(code)));
            self.explain(Some(http::explain::body_end(lines.iter().filter_map(|line| line.split_once(": ")))));
        }
    }
}

impl TraceObserver for DialogueTrace {
    fn received(&mut self, piece: &InputPiece) {
        let bytes = match piece {
            InputPiece::Content(bytes) => return self.count(TraceKind::Received, *bytes),
            InputPiece::Lines(bytes) => bytes,
        };
        let text = String::from_utf8_lossy(bytes);
        for line in text.lines() {
            self.line(TraceKind::Received, line);
            if self.protocol == TracedProtocol::Smtp {
                self.explain(explain::command(line));
            }
        }
        if self.protocol == TracedProtocol::Http {
            self.explain(text.lines().next().map(http::explain::request));
        }
    }

    fn sent(&mut self, bytes: &[u8]) {
        let end = match self.protocol {
            TracedProtocol::Http => memchr::memmem::find(bytes, b"\r\n\r\n").map_or(bytes.len(), |at| at + 4),
            TracedProtocol::Smtp => bytes.len(),
        };
        let (head, body) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        let text = String::from_utf8_lossy(head);
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines {
            self.line(TraceKind::Sent, line);
            let code = line.get(..3).and_then(|code| code.parse().ok());
            let is_last = line.as_bytes().get(3) != Some(&b'-');
            if let Some(code) = code.filter(|_| is_last && self.protocol == TracedProtocol::Smtp) {
                self.explain(Some(explain::reply(code, line)));
            }
        }
        if self.protocol == TracedProtocol::Http {
            self.explain_response(&lines);
        }
        if !body.is_empty() {
            self.count(TraceKind::Sent, body.len() as u64);
        }
    }

    fn sent_file(&mut self, length: u64) {
        self.count(TraceKind::Sent, length);
    }

    fn encrypted(&mut self) {
        self.trace.set_encrypted(true);
    }
}

/// Bytes of a datagram that the trace shows.
const MAX_PAYLOAD_SHOWN: usize = 120;

/// Functions that return the meaning and the explanation of a datagram.
#[derive(Clone, Copy)]
pub(super) struct DatagramDescriber {
    pub describe_sent: fn(&[u8]) -> (String, &'static str),
    pub describe_received: fn(&[u8]) -> (String, &'static str),
}

/// Trace of the datagrams of one client, or of one thread of a server, whose writer thread prints it.
pub(super) struct DatagramTrace {
    /// Peer of a connected socket.
    peer: Option<SocketAddr>,
    trace: Trace,
    describer: DatagramDescriber,
    notes: Option<NoteSender>,
}

impl DatagramTrace {
    /// Creates the trace of a client, if --trace or --explain is given.
    pub(super) fn for_client(trace: &Trace, peer: SocketAddr, describer: DatagramDescriber) -> Option<Self> {
        trace.is_enabled().then(|| Self { peer: Some(peer), trace: trace.clone(), describer, notes: None })
    }

    fn show(&self, kind: TraceKind, peer: Option<SocketAddr>, bytes: &[u8]) {
        let describe =
            if kind == TraceKind::Sent { self.describer.describe_sent } else { self.describer.describe_received };
        let (meaning, explanation) = describe(bytes);
        let size = format!("{} {}", bytes.len(), plural(bytes.len() as u64, "byte", "bytes"));
        let (peer, content) = (display_peer(peer.or(self.peer)), show_payload(bytes));
        let mut text = self.trace.format_lines(kind, format!("{peer}: {content} ({meaning}, {size})").as_bytes());
        text.push_str(&self.trace.format_explanation(explanation));
        match &self.notes {
            Some(notes) => notes.send(text),
            None => self.trace.write(&text),
        }
    }
}

/// Formats the beginning of a payload: text with its control characters escaped, binary data byte by byte.
fn show_payload(bytes: &[u8]) -> String {
    let shown = bytes.get(..MAX_PAYLOAD_SHOWN).unwrap_or(bytes);
    let is_readable = is_utf8(shown) && !shown.contains(&0);
    let text = if is_readable { Escaped(shown).to_string() } else { shown.escape_ascii().to_string() };
    if shown.len() < bytes.len() { text + "..." } else { text }
}

impl DatagramTraceObserver for DatagramTrace {
    fn received(&mut self, datagram: &Datagram<'_>) {
        self.show(TraceKind::Received, Some(datagram.peer), datagram.bytes);
    }

    fn sent(&mut self, to: Option<SocketAddr>, bytes: &[u8]) {
        self.show(TraceKind::Sent, to, bytes);
    }
}
