//! One thread of the mail server: who is let in, and what is told of them.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::counters::Counters;
use super::events::{Failed, FaultFired, Login, MailServeEvent, MailServeReport, Refused};
use super::store::{MessageStore, StoredMessage};
use super::tls::ServerCerts;
use crate::commands::report;
use crate::net::{self, Accepted, Incoming, Notice, Service};
use crate::output::Recorder;
use crate::smtp::server::fault::{Effect, FaultPoint, FiredRule};
use crate::smtp::server::{self, ClientInfo, ServerEvent, ServerSession, TOO_MANY_CONNECTIONS};
use crate::time::Moment;

/// The door behind which TLS begins with the first octet.
pub(super) const TLS_LISTENER: usize = 1;

/// What all threads share.
pub(super) struct SharedCounters {
    /// Connections so far.
    pub accepted_connections: AtomicU64,
    /// Connections at the moment.
    pub open_connections: AtomicU64,
    /// How many there may be at once.
    pub max_connections: u64,
}

/// The service of one thread.
pub(super) struct MailService {
    /// Where mails go.
    pub store: Rc<MessageStore>,
    /// Who is told.
    pub recorder: Recorder<MailServeReport>,
    /// Whether anybody reads what is told.
    pub events_wanted: bool,
    /// What is shown under TLS.
    pub certs: Option<ServerCerts>,
    /// What all threads share.
    pub shared: Arc<SharedCounters>,
    /// What this one counts.
    pub counters: Counters,
}

impl MailService {
    /// What a rule has in mind for a connection that has just come.
    fn evaluate_fault(&mut self, point: FaultPoint, session: u64) -> Option<(usize, Effect)> {
        let office = Rc::clone(&self.store);
        let FiredRule { rule_index: rule, ordinal: number, action } =
            office.config.faults.evaluate(|found| found == point, "")?;
        self.on_event(ServerEvent::Fault { session, rule_index: rule, ordinal: number });
        Some((rule, action.effect.clone()))
    }
}

fn refused_event(
    server::RejectedCommand { client, stage, command, reply: answer }: server::RejectedCommand,
) -> MailServeEvent {
    MailServeEvent::Refused(Refused {
        time: net::now(),
        session: client.session,
        peer: report::display_peer(client.peer),
        stage,
        command: command.chars().take(MAX_LOGGED_CHARS).collect(),
        code: answer.code,
        text: answer.text.into_owned(),
    })
}

/// The most letters of a command that a log keeps.
const MAX_LOGGED_CHARS: usize = 512;

impl Service for MailService {
    type Protocol = ServerSession<MessageStore>;

    fn accepted(
        &mut self,
        Incoming { peer, listener_group: door }: Incoming,
        now: Moment,
    ) -> Accepted<ServerSession<MessageStore>> {
        self.counters.connections += 1;
        let session = self.shared.accepted_connections.fetch_add(1, Ordering::Relaxed) + 1;
        let present = self.shared.open_connections.load(Ordering::Relaxed);
        let talk =
            ServerSession::new(Rc::clone(&self.store), ClientInfo { peer, session, ..ClientInfo::default() }, now);
        // Threads may let in one more at the same moment; the limit is no matter of one more or less.
        let talk = if present < self.shared.max_connections {
            self.shared.open_connections.fetch_add(1, Ordering::Relaxed);
            talk
        } else {
            talk.with_rejection(TOO_MANY_CONNECTIONS)
        };
        // Behind TLS nothing can be told before there is a handshake, which would be a place to stay in.
        if talk.is_rejected() && door == TLS_LISTENER {
            return Accepted { protocol: talk.with_handshake_effect(Effect::Drop), tls: None, start_tls: None };
        }
        let Some(sides) = self.certs.clone() else { return Accepted { protocol: talk, tls: None, start_tls: None } };
        let wrong = self.evaluate_fault(FaultPoint::Certificate, session).map(|(rule, _)| rule);
        let faulty = sides.faulty.into_iter().find(|(rule, _)| Some(*rule) == wrong);
        let side = faulty.map_or(sides.regular, |(_, side)| side);
        if door != TLS_LISTENER {
            return Accepted { protocol: talk, tls: None, start_tls: Some(side) };
        }
        match self.evaluate_fault(FaultPoint::TlsHandshake, session) {
            Some((_, instead)) => {
                Accepted { protocol: talk.with_handshake_effect(instead), tls: None, start_tls: None }
            }
            None => Accepted { protocol: talk, tls: Some(side), start_tls: None },
        }
    }

    fn on_event(&mut self, fact: ServerEvent<StoredMessage>) {
        let line = match fact {
            ServerEvent::Accepted(taken, took) => {
                let mail = taken.commit();
                self.counters.count_message(&mail, took);
                self.store.quota.acknowledge();
                self.events_wanted.then_some(MailServeEvent::Message(mail))
            }
            ServerEvent::Rejected(refused) => {
                self.counters.refused += 1;
                self.events_wanted.then(|| refused_event(refused))
            }
            ServerEvent::Login { client, user, mechanism, succeeded: ok } => {
                self.counters.logins += u64::from(ok);
                self.events_wanted.then(|| {
                    let (time, session, peer) = (net::now(), client.session, report::display_peer(client.peer));
                    let user = user.chars().take(MAX_LOGGED_CHARS).collect();
                    MailServeEvent::Login(Login { time, session, peer, user, mechanism: mechanism.name(), ok })
                })
            }
            ServerEvent::Fault { session, rule_index: rule, ordinal: number } => {
                self.counters.faults += 1;
                let text = |rule| self.store.config.faults.rule_text(rule).to_owned();
                self.events_wanted.then(|| MailServeEvent::Fault(FaultFired { session, rule: text(rule), number }))
            }
            ServerEvent::Failed { client, reason: why } => {
                self.counters.failed += 1;
                let (session, peer) = (client.session, client.peer);
                self.events_wanted.then(|| {
                    MailServeEvent::Failed(Failed { time: net::now(), session, peer: report::display_peer(peer), why })
                })
            }
        };
        if let Some(line) = line {
            self.recorder.emit(MailServeReport::Event(line));
        }
    }

    fn on_closed(&mut self, talk: ServerSession<MessageStore>) {
        if !talk.is_rejected() {
            self.shared.open_connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn on_notice(&mut self, Notice::Exhausted(word): Notice) {
        if self.events_wanted {
            let what = format!("no new connections for a moment: {word}");
            self.recorder.emit(MailServeReport::Event(MailServeEvent::Notice { what }));
        }
    }
}
