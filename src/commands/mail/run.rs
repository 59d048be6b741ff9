//! One run: resolve, connect, carry the dialogue, trace it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Mail;
use super::events::{Event, Note};
use crate::error::Result;
use crate::net::tls::{Certificate, ClientSide};
use crate::net::{self, Link, Patience, Signals};
use crate::output::{Direction, Form, Output, Trace};
use crate::smtp::{Client, Done, Fact, Plan, Security, Stage, Timed, explain};
use crate::time::{Moment, Shown};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// How long the server may take none of the message (RFC 5321 §4.5.3.2.5).
const STALL: Duration = Duration::from_secs(180);

/// One run.
pub struct Run<'a> {
    pub mail: &'a Mail,
    pub security: Security,
    pub started: Moment,
}

/// What is known of the line.
#[derive(Default)]
pub struct Line {
    pub peer: Option<String>,
    pub tls: Option<String>,
    pub certificates: Vec<Certificate>,
    pub stages: BTreeMap<Stage, Duration>,
}

impl Run<'_> {
    /// When everything must be over.
    pub fn until(&self) -> Option<Moment> {
        self.mail.deadline.map(|deadline| self.started + deadline)
    }

    /// Connects, carries the dialogue, and says what came of it.
    pub fn carry(
        &self,
        plan: Plan,
        tls: Option<&ClientSide>,
        output: &mut Output,
        signals: &mut Signals,
    ) -> Result<(Done, Line)> {
        let mail = self.mail;
        let mut line = Line::default();
        let mut trace = Trace::new(mail.trace || mail.explain, output.style());
        let sentence = |trace: Trace, text: Option<&str>| {
            if let Some(text) = text.filter(|_| mail.explain) {
                trace.remark(text);
            }
        };
        let until = self.until();
        let begun = net::now();
        let within = |limit: Moment| until.map_or(limit, |until| until.min(limit));
        let peer = mail.family.find(&mail.server, mail.port(), signals)?;
        let resolved = net::now();
        let dialled = net::dial(&mail.server.host, &[peer], within(resolved + CONNECT), signals)?;
        line.stages.insert(Stage::Resolve, resolved - begun);
        line.stages.insert(Stage::Connect, dialled.at - resolved);
        line.peer = Some(dialled.peer.to_string());
        trace.remark(&format!("connected to {} in {}", dialled.peer, Shown(dialled.at - resolved)));
        let name = mail.server_name.as_deref().unwrap_or(&mail.server.host);
        let session = tls.map(|tls| tls.connection(name)).transpose()?;
        let patience = Patience { handshake: HANDSHAKE, stall: mail.timeout.unwrap_or(STALL) };
        let mut link = match (self.security, session) {
            (Security::Tls, session) => Link::new(dialled.socket, session, patience, dialled.at),
            (_, Some(session)) => {
                Link::new(dialled.socket, None, patience, dialled.at).with_upgrade(session, HANDSHAKE)
            }
            (_, None) => Link::new(dialled.socket, None, patience, dialled.at),
        };
        let mut client = Client::new(plan, dialled.at);
        let says = output.style().form == Form::Json || output.style().verbose > 0;
        let stages = &mut line.stages;
        let tell = |fact| match fact {
            Fact::Sent(text) => {
                trace.lines(Direction::Sent, text.as_bytes());
                sentence(trace, explain::command(&text));
                Ok(())
            }
            Fact::Heard(reply) => {
                let last = reply.lines.len().saturating_sub(1);
                for (number, text) in reply.lines.iter().enumerate() {
                    let mark = if number < last { '-' } else { ' ' };
                    trace.lines(Direction::Received, format!("{}{mark}{text}", reply.code).as_bytes());
                }
                sentence(trace, Some(explain::reply(reply.code)));
                Ok(())
            }
            Fact::Encrypted => {
                trace.set_encrypted(true);
                trace.remark("from here on the line is encrypted");
                sentence(trace, Some(explain::ENCRYPTED));
                Ok(())
            }
            Fact::Body(octets) => {
                trace.remark(&format!("{octets} bytes of message, the final dot included"));
                sentence(trace, Some(explain::BODY));
                Ok(())
            }
            Fact::Odd(what) => {
                trace.remark(what);
                Ok(())
            }
            Fact::Stage(timed) => {
                let Timed { stage, took } = timed;
                *stages.entry(stage).or_default() += took;
                if says { output.event(&Event::Fact(Note::Stage(timed))) } else { Ok(()) }
            }
        };
        net::carry(&mut link, &mut client, until, signals, tell)?;
        line.tls = link.tls().and_then(net::tls::version);
        line.certificates = link.tls().map(net::tls::chain).unwrap_or_default();
        Ok((client.done(), line))
    }
}
