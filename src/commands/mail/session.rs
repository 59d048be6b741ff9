//! Runner of one session: resolve, connect, run the dialogue.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::Mail;
use super::observer::{Observer, ProgressEvent};
use crate::error::{Error, Result};
use crate::failure::{Failure, FailureKind};
use crate::host;
use crate::net::tls::{Certificate, ClientTls, PeerChain, TlsConnection};
use crate::net::{self, Connection, ConnectionTimeouts, Signals, StartTls};
use crate::output::{Output, WaitNotice};
use crate::protocol::{Actions, Turn};
use crate::smtp::{self, ClientConfig, ClientEvent, ClientSession, Security, SessionResult, Stage, StageTiming};
use crate::time::Moment;

/// Time limit for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time without progress while the message is sent (RFC 5321 §4.5.3.2.5).
const STALL_TIMEOUT: Duration = Duration::from_secs(180);

/// Runner with the flags and the start of the run.
pub(super) struct SessionRunner<'a> {
    pub mail: &'a Mail,
    pub started: Moment,
}

#[derive(Default)]
pub(super) struct ConnectionInfo {
    pub peer: Option<String>,
    pub tls: Option<&'static str>,
    pub certificates: Vec<Certificate>,
    pub stages: BTreeMap<Stage, Duration>,
    /// Set if a signal or the deadline ended the session.
    pub is_interrupted: bool,
    /// First error while writing events.
    pub write_error: Option<Error>,
}

impl SessionRunner<'_> {
    /// Deadline of the whole run.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.mail.deadline.map(|deadline| self.started + deadline)
    }

    /// Connects, runs the session and reports its events.
    pub(super) fn run(
        &self,
        config: ClientConfig,
        tls: Option<&ClientTls>,
        output: &mut Output,
        signals: &mut Signals,
    ) -> Result<(SessionResult, ConnectionInfo)> {
        let notice = WaitNotice::new(output);
        notice.waiting_for(format!("connecting to {}", self.mail.transport.host_and_port()));
        let mut observer = Observer::new(self.mail, &notice, output);
        let (mut result, mut connection) =
            self.run_with(config, tls, signals, &mut |event| observer.on_event(event))?;
        let interruption = result
            .failure
            .take_if(|failure| matches!(failure.kind(), FailureKind::Interrupted | FailureKind::Terminated));
        if let Some(failure) = interruption {
            let failure = Failure::new(failure.kind(), notice.describe_interruption(failure.message()));
            result.failure = Some(failure.in_stage(result.stage.name()));
        }
        connection.write_error = observer.finish();
        Ok((result, connection))
    }

    /// Connects and runs the session.
    pub(super) fn run_with(
        &self,
        mut config: ClientConfig,
        tls: Option<&ClientTls>,
        signals: &mut Signals,
        on_event: &mut dyn FnMut(ProgressEvent<'_>),
    ) -> Result<(SessionResult, ConnectionInfo)> {
        let mail = self.mail;
        let mut info = ConnectionInfo::default();
        let deadline = self.deadline();
        let started = net::now();
        let within = |limit: Moment| deadline.map_or(limit, |deadline| deadline.min(limit));
        let is_interruption = |failure: &Failure| {
            matches!(failure.kind(), FailureKind::Interrupted | FailureKind::Terminated)
                || deadline.is_some_and(|deadline| deadline <= net::now())
        };
        let failed = |config, stage, failure: Failure, info| {
            let info = ConnectionInfo { is_interrupted: is_interruption(&failure), ..info };
            Ok((ClientSession::new(config, started).connect_failed(stage, failure), info))
        };
        let found = mail.transport.resolve(deadline, signals).and_then(|addresses| {
            mail.load.check_load_allowed(&addresses)?;
            Ok(addresses)
        });
        let addresses = match found {
            Ok(addresses) => addresses,
            Err(error) => return failed(config, Stage::Resolve, error, info),
        };
        let resolved = net::now();
        info.stages.insert(Stage::Resolve, resolved - started);
        let connected = match net::connect(
            mail.transport.host(),
            &addresses,
            mail.transport.source(),
            within(resolved + CONNECT_TIMEOUT),
            signals,
        ) {
            Ok(connected) => connected,
            Err(error) => return failed(config, Stage::Connect, error, info),
        };
        let (resolve, connect) = (resolved - started, connected.connected_at - resolved);
        info.stages.insert(Stage::Connect, connect);
        info.peer = Some(connected.peer.to_string());
        if mail.helo.is_none() {
            config.helo_name = smtp::domain_or_address_literal(
                &host::hostname(),
                connected.local_ip().unwrap_or(Ipv4Addr::LOCALHOST.into()),
            );
        }
        on_event(ProgressEvent::Connected { peer: connected.peer, resolve, connect });
        let (tls, chain) = self.tls_connection(tls)?;
        let timeouts = ConnectionTimeouts {
            handshake: mail.timeout.unwrap_or(HANDSHAKE_TIMEOUT).min(HANDSHAKE_TIMEOUT),
            stall: mail.timeout.unwrap_or(STALL_TIMEOUT),
        };
        let mut connection = match (config.security, tls) {
            (Security::Tls, tls) => Connection::new(connected.socket, tls, timeouts, connected.connected_at),
            (_, Some(tls)) => Connection::new(connected.socket, None, timeouts, connected.connected_at)
                .with_start_tls(StartTls::Client(Box::new(tls)), timeouts.handshake),
            (_, None) => Connection::new(connected.socket, None, timeouts, connected.connected_at),
        };
        let mut client = ClientSession::new(config, connected.connected_at);
        let stages = &mut info.stages;
        let mut record = |event| {
            if let ClientEvent::StageFinished(StageTiming { stage, took }) = event {
                *stages.entry(stage).or_default() += took;
            }
            on_event(ProgressEvent::Client(&event));
            Ok(())
        };
        // Fails only on a signal or the deadline; replies received until then count.
        if let Err(error) = net::run_client(&mut connection, &mut client, deadline, signals, &mut record) {
            info.is_interrupted = true;
            let mut actions = Actions::default();
            client.abort(error, &mut Turn { now: net::now(), actions: &mut actions });
            actions.events().try_for_each(&mut record)?;
        }
        info.tls = connection.tls().and_then(net::tls::version);
        info.certificates = chain.map(|chain| chain.certificates()).unwrap_or_default();
        Ok((client.into_result(), info))
    }

    /// Creates a TLS connection. A load does not record certificates and may resume TLS sessions.
    fn tls_connection(&self, tls: Option<&ClientTls>) -> Result<(Option<TlsConnection>, Option<PeerChain>)> {
        let name = self.mail.transport.server_name();
        Ok(match tls {
            Some(tls) if self.mail.load.is_wanted() => (Some(tls.connection(name)?), None),
            Some(tls) => {
                let (connection, chain) = tls.connection_with_chain(name)?;
                (Some(connection), Some(chain))
            }
            None => (None, None),
        })
    }
}
