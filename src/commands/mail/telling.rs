//! A run as it is watched: the conversation for `--trace`, its sentences for `--explain`, the stages, a bar
//! while a long message is on its way.

use super::Mail;
use super::events::{Event, Note};
use super::run::Step;
use crate::error::Error;
use crate::net;
use crate::output::{Format, Output, Progress, Trace, TraceKind};
use crate::smtp::{Fact, Reply, Stage, Timed, explain};
use crate::time::HumanDuration;

/// What is shown of one connection.
pub struct Telling<'a> {
    output: &'a mut Output,
    trace: Trace,
    explains: bool,
    /// Whether each stage is told.
    says: bool,
    progress: Option<Progress>,
    failed: Option<Error>,
}

impl<'a> Telling<'a> {
    /// As the flags have it.
    pub fn new(mail: &Mail, output: &'a mut Output) -> Self {
        let style = output.style();
        Self {
            trace: Trace::new(mail.trace || mail.explain, style),
            explains: mail.explain,
            says: style.format == Format::Json || style.verbose > 0,
            progress: None,
            failed: None,
            output,
        }
    }

    /// Something happened.
    pub fn hear(&mut self, step: Step<'_>) {
        match step {
            Step::Connected { peer, resolve, connect } => {
                self.trace.info(&format!("connected to {peer} in {}", HumanDuration(connect)));
                self.stage(Timed { stage: Stage::Resolve, took: resolve });
                self.stage(Timed { stage: Stage::Connect, took: connect });
            }
            Step::Fact(Fact::Stage(timed)) => {
                self.clear();
                self.stage(*timed);
            }
            Step::Fact(fact) => self.show(fact),
        }
    }

    /// Nothing more is on its way. What could not be written does not stop a mail, and is told then.
    pub fn end(mut self) -> Option<Error> {
        self.clear();
        self.failed
    }

    fn clear(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.clear();
        }
    }

    fn stage(&mut self, timed: Timed) {
        let told = if self.says { self.output.emit(&Event::Fact(Note::Stage(timed))) } else { Ok(()) };
        self.failed = self.failed.take().or(told.err());
    }

    fn show(&mut self, fact: &Fact) {
        match fact {
            Fact::Sent(text) => {
                self.trace.write_lines(TraceKind::Sent, text.as_bytes());
                self.explain(explain::command(text));
            }
            Fact::Heard(reply) => self.reply(reply),
            Fact::Nonsense(text) => self.trace.write_lines(TraceKind::Received, text.as_bytes()),
            Fact::Encrypted => {
                self.trace.set_encrypted(true);
                self.trace.info("from here on the line is encrypted");
                self.explain(Some(explain::ENCRYPTED));
            }
            Fact::Body(octets) => {
                self.trace.info(&format!("{octets} bytes of message"));
                self.explain(Some(explain::BODY));
                self.progress = Some(Progress::new(Some(*octets as u64), self.output.style(), net::now()));
            }
            Fact::Going(octets) => {
                if let Some(progress) = &mut self.progress {
                    progress.set_position(*octets, net::now());
                }
            }
            Fact::Odd(what) => self.trace.info(what),
            Fact::Stage(_) | Fact::Mailed { .. } => {}
        }
    }

    fn reply(&self, reply: &Reply) {
        let last = reply.lines.len().saturating_sub(1);
        for (number, text) in reply.lines.iter().enumerate() {
            let mark = if number < last { '-' } else { ' ' };
            self.trace.write_lines(TraceKind::Received, format!("{}{mark}{text}", reply.code).as_bytes());
        }
        self.explain(Some(explain::reply(reply.code)));
    }

    fn explain(&self, sentence: Option<&str>) {
        if let Some(sentence) = sentence.filter(|_| self.explains) {
            self.trace.info(sentence);
        }
    }
}
