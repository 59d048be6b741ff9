//! One thread of the mail server: who is let in, and what is told of them.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::events::{Event, Failed, Fault, Line, Login, Refused};
use super::keep::{Office, Taken};
use super::tally::Tally;
use super::tls::Sides;
use crate::commands::told;
use crate::net::{self, Arrival, Notice, Service, Welcome};
use crate::output::Recorder;
use crate::smtp::fault::{Fired, Instead, Place};
use crate::smtp::server::{self, Client, Fact, Server, TOO_MANY_CONNECTIONS};
use crate::time::Moment;

/// The door behind which TLS begins with the first octet.
pub const TLS_DOOR: usize = 1;

/// What all threads share.
pub struct Shared {
    /// Connections so far.
    pub sessions: AtomicU64,
    /// Connections at the moment.
    pub present: AtomicU64,
    /// How many there may be at once.
    pub most: u64,
}

/// The service of one thread.
pub struct Desk {
    /// Where mails go.
    pub office: Rc<Office>,
    /// Who is told.
    pub recorder: Recorder<Event>,
    /// Whether anybody reads what is told.
    pub listens: bool,
    /// What is shown under TLS.
    pub sides: Option<Sides>,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// What this one counts.
    pub tally: Tally,
}

impl Desk {
    /// What a rule has in mind for a connection that has just come.
    fn decide(&mut self, place: Place, session: u64) -> Option<(usize, Instead)> {
        let office = Rc::clone(&self.office);
        let Fired { rule, number, action } = office.rules.faults.decide(|found| found == place, "")?;
        self.fact(Fact::Fault { session, rule, number });
        Some((rule, action.instead.clone()))
    }
}

fn refused_line(server::Refused { client, stage, command, answer }: server::Refused) -> Line {
    Line::Refused(Refused {
        time: net::now(),
        session: client.session,
        peer: told::display_peer(client.peer),
        stage,
        command: command.chars().take(LOGGED).collect(),
        code: answer.code,
        text: answer.text.into_owned(),
    })
}

/// The most letters of a command that a log keeps.
const LOGGED: usize = 512;

impl Service for Desk {
    type Talk = Server<Office>;

    fn accepted(&mut self, Arrival { peer, door }: Arrival, now: Moment) -> Welcome<Server<Office>> {
        self.tally.connections += 1;
        let session = self.shared.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let present = self.shared.present.load(Ordering::Relaxed);
        let talk = Server::new(Rc::clone(&self.office), Client { peer, session, ..Client::default() }, now);
        // Threads may let in one more at the same moment; the limit is no matter of one more or less.
        let talk = if present < self.shared.most {
            self.shared.present.fetch_add(1, Ordering::Relaxed);
            talk
        } else {
            talk.refused(TOO_MANY_CONNECTIONS)
        };
        // Behind TLS nothing can be told before there is a handshake, which would be a place to stay in.
        if talk.is_refused() && door == TLS_DOOR {
            return Welcome { talk: talk.without_handshake(Instead::Drop), tls: None, upgrade: None };
        }
        let Some(sides) = self.sides.clone() else { return Welcome { talk, tls: None, upgrade: None } };
        let wrong = self.decide(Place::Certificate, session).map(|(rule, _)| rule);
        let faulty = sides.faulty.into_iter().find(|(rule, _)| Some(*rule) == wrong);
        let side = faulty.map_or(sides.usual, |(_, side)| side);
        if door != TLS_DOOR {
            return Welcome { talk, tls: None, upgrade: Some(side) };
        }
        match self.decide(Place::Handshake, session) {
            Some((_, instead)) => Welcome { talk: talk.without_handshake(instead), tls: None, upgrade: None },
            None => Welcome { talk, tls: Some(side), upgrade: None },
        }
    }

    fn fact(&mut self, fact: Fact<Taken>) {
        let line = match fact {
            Fact::Taken(taken, took) => {
                let mail = taken.told();
                self.tally.mail(&mail, took);
                self.office.budget.told();
                self.listens.then_some(Line::Message(mail))
            }
            Fact::Refused(refused) => {
                self.tally.refused += 1;
                self.listens.then(|| refused_line(refused))
            }
            Fact::Login { client, user, mechanism, ok } => {
                self.tally.logins += u64::from(ok);
                self.listens.then(|| {
                    let (time, session, peer) = (net::now(), client.session, told::display_peer(client.peer));
                    let user = user.chars().take(LOGGED).collect();
                    Line::Login(Login { time, session, peer, user, mechanism: mechanism.word(), ok })
                })
            }
            Fact::Fault { session, rule, number } => {
                self.tally.faults += 1;
                let text = |rule| self.office.rules.faults.text(rule).to_owned();
                self.listens.then(|| Line::Fault(Fault { session, rule: text(rule), number }))
            }
            Fact::Failed { client, why } => {
                self.tally.failed += 1;
                let (session, peer) = (client.session, client.peer);
                self.listens
                    .then(|| Line::Failed(Failed { time: net::now(), session, peer: told::display_peer(peer), why }))
            }
        };
        if let Some(line) = line {
            self.recorder.emit(Event::Event(line));
        }
    }

    fn gone(&mut self, talk: Server<Office>) {
        if !talk.is_refused() {
            self.shared.present.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn notice(&mut self, Notice::Exhausted(word): Notice) {
        if self.listens {
            let what = format!("no new connections for a moment: {word}");
            self.recorder.emit(Event::Event(Line::Notice { what }));
        }
    }
}
