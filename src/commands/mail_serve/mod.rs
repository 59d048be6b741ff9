//! `netlab mail-serve`: a mailbox that captures what it is sent, relays nothing, and fails on order.
//!
//! Owns the flags and the story of a run: read the rules, listen, say so, serve until told to stop, sum
//! up and judge. The dialogue is [`smtp::server`](crate::smtp::server)'s, [`service`] lets clients in,
//! [`keep`] takes their mails.

mod auth_file;
mod counters;
mod events;
mod expect;
mod fault_spec;
mod html;
mod mime;
mod pages;
mod recent;
mod service;
mod store;
mod tls;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;

use super::args::{self, ServerArgs, parse_arg, positive_duration, size};
use super::web::{self, StatusServer};
use crate::disk::Spool;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::host;
use crate::net::{self, Address, BindAddress, ConnectionTimeouts, Listeners, ServerConfig, Signals};
use crate::output::{Output, Recorder, Style};
use crate::smtp::server::fault::{Effect, FaultPoint, FaultRule, FaultRules};
use crate::smtp::server::{MemoryBudget, SessionConfig, SessionTimeouts};
use crate::smtp::{Stage, domain_or_address_literal};
use counters::Counters;
use events::{Listening, MailServeEvent, MailServeReport, PlannedFault};
use expect::Expectation;
use fault_spec::FaultSpec;
use recent::RecentMessages;
use service::{MailService, SharedCounters};
use store::{MessageQuota, MessageStore};
use tls::{ServerCerts, TlsArgs};

/// Where mail servers that capture usually listen.
const DEFAULT_PORT: u16 = 2525;
/// Threads for what may block: writing to disk, looking into large mails, PBKDF2.
const BLOCKING_THREADS: usize = 4;
/// How many of the largest messages may be under way at once.
const MAX_MESSAGES_IN_MEMORY: u64 = 8;

/// Capture mail, and fail on order.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab mail-serve --save mails
  netlab mail-serve -c 1 --fault 'rcpt#1 = 451 later' --expect tls=none")]
pub(crate) struct MailServe {
    #[command(flatten)]
    server: ServerArgs,

    /// Listen with TLS from the first byte here; repeatable
    #[arg(long, value_name = "ADDR", hide_short_help = true, help_heading = "TLS")]
    tls_bind: Vec<BindAddress>,

    /// Write each mail to DIR, one .eml file
    ///
    /// The file holds the message octet for octet. It has its name, and is on the disk, before the mail is
    /// acknowledged. DIR is made if it is not there and
    /// what it is to be in is.
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,

    /// Show what came in a browser; repeatable
    ///
    /// The last thousand mails, or 128 MiB of them: text, headers, attachments to be saved. HTML is in a
    /// frame that runs nothing and loads nothing. ADDR is as with --bind.
    #[arg(long, value_name = "ADDR")]
    http: Vec<BindAddress>,

    /// Stop after N mails; 0 is never
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    count: u64,

    /// Fail unless this was seen; repeatable
    ///
    /// Conditions with spaces between them. messages, recipients, connections, refused, logins, failed and
    /// faults are counted, with =, >=, <=, > or <: 'messages=2 refused<=1'. tls, auth, from, to and subject are what every mail
    /// must have, and at least one mail must have come: tls=1.3, auth=none, 'from=<>'.
    #[arg(long, value_name = "WHAT", value_parser = parse_arg::<Expectation>)]
    expect: Vec<Expectation>,

