//! Service of one thread of the mail server: accepts connections and reports session events.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::counters::Counters;
use super::events::{Failed, FaultFired, Login, MailServeEvent, Rejected};
use super::store::{MessageStore, StoredMessage};
use super::tls::{ServerCerts, TLS_LISTENER};
use crate::commands::dialogue_trace::{DialogueTrace, TraceArgs, TracedProtocol};
use crate::commands::report;
use crate::net::{Accepted, Incoming, Notice, Service};
use crate::output::{Output, Recorder, WaitNotice};
use crate::protocol::{Traced, WaitReporter};
use crate::smtp::server::fault::{Effect, FaultPoint, FaultRules, FiredRule};
use crate::smtp::server::{self, ClientInfo, FaultInjector, ServerEvent, TOO_MANY_CONNECTIONS};
use crate::time::Moment;

/// Connection counters that all threads share.
pub(super) struct SharedCounters {
    pub accepted_connections: AtomicU64,
    pub open_connections: AtomicU64,
    pub max_connections: u64,
}

pub(super) struct MailService {
    pub store: Rc<MessageStore>,
    pub faults: Arc<FaultRules>,
    pub recorder: Recorder<MailServeEvent>,
    pub output: Output,
    pub trace: TraceArgs,
    pub is_waiting_reported: bool,
    /// Present until the first client connects.
    pub first_wait: Option<WaitNotice>,
    /// Whether events are printed (not with `--quiet`).
    pub events_wanted: bool,
    pub certs: Option<ServerCerts>,
    pub shared: Arc<SharedCounters>,
    /// Counters of this thread.
    pub counters: Counters,
}

impl MailService {
    /// Returns the rule that fires for a new connection, and its effect.
    fn evaluate_fault(&mut self, point: FaultPoint, session: u64) -> Option<(usize, Effect)> {
        let faults = Arc::clone(&self.faults);
        let FiredRule { rule_index, ordinal, action } = faults.evaluate(|found| found == point, "")?;
        self.on_event(ServerEvent::Fault { session, rule_index, ordinal });
        Some((rule_index, action.effect.clone()))
    }
}

fn rejected_event(
    server::RejectedCommand { client, stage, command, reply }: server::RejectedCommand,
) -> MailServeEvent {
    MailServeEvent::Rejected(Rejected {
        session: client.session,
        peer: report::display_peer(client.peer),
        stage,
        command: command.chars().take(MAX_LOGGED_CHARS).collect(),
        code: reply.code,
        text: reply.text.into_owned(),
    })
}

/// Limit of characters of a command in an event.
const MAX_LOGGED_CHARS: usize = 512;

impl Service for MailService {
    type Protocol = Traced<WaitReporter<FaultInjector<MessageStore>>, DialogueTrace>;

    fn accepted(&mut self, Incoming { peer, listener_group }: Incoming, now: Moment) -> Accepted<Self::Protocol> {
        let is_waiting_reported = self.is_waiting_reported;
        let observer =
            self.trace.server_dialogue_trace(TracedProtocol::Smtp, peer, (self.output.style(), self.recorder.notes()));
        let wrap = |protocol| Traced::new(WaitReporter::new(protocol, is_waiting_reported, now), observer);
        self.counters.connections += 1;
        if let Some(notice) = self.first_wait.take() {
            notice.done();
        }
        let session = self.shared.accepted_connections.fetch_add(1, Ordering::Relaxed) + 1;
        let open = self.shared.open_connections.load(Ordering::Relaxed);
        let client = ClientInfo { peer, session, ..ClientInfo::default() };
        let protocol = FaultInjector::new(Rc::clone(&self.store), Arc::clone(&self.faults), client, now);
        // Other threads may accept one more at the same moment: the limit is approximate.
        let protocol = if open < self.shared.max_connections {
            self.shared.open_connections.fetch_add(1, Ordering::Relaxed);
            protocol
        } else {
            protocol.with_rejection(TOO_MANY_CONNECTIONS)
        };
        // On an implicit-TLS port, a 421 would need a handshake, which an attacker can stall: close.
        if protocol.is_rejected() && listener_group == TLS_LISTENER {
            return Accepted {
                protocol: wrap(protocol.with_handshake_effect(Effect::Drop)),
                tls: None,
                start_tls: None,
            };
        }
        let Some(certs) = self.certs.clone() else {
            return Accepted { protocol: wrap(protocol), tls: None, start_tls: None };
        };
        let fired = self.evaluate_fault(FaultPoint::Certificate, session).map(|(rule, _)| rule);
        let faulty = certs.faulty.into_iter().find(|(rule, _)| Some(*rule) == fired);
        let tls = faulty.map_or(certs.regular.tls, |(_, tls)| tls);
        if listener_group != TLS_LISTENER {
            return Accepted { protocol: wrap(protocol), tls: None, start_tls: Some(tls) };
        }
        match self.evaluate_fault(FaultPoint::TlsHandshake, session) {
            Some((_, effect)) => {
                Accepted { protocol: wrap(protocol.with_handshake_effect(effect)), tls: None, start_tls: None }
            }
            None => Accepted { protocol: wrap(protocol), tls: Some(tls), start_tls: None },
        }
    }

    fn on_event(&mut self, event: ServerEvent<StoredMessage>) {
        let event = match event {
            ServerEvent::Accepted(stored, latency) => {
                let mail = stored.commit();
                self.counters.count_message(&mail, latency);
                self.store.quota.acknowledge();
                self.events_wanted.then_some(MailServeEvent::Message(mail))
            }
            ServerEvent::Rejected(rejected) => {
                self.counters.rejected += 1;
                self.events_wanted.then(|| rejected_event(rejected))
            }
            ServerEvent::Login { client, user, mechanism, succeeded: ok } => {
                self.counters.logins += u64::from(ok);
                self.events_wanted.then(|| {
                    let (session, peer) = (client.session, report::display_peer(client.peer));
                    let user = user.chars().take(MAX_LOGGED_CHARS).collect();
                    MailServeEvent::Login(Login { session, peer, user, mechanism: mechanism.name(), ok })
                })
            }
            ServerEvent::Fault { session, rule_index, ordinal: number } => {
                self.counters.faults += 1;
                let rule = || self.faults.rule_text(rule_index).to_owned();
                self.events_wanted.then(|| MailServeEvent::Fault(FaultFired { session, rule: rule(), number }))
            }
            ServerEvent::Violation { client, what } => {
                let what = format!("{}: {what}", report::display_peer(client.peer));
                self.events_wanted.then_some(MailServeEvent::Notice { what })
            }
            ServerEvent::Waiting { client, report } => {
                self.recorder.note(&format!("{}: {report}", report::display_peer(client.peer)));
                None
            }
            ServerEvent::Failed { client, reason: why } => {
                self.counters.failed += 1;
                let (session, peer) = (client.session, client.peer);
                self.events_wanted
                    .then(|| MailServeEvent::Failed(Failed { session, peer: report::display_peer(peer), why }))
            }
        };
        if let Some(event) = event {
            self.recorder.emit(event);
        }
    }

    fn on_closed(&mut self, protocol: Self::Protocol) {
        if !protocol.session.session.is_rejected() {
            self.shared.open_connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn on_notice(&mut self, notice: Notice) {
        if self.events_wanted {
            self.recorder.emit(MailServeEvent::Notice { what: notice.to_string() });
        }
    }
}
