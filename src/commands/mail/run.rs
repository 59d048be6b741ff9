//! One run: resolve, connect, carry the dialogue.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::Mail;
use super::telling::Telling;
use crate::conversation::Actions;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::host;
use crate::net::tls::{Certificate, ClientSide, Seen, Session};
use crate::net::{self, Later, Link, Patience, Signals};
use crate::output::Output;
use crate::smtp::{self, Client, Done, Fact, Plan, Security, Stage, Timed};
use crate::time::Moment;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a TLS handshake may take at most.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// How long the server may take none of the message (RFC 5321 §4.5.3.2.5).
const STALL: Duration = Duration::from_secs(180);

/// One run.
pub struct Run<'a> {
    pub mail: &'a Mail,
    pub started: Moment,
}

/// What happens on the way.
#[derive(Clone, Copy)]
pub enum Step<'a> {
    /// The line is made.
    Connected {
        /// To whom.
        peer: SocketAddr,
        /// How long the name took.
        resolve: Duration,
        /// How long the handshake of TCP took.
        connect: Duration,
    },
    /// The dialogue tells something.
    Fact(&'a Fact),
}

/// What is known of the line.
#[derive(Default)]
pub struct Line {
    pub peer: Option<String>,
    pub tls: Option<&'static str>,
    pub certificates: Vec<Certificate>,
    pub stages: BTreeMap<Stage, Duration>,
    /// Whether a signal or the deadline has ended it.
    pub is_cut: bool,
    /// What was told on the way and could not be written.
    pub unwritten: Option<Error>,
}

impl Run<'_> {
    /// When everything must be over.
    pub fn until(&self) -> Option<Moment> {
        self.mail.deadline.map(|deadline| self.started + deadline)
    }

    /// Connects, carries the dialogue, and tells it.
    pub fn carry(
        &self,
        plan: Plan,
        tls: Option<&ClientSide>,
        output: &mut Output,
        signals: &mut Signals,
    ) -> Result<(Done, Line)> {
        let mut telling = Telling::new(self.mail, output);
        let (done, mut line) = self.dialogue(plan, tls, signals, &mut |step| telling.hear(step))?;
        line.unwritten = telling.end();
        Ok((done, line))
    }

    /// Connects and carries the dialogue.
    pub fn dialogue(
        &self,
        mut plan: Plan,
        tls: Option<&ClientSide>,
        signals: &mut Signals,
        tell: &mut dyn FnMut(Step<'_>),
    ) -> Result<(Done, Line)> {
        let mail = self.mail;
        let mut line = Line::default();
        let until = self.until();
        let begun = net::now();
        let within = |limit: Moment| until.map_or(limit, |until| until.min(limit));
        let is_cut = |error: &Error| {
            matches!(error.exit(), Exit::Interrupted | Exit::Terminated)
                || until.is_some_and(|until| until <= net::now())
        };
        let never = |plan, stage, error: Error, line| {
            let line = Line { is_cut: is_cut(&error), ..line };
            Ok((Client::new(plan, begun).never_connected(stage, error), line))
        };
        let found = mail.transport.find(until, signals).and_then(|addresses| {
            mail.load.be_polite(&addresses)?;
            Ok(addresses)
        });
        let addresses = match found {
            Ok(addresses) => addresses,
            Err(error) => return never(plan, Stage::Resolve, error, line),
        };
        let resolved = net::now();
        line.stages.insert(Stage::Resolve, resolved - begun);
        let dialled = match net::dial(mail.transport.host(), &addresses, within(resolved + CONNECT), signals) {
            Ok(dialled) => dialled,
            Err(error) => return never(plan, Stage::Connect, error, line),
        };
        let (resolve, connect) = (resolved - begun, dialled.at - resolved);
        line.stages.insert(Stage::Connect, connect);
        line.peer = Some(dialled.peer.to_string());
        if mail.helo.is_none() {
            plan.name = smtp::host_name(&host::hostname(), dialled.local().unwrap_or(Ipv4Addr::LOCALHOST.into()));
        }
        tell(Step::Connected { peer: dialled.peer, resolve, connect });
        let (session, seen) = self.session(tls)?;
        let patience = Patience {
            handshake: mail.timeout.unwrap_or(HANDSHAKE).min(HANDSHAKE),
            stall: mail.timeout.unwrap_or(STALL),
        };
        let mut link = match (plan.security, session) {
            (Security::Tls, session) => Link::new(dialled.socket, session, patience, dialled.at),
            (_, Some(session)) => Link::new(dialled.socket, None, patience, dialled.at)
                .with_upgrade(Later::Session(Box::new(session)), patience.handshake),
            (_, None) => Link::new(dialled.socket, None, patience, dialled.at),
        };
        let mut client = Client::new(plan, dialled.at);
        let stages = &mut line.stages;
        let mut hear = |fact| {
            if let Fact::Stage(Timed { stage, took }) = fact {
                *stages.entry(stage).or_default() += took;
            }
            tell(Step::Fact(&fact));
            Ok(())
        };
        // Only a signal or the deadline: what the server has said by then, and what it may have done, counts.
        if let Err(error) = net::carry(&mut link, &mut client, until, signals, &mut hear) {
            line.is_cut = true;
            let mut out = Actions::default();
            client.give_up(error, net::now(), &mut out);
            out.events().try_for_each(&mut hear)?;
        }
        line.tls = link.tls().and_then(net::tls::version);
        line.certificates = seen.map(|seen| seen.chain()).unwrap_or_default();
        Ok((client.done(), line))
    }

    /// Our side of TLS. A load has no eye on the certificates, and may take sessions up again.
    fn session(&self, tls: Option<&ClientSide>) -> Result<(Option<Session>, Option<Seen>)> {
        let name = self.mail.transport.name();
        Ok(match tls {
            Some(tls) if self.mail.load.is_wanted() => (Some(tls.connection(name)?), None),
            Some(tls) => {
                let (session, seen) = tls.watched(name)?;
                (Some(session), Some(seen))
            }
            None => (None, None),
        })
    }
}