    /// Misbehave: 'dot#2 = drop'; repeatable
    #[arg(
        long,
        value_name = "SPEC",
        value_parser = parse_arg::<FaultSpec>,
        long_help = "\
Misbehave: 'WHERE[WHOSE][#N|#A..B|every K|p=R] = ACTION[, ACTION]'; repeatable

WHERE is connect, banner, ehlo, starttls, tls, cert, auth, mail, rcpt, data, body, dot, quit, or * for every \
reply. WHOSE, in brackets, is an address, a user or a name, with * for anything. Occasions are counted per rule \
from 1. ACTION is a reply ('451 4.7.1 later'), delay D, slow RATE, drop, reset, stall, raw \"…\", inject \"…\"; \
hide for starttls and auth, hide WORDS for ehlo, 334 xN for auth; alert for tls; expired, name=OTHER or \
self-signed for cert. netlab-mail-serve(1) says what goes where."
    )]
    fault: Vec<FaultSpec>,

    /// Print the first N decisions of each --fault, and serve nobody
    #[arg(long, value_name = "N", requires = "fault", hide_short_help = true)]
    plan: Option<u64>,

    /// Roll the same dice as a run before
    #[arg(long, value_name = "N", hide_short_help = true)]
    seed: Option<u64>,

    #[command(flatten)]
    tls: TlsArgs,

    /// Who may log in, and must
    ///
    /// A file of mode 0600 with user:password on each line.
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,

    /// Take passwords on a line that others could read
    #[arg(long, requires = "auth_file", hide_short_help = true)]
    insecure_auth: bool,

    /// How the server names itself
    ///
    /// This machine's name unless given, or [127.0.0.1] where that has no dot.
    #[arg(long, value_name = "NAME", value_parser = args::host_name, hide_short_help = true)]
    name: Option<String>,

    /// The largest message
    #[arg(long, value_name = "SIZE", default_value = "32MiB", value_parser = positive_size, hide_short_help = true, help_heading = "Limits")]
    max_size: usize,

    /// The most recipients of a mail
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..), hide_short_help = true, help_heading = "Limits")]
    max_recipients: u32,

    /// The most connections at once; others are told to come again
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..), hide_short_help = true, help_heading = "Limits")]
    max_connections: u64,

    /// How long a client may take for a command
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    idle_timeout: Duration,

    /// How long a client may send no more of its message, or take none of a reply
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    stall_timeout: Duration,

    /// How long a TLS handshake may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    handshake_timeout: Duration,

    /// How long a connection may last
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    session_timeout: Duration,

    /// How long mails that are under way may take after SIGINT, SIGTERM or the end of --for
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = super::args::duration, hide_short_help = true)]
    grace: Duration,
}

/// How many connections that are one too many a thread has at once: each takes a moment to be told so.
const MAX_REJECTED_CONNECTIONS: usize = 64;

/// A size of 0 would be offered as one without a limit (RFC 1870 §4).
fn positive_size(text: &str) -> Result<usize, String> {
    size(text).and_then(|size| if size == 0 { Err("expected more than nothing".to_owned()) } else { Ok(size) })
}

impl MailServe {
    /// Captures until told to stop.
    pub(crate) fn run(&self, style: Style) -> Result<Exit> {
        let seed = self.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
        let faults = Arc::new(FaultRules::new(seed, self.fault.iter().map(|FaultSpec(rule)| rule.clone()).collect()));
        let mut output = Output::new(style);
        if let Some(count) = self.plan {
            if self.seed.is_none() && faults.is_randomized() {
                output.note(&format!("note: with --seed {seed} it will be the same again"));
            }
            return print_plan(&faults, count, &mut output);
        }
        let rules = self.session_config(faults)?;
        let sides = self.tls.server_certs(&rules.name, &rules.faults)?;
        self.check_fault_requirements(&rules, sides.is_some())?;
        let spool = self.save.as_deref().map(Spool::open).transpose()?.map(Arc::new);
        let mut signals = Signals::install()?;
        let doors = self.bind_listeners()?;
        let pages = (!self.http.is_empty()).then(|| Listeners::bind(&self.http, 1)).transpose()?;
        self.warn(&output, &doors, pages.as_ref());
        let urls: Vec<String> =
            pages.iter().flat_map(Listeners::addresses).map(|address| web::url("http", address)).collect();
        let nudge = signals.waker()?;
        let (recorder, writer) = Recorder::start(output, move || nudge.wake())?;
        let listening = Listening::new(&rules, &doors, urls, sides.as_ref(), spool.as_deref(), seed);
        let ready = [&listening.addresses[..], &listening.tls_addresses, &listening.pages].concat();
        recorder.emit(MailServeReport::Event(MailServeEvent::Listening(listening)));
        self.server.listen.write_ready_file(ready.into_iter())?;

        let started = net::now();
        let plan = ServerConfig {
            listener_groups: doors,
            threads: self.server.threads,
            pool_threads: BLOCKING_THREADS,
            // Who is one too many is told so, and some more wait until those have gone.
            max_connections: usize::try_from(self.max_connections)
                .unwrap_or(usize::MAX)
                .saturating_add(MAX_REJECTED_CONNECTIONS),
            timeouts: ConnectionTimeouts { handshake: self.handshake_timeout, stall: self.stall_timeout },
            drain_timeout: self.grace,
            deadline: self.server.listen.lifetime.map(|lifetime| started + lifetime),
        };
        let archive = pages.is_some().then(Arc::<RecentMessages>::default);
        let total = std::thread::scope(|scope| {
            // Ends with the scope of this closure, before the scope waits for its threads.
            let board = archive.clone().zip(pages).map(|(archive, listeners)| {
                let names = self.host_names();
                StatusServer::spawn(scope, listeners, pages::MessagePages { recent: archive, host_names: names })
            });
            let _board = board.transpose()?;
            let rooms = Resources { config: rules, certs: sides, spool, recent: archive };
            self.run_server(plan, &rooms, &mut signals, (&recorder, style))
        })?;
        let elapsed = net::now() - started;
        drop(recorder);
        let (mut output, dropped, written) = writer.finish();
        let broken: Vec<_> = self.expect.iter().filter_map(|expected| expected.check(&total).err()).collect();
        broken.iter().for_each(|broken| output.report_error(broken));
        let expected = (!self.expect.is_empty()).then_some(broken.is_empty());
        output.emit(&MailServeReport::summary(total.summary(elapsed, expected, dropped)))?;
        written?;
        Ok(if broken.is_empty() { Exit::Success } else { Exit::Negative })
    }

