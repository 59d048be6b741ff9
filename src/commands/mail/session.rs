//! One run: resolve, connect, carry the dialogue.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::Mail;
use super::observer::Observer;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::host;
use crate::net::tls::{Certificate, ClientTls, PeerChain, Session};
use crate::net::{self, Connection, ConnectionTimeouts, Signals, StartTls};
use crate::output::Output;
use crate::protocol::Actions;
use crate::smtp::{self, ClientConfig, ClientEvent, ClientSession, Security, SessionResult, Stage, StageTiming};
use crate::time::Moment;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a TLS handshake may take at most.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the server may take none of the message (RFC 5321 §4.5.3.2.5).
const STALL_TIMEOUT: Duration = Duration::from_secs(180);

/// One run.
pub(super) struct SessionRunner<'a> {
    pub mail: &'a Mail,
    pub started: Moment,
}

/// What happens on the way.
#[derive(Clone, Copy)]
pub(super) enum ProgressEvent<'a> {
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
    Client(&'a ClientEvent),
}

/// What is known of the line.
#[derive(Default)]
pub(super) struct ConnectionInfo {
    pub peer: Option<String>,
    pub tls: Option<&'static str>,
    pub certificates: Vec<Certificate>,
    pub stages: BTreeMap<Stage, Duration>,
    /// Whether a signal or the deadline has ended it.
    pub is_interrupted: bool,
    /// What was told on the way and could not be written.
    pub write_error: Option<Error>,
}

impl SessionRunner<'_> {
    /// When everything must be over.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.mail.deadline.map(|deadline| self.started + deadline)
    }

    /// Connects, carries the dialogue, and tells it.
    pub(super) fn run(
        &self,
        config: ClientConfig,
        tls: Option<&ClientTls>,
        output: &mut Output,
        signals: &mut Signals,
    ) -> Result<(SessionResult, ConnectionInfo)> {
        let mut telling = Observer::new(self.mail, output);
        let (done, mut line) = self.run_with(config, tls, signals, &mut |step| telling.on_event(step))?;
        line.write_error = telling.finish();
        Ok((done, line))
    }

    /// Connects and carries the dialogue.
    pub(super) fn run_with(
        &self,
        mut config: ClientConfig,
        tls: Option<&ClientTls>,
        signals: &mut Signals,
        on_event: &mut dyn FnMut(ProgressEvent<'_>),
    ) -> Result<(SessionResult, ConnectionInfo)> {
        let mail = self.mail;
        let mut line = ConnectionInfo::default();
        let until = self.deadline();
        let begun = net::now();
        let within = |limit: Moment| until.map_or(limit, |until| until.min(limit));
        let is_cut = |error: &Error| {
            matches!(error.exit(), Exit::Interrupted | Exit::Terminated)
                || until.is_some_and(|until| until <= net::now())
        };
        let never = |plan, stage, error: Error, line| {
            let line = ConnectionInfo { is_interrupted: is_cut(&error), ..line };
            Ok((ClientSession::new(plan, begun).connect_failed(stage, error), line))
        };
        let found = mail.transport.resolve(until, signals).and_then(|addresses| {
            mail.load.check_load_allowed(&addresses)?;
            Ok(addresses)
        });
        let addresses = match found {
            Ok(addresses) => addresses,
            Err(error) => return never(config, Stage::Resolve, error, line),
        };
        let resolved = net::now();
        line.stages.insert(Stage::Resolve, resolved - begun);
        let dialled = match net::connect(mail.transport.host(), &addresses, within(resolved + CONNECT_TIMEOUT), signals)
        {
            Ok(dialled) => dialled,
            Err(error) => return never(config, Stage::Connect, error, line),
        };
        let (resolve, connect) = (resolved - begun, dialled.connected_at - resolved);
        line.stages.insert(Stage::Connect, connect);
        line.peer = Some(dialled.peer.to_string());
        if mail.helo.is_none() {
            config.helo_name = smtp::domain_or_address_literal(
                &host::hostname(),
                dialled.local_ip().unwrap_or(Ipv4Addr::LOCALHOST.into()),
            );
        }
        on_event(ProgressEvent::Connected { peer: dialled.peer, resolve, connect });
        let (session, seen) = self.tls_session(tls)?;
        let patience = ConnectionTimeouts {
            handshake: mail.timeout.unwrap_or(HANDSHAKE_TIMEOUT).min(HANDSHAKE_TIMEOUT),
            stall: mail.timeout.unwrap_or(STALL_TIMEOUT),
        };
        let mut link = match (config.security, session) {
            (Security::Tls, session) => Connection::new(dialled.socket, session, patience, dialled.connected_at),
            (_, Some(session)) => Connection::new(dialled.socket, None, patience, dialled.connected_at)
                .with_start_tls(StartTls::Client(Box::new(session)), patience.handshake),
            (_, None) => Connection::new(dialled.socket, None, patience, dialled.connected_at),
        };
        let mut client = ClientSession::new(config, dialled.connected_at);
        let stages = &mut line.stages;
        let mut hear = |fact| {
            if let ClientEvent::StageFinished(StageTiming { stage, took }) = fact {
                *stages.entry(stage).or_default() += took;
            }
            on_event(ProgressEvent::Client(&fact));
            Ok(())
        };
        // Only a signal or the deadline: what the server has said by then, and what it may have done, counts.
        if let Err(error) = net::run_client(&mut link, &mut client, until, signals, &mut hear) {
            line.is_interrupted = true;
            let mut out = Actions::default();
            client.abort(error, net::now(), &mut out);
            out.events().try_for_each(&mut hear)?;
        }
        line.tls = link.tls().and_then(net::tls::version);
        line.certificates = seen.map(|seen| seen.certificates()).unwrap_or_default();
        Ok((client.into_result(), line))
    }

    /// Our side of TLS. A load has no eye on the certificates, and may take sessions up again.
    fn tls_session(&self, tls: Option<&ClientTls>) -> Result<(Option<Session>, Option<PeerChain>)> {
        let name = self.mail.transport.server_name();
        Ok(match tls {
            Some(tls) if self.mail.load.is_wanted() => (Some(tls.connection(name)?), None),
            Some(tls) => {
                let (session, seen) = tls.connection_with_chain(name)?;
                (Some(session), Some(seen))
            }
            None => (None, None),
        })
    }
}
