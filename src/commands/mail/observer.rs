//! Observer of a session: the dialogue for `--trace`, explanations for `--explain`, stage events, and a progress bar
//! while a long message is sent.

use std::net::SocketAddr;
use std::time::Duration;

use super::Mail;
use super::events::{MailEvent, StageEvent};
use crate::error::Error;
use crate::net;
use crate::output::{Format, Output, Progress, Trace, TraceKind, WaitNotice};
use crate::smtp::{ClientEvent, Reply, Security, Stage, StageTiming, explain};
use crate::time::HumanDuration;

#[derive(Clone, Copy)]
pub(super) enum ProgressEvent<'a> {
    /// Connection established, with the durations of resolving and connecting.
    Connected {
        peer: SocketAddr,
        resolve: Duration,
        connect: Duration,
    },
    Client(&'a ClientEvent),
}

pub(super) struct Observer<'a> {
    output: &'a mut Output,
    trace: Trace,
    /// Present once the connection is established.
    peer: Option<SocketAddr>,
    /// Stage events are printed.
    events_wanted: bool,
    progress: Option<Progress>,
    notice: WaitNotice,
    /// First input expected from the server.
    first_wait: &'static str,
    write_error: Option<Error>,
}

impl<'a> Observer<'a> {
    pub(super) fn new(mail: &Mail, notice: &WaitNotice, output: &'a mut Output) -> Self {
        let style = output.style();
        Self {
            trace: mail.trace.client_trace(output),
            events_wanted: style.format == Format::Json || style.is_verbose(),
            peer: None,
            progress: None,
            notice: notice.clone(),
            first_wait: if mail.transport.security() == Security::Tls { "the TLS handshake" } else { "the greeting" },
            write_error: None,
            output,
        }
    }

    pub(super) fn on_event(&mut self, event: ProgressEvent<'_>) {
        match event {
            ProgressEvent::Connected { peer, resolve, connect } => {
                self.notice.waiting_for(format!("connected to {peer}, waiting for {}", self.first_wait));
                self.trace.info(&format!("connected to {peer} in {}", HumanDuration(connect)));
                self.peer = Some(peer);
                self.emit_stage(StageTiming { stage: Stage::Resolve, took: resolve });
                self.emit_stage(StageTiming { stage: Stage::Connect, took: connect });
            }
            ProgressEvent::Client(ClientEvent::StageFinished(timing)) => {
                self.clear_progress();
                if timing.stage == Stage::Starttls {
                    self.notice.waiting_for("waiting for the TLS handshake");
                }
                if timing.stage == Stage::Body {
                    self.notice.waiting_for("message sent, waiting for the reply to it");
                }
                self.emit_stage(*timing);
            }
            ProgressEvent::Client(event) => self.trace_event(event),
        }
    }

    /// Ends the observation and returns the first write error, which does not stop a mail.
    pub(super) fn finish(mut self) -> Option<Error> {
        self.clear_progress();
        self.write_error
    }

    fn clear_progress(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.clear();
        }
    }

    fn emit_stage(&mut self, StageTiming { stage, took }: StageTiming) {
        if let Some(peer) = self.peer.filter(|_| self.events_wanted) {
            let written = self.output.emit(&MailEvent::Stage(StageEvent { stage, took, peer }));
            self.write_error = self.write_error.take().or(written.err().map(Error::from));
        }
    }

    fn trace_event(&mut self, event: &ClientEvent) {
        match event {
            ClientEvent::CommandSent(text) => {
                self.notice.waiting_for(format!("waiting for the reply to '{text}'"));
                self.trace.write_lines(TraceKind::Sent, text.as_bytes());
                self.trace.explain(explain::command(text));
            }
            ClientEvent::ReplyReceived(reply) => {
                self.notice.progress();
                self.trace_reply(reply);
            }
            ClientEvent::MalformedReply(text) => self.trace.write_lines(TraceKind::Received, text.as_bytes()),
            ClientEvent::TlsEstablished => {
                self.trace.set_encrypted(true);
                self.trace.info("the connection is encrypted from here on");
                self.trace.explain(explain::ENCRYPTED);
            }
            ClientEvent::MessageStarted(bytes) => {
                self.notice.waiting_for(format!("sending the message of {bytes} bytes"));
                self.trace.info(&format!("sending the message, {bytes} bytes"));
                self.trace.explain(explain::BODY);
                self.progress = Some(Progress::new(Some(*bytes as u64), self.output.style(), net::now()));
            }
            ClientEvent::MessageProgress(bytes) => {
                if let Some(progress) = &mut self.progress {
                    progress.set_position(*bytes, net::now());
                }
            }
            ClientEvent::Warning(text) => self.trace.info(text),
            ClientEvent::StageFinished(_) | ClientEvent::TransactionFinished { .. } => {}
        }
    }

    fn trace_reply(&self, reply: &Reply) {
        let last = reply.lines.len().saturating_sub(1);
        for (number, text) in reply.lines.iter().enumerate() {
            let mark = if number < last { '-' } else { ' ' };
            self.trace.write_lines(TraceKind::Received, format!("{}{mark}{text}", reply.code).as_bytes());
        }
        self.trace.explain(explain::reply(reply.code, &reply.text()));
    }
}