    fn session_config(&self, faults: Arc<FaultRules>) -> Result<SessionConfig> {
        let users = self.auth_file.as_deref().map(auth_file::read_users).transpose()?;
        Ok(SessionConfig {
            name: self
                .name
                .clone()
                .unwrap_or_else(|| domain_or_address_literal(&host::hostname(), Ipv4Addr::LOCALHOST.into())),
            max_size: self.max_size,
            max_recipients: usize::try_from(self.max_recipients).unwrap_or(usize::MAX),
            offers_starttls: self.tls.is_enabled(),
            users: users.map(Arc::new),
            allows_plaintext_auth: self.insecure_auth,
            timeouts: SessionTimeouts {
                command: self.idle_timeout,
                body: self.stall_timeout,
                session: self.session_timeout,
            },
            faults,
            memory_budget: Arc::new(MemoryBudget::new(
                (self.max_size as u64).saturating_mul(MAX_MESSAGES_IN_MEMORY).max(1 << 20),
            )),
        })
    }

    /// Refuses what would be read and never done.
    fn check_fault_requirements(&self, config: &SessionConfig, has_tls: bool) -> Result<()> {
        let hides = |rule: &FaultRule, word: &str| match &rule.action.effect {
            Effect::Hide(words) => words.iter().all(|hidden| hidden.eq_ignore_ascii_case(word)),
            _ => false,
        };
        let wants_tls = |rule: &&FaultRule| {
            matches!(rule.point, FaultPoint::TlsHandshake | FaultPoint::Reply(Stage::Starttls))
                || hides(rule, "STARTTLS")
        };
        let wants_users = |rule: &&FaultRule| {
            matches!(rule.point, FaultPoint::AuthChallenge | FaultPoint::Reply(Stage::Auth)) || hides(rule, "AUTH")
        };
        let said = |rule: &FaultRule| format!("--fault '{}'", rule.text);
        let mut tls = config.faults.rules().find(wants_tls).map(said);
        tls = tls.or_else(|| (!self.tls_bind.is_empty()).then(|| "--tls-bind".to_owned()));
        if let Some(what) = tls.filter(|_| !has_tls) {
            return Err(Error::new(Exit::Usage, format!("{what} wants TLS, and there is no certificate"))
                .expected("--tls-self-signed, or --tls-cert and --tls-key"));
        }
        if let Some(what) = config.faults.rules().find(wants_users).map(said).filter(|_| config.users.is_none()) {
            return Err(Error::new(Exit::Usage, format!("{what} is about a login, and nobody can log in"))
                .expected("--auth-file FILE"));
        }
        Ok(())
    }

