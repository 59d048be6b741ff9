//! A run as it is watched: the conversation for `--trace`, its sentences for `--explain`, the stages, a bar
//! while a long message is on its way.

use super::Mail;
use super::events::{MailEvent, MailReport};
use super::session::ProgressEvent;
use crate::error::Error;
use crate::net;
use crate::output::{Format, Output, Progress, Trace, TraceKind};
use crate::smtp::{ClientEvent, Reply, Stage, StageTiming, explain};
use crate::time::HumanDuration;

/// What is shown of one connection.
pub(super) struct Observer<'a> {
    output: &'a mut Output,
    trace: Trace,
    explanations_wanted: bool,
    /// Whether each stage is told.
    events_wanted: bool,
    progress: Option<Progress>,
    write_error: Option<Error>,
}

impl<'a> Observer<'a> {
    /// As the flags have it.
    pub(super) fn new(mail: &Mail, output: &'a mut Output) -> Self {
        let style = output.style();
        Self {
            trace: Trace::new(mail.trace || mail.explain, style),
            explanations_wanted: mail.explain,
            events_wanted: style.format == Format::Json || style.verbose > 0,
            progress: None,
            write_error: None,
            output,
        }
    }

    /// Something happened.
    pub(super) fn on_event(&mut self, event: ProgressEvent<'_>) {
        match event {
            ProgressEvent::Connected { peer, resolve, connect } => {
                self.trace.info(&format!("connected to {peer} in {}", HumanDuration(connect)));
                self.emit_stage(StageTiming { stage: Stage::Resolve, took: resolve });
                self.emit_stage(StageTiming { stage: Stage::Connect, took: connect });
            }
            ProgressEvent::Client(ClientEvent::StageFinished(timed)) => {
                self.clear_progress();
                self.emit_stage(*timed);
            }
            ProgressEvent::Client(fact) => self.trace_event(fact),
        }
    }

    /// Nothing more is on its way. What could not be written does not stop a mail, and is told then.
    pub(super) fn finish(mut self) -> Option<Error> {
        self.clear_progress();
        self.write_error
    }

    fn clear_progress(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.clear();
        }
    }

    fn emit_stage(&mut self, timed: StageTiming) {
        let told =
            if self.events_wanted { self.output.emit(&MailReport::Event(MailEvent::Stage(timed))) } else { Ok(()) };
        self.write_error = self.write_error.take().or(told.err());
    }

    fn trace_event(&mut self, event: &ClientEvent) {
        match event {
            ClientEvent::CommandSent(text) => {
                self.trace.write_lines(TraceKind::Sent, text.as_bytes());
                self.trace_explanation(explain::command(text));
            }
            ClientEvent::ReplyReceived(reply) => self.trace_reply(reply),
            ClientEvent::MalformedReply(text) => self.trace.write_lines(TraceKind::Received, text.as_bytes()),
            ClientEvent::TlsEstablished => {
                self.trace.set_encrypted(true);
                self.trace.info("from here on the line is encrypted");
                self.trace_explanation(Some(explain::ENCRYPTED));
            }
            ClientEvent::MessageStarted(octets) => {
                self.trace.info(&format!("{octets} bytes of message"));
                self.trace_explanation(Some(explain::BODY));
                self.progress = Some(Progress::new(Some(*octets as u64), self.output.style(), net::now()));
            }
            ClientEvent::MessageProgress(octets) => {
                if let Some(progress) = &mut self.progress {
                    progress.set_position(*octets, net::now());
                }
            }
            ClientEvent::Warning(what) => self.trace.info(what),
            ClientEvent::StageFinished(_) | ClientEvent::TransactionFinished { .. } => {}
        }
    }

    fn trace_reply(&self, reply: &Reply) {
        let last = reply.lines.len().saturating_sub(1);
        for (number, text) in reply.lines.iter().enumerate() {
            let mark = if number < last { '-' } else { ' ' };
            self.trace.write_lines(TraceKind::Received, format!("{}{mark}{text}", reply.code).as_bytes());
        }
        self.trace_explanation(Some(explain::reply(reply.code)));
    }

    fn trace_explanation(&self, sentence: Option<&str>) {
        if let Some(sentence) = sentence.filter(|_| self.explanations_wanted) {
            self.trace.info(sentence);
        }
    }
}