    /// What the pages may be called, beside addresses and localhost.
    fn host_names(&self) -> Arc<[String]> {
        let bound = self
            .http
            .iter()
            .filter_map(|bind| if let BindAddress::Host(name, _) = bind { Some(name.clone()) } else { None });
        bound.chain([host::hostname()]).collect()
    }

    fn bind_listeners(&self) -> Result<Vec<Listeners>> {
        // Who names only a TLS address wants only that one.
        let clear = match (&self.server.listen.bind[..], &self.tls_bind[..]) {
            ([], [_, ..]) => Vec::new(),
            _ => self.server.listen.binds(DEFAULT_PORT),
        };
        [&clear, &self.tls_bind].into_iter().map(|binds| Listeners::bind(binds, self.server.threads)).collect()
    }

    /// What a person should know before others find out.
    fn warn(&self, output: &Output, listeners: &[Listeners], web_listeners: Option<&Listeners>) {
        for missing in listeners.iter().flat_map(Listeners::warnings) {
            output.note(&format!("note: {missing}"));
        }
        if listeners.iter().flat_map(Listeners::addresses).any(Address::is_public) {
            output.note("warning: everybody who can reach this machine can deliver here; nothing is relayed");
        }
        if web_listeners.into_iter().flat_map(Listeners::addresses).any(Address::is_public) {
            output.note("warning: everybody who can reach this machine can read what is captured");
        }
        if self.auth_file.is_some() && !self.tls.is_enabled() && !self.insecure_auth {
            output.note("note: without TLS only SCRAM-SHA-256 is offered; --insecure-auth takes passwords in clear");
        }
    }

    fn run_server(
        &self,
        server_config: ServerConfig,
        resources: &Resources,
        signals: &mut Signals,
        (recorder, style): (&Recorder<MailServeReport>, Style),
    ) -> Result<Counters> {
        let budget = Arc::new(MessageQuota {
            limit: self.count,
            accepted: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            waker: signals.waker()?,
        });
        let shared = Arc::new(SharedCounters {
            accepted_connections: AtomicU64::new(0),
            open_connections: AtomicU64::new(0),
            max_connections: self.max_connections,
        });
        let number = Arc::new(AtomicU64::new(0));
        let listens = !style.quiet;
        let looks = listens
            || resources.recent.is_some()
            || self.expect.iter().any(|expected| expected.needs_property("subject"));
        let total = Mutex::new(Counters::new(&self.expect));
        let make = || MailService {
            store: Rc::new(MessageStore {
                config: resources.config.clone(),
                spool: resources.spool.clone(),
                recent: resources.recent.clone(),
                quota: Arc::clone(&budget),
                inspects_content: looks,
                last_number: Arc::clone(&number),
            }),
            recorder: recorder.clone(),
            events_wanted: listens,
            certs: resources.certs.clone(),
            shared: Arc::clone(&shared),
            counters: Counters::new(&self.expect),
        };
        let finish = |desk: MailService| total.lock().unwrap_or_else(PoisonError::into_inner).merge(desk.counters);
        net::serve(server_config, signals, make, finish)?;
        Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What every thread works with.
struct Resources {
    config: SessionConfig,
    certs: Option<ServerCerts>,
    spool: Option<Arc<Spool>>,
    recent: Option<Arc<RecentMessages>>,
}

fn print_plan(faults: &FaultRules, count: u64, output: &mut Output) -> Result<Exit> {
    let mut signals = Signals::install()?;
    let mut exit = Exit::Success;
    'rules: for (place, rule) in (0..).zip(faults.rules()) {
        for number in 1..=count {
            if let Some(signal) = signals.take() {
                exit = signal.exit();
                break 'rules;
            }
            let fires = faults.fires(place, rule, number);
            output.emit(&MailServeReport::Event(MailServeEvent::Decision(PlannedFault {
                rule: rule.text.clone(),
                number,
                fires,
            })))?;
            if output.is_closed() {
                break 'rules;
            }
        }
    }
    output.emit(&MailServeReport::summary(Counters::default().summary(Duration::ZERO, None, 0)))?;
    Ok(exit)
}
