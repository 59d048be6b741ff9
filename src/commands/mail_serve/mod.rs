//! `netlab mail-serve`: an SMTP server that captures mail, relays none, and injects faults on request.
//!
//! Owns the flags and the sequence of a run: read the rules, listen, serve until stopped, print the summary,
//! check `--expect`. The session is in [`smtp::server`](crate::smtp::server); [`service`] accepts
//! connections, [`store`] stores messages.

mod counters;
mod events;
mod expect;
mod fault_rules;
mod fault_spec;
mod html_sanitizer;
mod message_check;
mod mime;
mod pages;
mod recent_messages;
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

use super::args::{self, number, parse_arg, positive_duration, size};
use super::auth_file::read_users;
use super::dialogue_trace::TraceArgs;
use super::listen_args::{ServerArgs, bind_help, bound_names};
use super::report;
use super::server_tls::ServerTlsArgs;
use super::web::{self, StatusServer};
use crate::disk::Spool;
use crate::error::Result;
use crate::exit::Exit;
use crate::host;
use crate::http::LocalHosts;
use crate::mac::Secret;
use crate::net::{self, Address, BindAddress, ConnectionTimeouts, Listeners, ServerConfig, Signals};
use crate::output::{Output, Recorder, WaitNotice};
use crate::smtp::domain_or_address_literal;
use crate::smtp::server::fault::FaultRules;
use crate::smtp::server::{MemoryBudget, SessionConfig, SessionTimeouts, Users};
use counters::Counters;
pub(in crate::commands) use events::list_events;
use events::{Listening, MailServeEvent};
use expect::Expectation;
use fault_spec::FaultSpec;
use recent_messages::RecentMessages;
use service::{MailService, SharedCounters};
use store::{MessageQuota, MessageStore};
use tls::{ServerCerts, server_certs};

const DEFAULT_PORT: u16 = 2525;
/// Threads for work that may block: writing to disk, parsing large messages, PBKDF2.
const BLOCKING_THREADS: usize = 4;
/// Memory budget of messages being received, in messages of the maximum size.
const MAX_MESSAGES_IN_MEMORY: u64 = 8;

/// Capture mail and inject faults on request.
#[derive(Debug, Args)]
#[command(mut_arg("bind", |bind| bind_help(bind, DEFAULT_PORT, true)))]
#[command(after_help = "\
Examples:
  netlab mail-serve --save captured
  netlab mail-serve -c 1 --fault 'rcpt#1 = 451 later' --expect tls=none")]
pub(crate) struct MailServe {
    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    trace: TraceArgs,

    /// Listen on ADDR with implicit TLS; repeatable
    #[arg(long, value_name = "ADDR", hide_short_help = true, help_heading = "TLS")]
    tls_bind: Vec<BindAddress>,

    /// Write each message to an .eml file in DIR
    ///
    /// The file holds the message byte for byte. It is on disk, under its final name, before the message is
    /// acknowledged. DIR is created if its parent exists.
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,

    /// Serve captured mail on web pages; repeatable
    ///
    /// The pages show the last thousand messages, or 128 MiB of them: text, headers, attachments to download.
    /// HTML is shown in a frame that runs nothing and loads nothing. ADDR is as for --bind.
    #[arg(long, value_name = "ADDR")]
    http: Vec<BindAddress>,

    /// Stop after N messages; 0 = no limit
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = number::<u64>(0..))]
    count: u64,

    /// Exit 1 unless EXPR holds; repeatable
    ///
    /// EXPR is one or more conditions, separated by spaces. The counters messages, recipients, connections,
    /// rejected, logins, failed and faults are compared with =, >=, <=, > or <: 'messages=2 rejected<=1'.
    /// The properties tls, auth, from, to and subject must have this value in every message, and at least one
    /// message must have been received: tls=1.3, auth=none, 'from=<>'.
    #[arg(long, value_name = "EXPR", value_parser = parse_arg::<Expectation>)]
    expect: Vec<Expectation>,

    /// Inject a fault: 'dot#2 = drop'; repeatable
    #[arg(
        long,
        value_name = "RULE",
        value_parser = parse_arg::<FaultSpec>,
        long_help = "\
Inject a fault: 'WHERE[PATTERN][#N|#A..B|every K|p=R] = ACTION[, ACTION]'; repeatable

WHERE is connect, banner, ehlo, starttls, tls, cert, auth, mail, rcpt, data, body, dot, quit, or * for every \
reply. PATTERN, in brackets, limits the rule to an address, a user or a client name; * matches any text. Each \
rule counts its occurrences from 1. ACTION is a reply ('451 4.7.1 later'), delay D, slow RATE, drop, reset, stall, \
raw \"TEXT\" or inject \"TEXT\"; hide for starttls and auth; hide KEYWORDS for ehlo; 334 xN for auth; alert for tls; \
expired, name=OTHER or self-signed for cert. netlab-mail-serve(1) lists the actions valid at each point."
    )]
    fault: Vec<FaultSpec>,

    /// Print the first N decisions of each --fault and exit
    #[arg(long, value_name = "N", requires = "fault", hide_short_help = true, value_parser = number::<u64>(0..))]
    plan: Option<u64>,

    /// Random seed; the same seed repeats a run
    #[arg(long, value_name = "N", hide_short_help = true, value_parser = number::<u64>(0..))]
    seed: Option<u64>,

    #[command(flatten)]
    tls: ServerTlsArgs,

    /// Require login as one of the users in FILE
    ///
    /// FILE has one user:password per line and must have mode 0600.
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,

    /// Accept passwords without TLS
    #[arg(long, requires = "auth_file", hide_short_help = true)]
    insecure_auth: bool,

    /// Server name in the banner and the EHLO reply [default: host name]
    ///
    /// If the host name has no dot, the default is [127.0.0.1].
    #[arg(long, value_name = "NAME", value_parser = args::host_name, hide_short_help = true)]
    name: Option<String>,

    /// Maximum message size
    #[arg(long, value_name = "SIZE", default_value = "32MiB", value_parser = positive_size, hide_short_help = true, help_heading = "Limits")]
    max_size: usize,

    /// Maximum recipients per message
    #[arg(long, value_name = "N", default_value_t = 1000, hide_short_help = true, help_heading = "Limits", value_parser = number::<u32>(1..=u32::MAX))]
    max_recipients: u32,

    /// Maximum connections; further clients get 421
    #[arg(long, value_name = "N", default_value_t = 1000, hide_short_help = true, help_heading = "Limits", value_parser = number::<u64>(1..))]
    max_connections: u64,

    /// Time limit for receiving the next command
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    idle_timeout: Duration,

    /// Time limit without progress while a message is received or a reply is sent
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    stall_timeout: Duration,

    /// Time limit for a TLS handshake
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    handshake_timeout: Duration,

    /// Time limit for a connection
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    session_timeout: Duration,

    /// Time for transactions in progress to complete after SIGINT, SIGTERM or the end of --for
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = super::args::duration, hide_short_help = true)]
    grace: Duration,
}

/// Connections over the limit per thread, kept only until their 421 is sent.
const MAX_REJECTED_CONNECTIONS: usize = 64;

/// Parses a size above 0: SIZE 0 in the EHLO reply would mean no limit (RFC 1870 §4).
fn positive_size(text: &str) -> Result<usize, String> {
    size(text).and_then(|size| if size == 0 { Err("expected a size greater than zero".to_owned()) } else { Ok(size) })
}

impl MailServe {
    pub(crate) fn run(&self, mut output: Output) -> Result<Exit> {
        let seed = self.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
        let faults = Arc::new(FaultRules::new(seed, self.fault.iter().map(|FaultSpec(rule)| rule.clone()).collect()));
        if let Some(count) = self.plan {
            if self.seed.is_none() && faults.is_randomized() {
                output.note(&format!("note: --seed {seed} repeats this plan"));
            }
            return fault_rules::print_plan(&faults, (seed, count), &mut output);
        }
        let mut ready_file = self.server.listen.prepare_ready_file()?;
        let config = self.session_config()?;
        let certs = server_certs(&self.tls, &config.name, &faults)?;
        if certs.is_none() && !self.tls_bind.is_empty() {
            return Err(fault_rules::tls_required("--tls-bind"));
        }
        fault_rules::check_requirements(&faults, certs.is_some(), config.users.is_some())?;
        // Before any other descriptor is opened, which could have the number of one that a service manager passes.
        let listeners = self.bind_listeners()?;
        let spool = self.save.as_deref().map(Spool::open).transpose()?.map(Arc::new);
        let mut signals = Signals::install()?;
        let stop = self.server.listen.stop_conditions(&signals);
        output.stop_stderr_on(stop.clone());
        self.tls.write_ca(certs.as_ref().map(|certs| &certs.regular), &stop)?;
        let pages = (!self.http.is_empty()).then(|| Listeners::bind(&self.http, 1)).transpose()?;
        self.warn(&output, &listeners, pages.as_ref());
        let urls: Vec<String> =
            pages.iter().flat_map(Listeners::addresses).map(|address| web::url("http", address)).collect();
        let waker = signals.waker()?;
        let (recorder, writer) = Recorder::start(output.clone(), move || waker.wake())?;
        let listening = Listening::new(&config, (&faults, seed), (&listeners, urls), certs.as_ref(), spool.as_deref());
        let ready = [&listening.addresses[..], &listening.tls_addresses, &listening.pages].concat();
        recorder.emit(MailServeEvent::Listening(listening));
        ready_file.write(ready.into_iter(), &stop)?;

        let started = net::now();
        let server_config = ServerConfig {
            listener_groups: listeners,
            threads: self.server.threads,
            pool_threads: BLOCKING_THREADS,
            // Some connections over the limit are accepted, to get a 421; the rest wait in the kernel.
            max_connections: usize::try_from(self.max_connections)
                .unwrap_or(usize::MAX)
                .saturating_add(MAX_REJECTED_CONNECTIONS),
            timeouts: ConnectionTimeouts { handshake: self.handshake_timeout, stall: self.stall_timeout },
            drain_timeout: self.grace,
            deadline: self.server.listen.lifetime.map(|lifetime| started + lifetime),
        };
        let recent = pages.is_some().then(Arc::<RecentMessages>::default);
        let total = std::thread::scope(|scope| {
            // Dropped at the end of this closure, before the scope joins its threads.
            let status_server = recent.clone().zip(pages).map(|(recent, listeners)| {
                StatusServer::spawn(scope, listeners, pages::MessagePages { recent, hosts: self.local_hosts() })
            });
            let _status_server = status_server.transpose()?;
            let resources = Resources { config, faults, certs, spool, recent };
            self.run_server(server_config, &resources, &mut signals, (&recorder, &output))
        })?;
        let elapsed = net::now() - started;
        drop(recorder);
        let (mut output, dropped, written) = writer.finish();
        let failures: Vec<_> = self.expect.iter().filter_map(|expected| expected.check(&total).err()).collect();
        failures.iter().for_each(|failure| output.report_error(failure));
        let expected = (!self.expect.is_empty()).then_some(failures.is_empty());
        let exit = if failures.is_empty() { Exit::Success } else { Exit::Negative };
        report::emit_summary(&mut output, &total.summary(elapsed, expected, dropped), exit)?;
        written?;
        Ok(exit)
    }

    fn session_config(&self) -> Result<SessionConfig> {
        let start = self.server.listen.start_conditions();
        let users = self.auth_file.as_deref().map(|file| read_users(file, &start)).transpose()?;
        let pepper: [u8; 32] = rand::random();
        let users = users.map(|users| Users::new(users, Secret::new(pepper.to_vec())));
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
            memory_budget: Arc::new(MemoryBudget::new(
                (self.max_size as u64).saturating_mul(MAX_MESSAGES_IN_MEMORY).max(1 << 20),
            )),
        })
    }

    /// Host names under which the pages are served, besides IP addresses and localhost.
    fn local_hosts(&self) -> LocalHosts {
        LocalHosts::new(bound_names(&self.http).chain([host::hostname()]))
    }

    fn bind_listeners(&self) -> Result<Vec<Listeners>> {
        // With --tls-bind alone, there is no listener without TLS.
        let plaintext = match (&self.server.listen.bind[..], &self.tls_bind[..]) {
            ([], [_, ..]) => Listeners::bind(&[], self.server.threads)?,
            _ => self.server.listen.listeners(DEFAULT_PORT, self.server.threads)?,
        };
        Ok(vec![plaintext, Listeners::bind(&self.tls_bind, self.server.threads)?])
    }

    fn warn(&self, output: &Output, listeners: &[Listeners], web_listeners: Option<&Listeners>) {
        for missing in listeners.iter().flat_map(Listeners::warnings) {
            output.note(&format!("note: {missing}"));
        }
        if listeners.iter().flat_map(Listeners::addresses).any(Address::is_public) {
            output.note("warning: any host that can reach this machine can deliver mail here; nothing is relayed");
        }
        if web_listeners.into_iter().flat_map(Listeners::addresses).any(Address::is_public) {
            output.note("warning: any host that can reach this machine can read the captured mail");
        }
        if self.auth_file.is_some() && !self.tls.is_enabled() && !self.insecure_auth {
            output.note("note: without TLS only SCRAM-SHA-256 is offered; --insecure-auth adds PLAIN and LOGIN");
        }
    }

    fn run_server(
        &self,
        server_config: ServerConfig,
        resources: &Resources,
        signals: &mut Signals,
        (recorder, output): (&Recorder<MailServeEvent>, &Output),
    ) -> Result<Counters> {
        let quota = Arc::new(MessageQuota {
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
        let last_number = Arc::new(AtomicU64::new(0));
        let events_wanted = output.style().prints_events();
        let inspects_content = events_wanted
            || resources.recent.is_some()
            || self.expect.iter().any(|expected| expected.needs_property("subject"));
        let total = Mutex::new(Counters::new(&self.expect));
        let notice = WaitNotice::new(output);
        notice.waiting_for("waiting for the first connection");
        let make = || MailService {
            store: Rc::new(MessageStore {
                config: resources.config.clone(),
                spool: resources.spool.clone(),
                recent: resources.recent.clone(),
                quota: Arc::clone(&quota),
                inspects_content,
                last_number: Arc::clone(&last_number),
            }),
            faults: Arc::clone(&resources.faults),
            recorder: recorder.clone(),
            output: output.clone(),
            trace: self.trace,
            is_waiting_reported: output.reports_waiting(),
            first_wait: Some(notice.clone()),
            events_wanted,
            certs: resources.certs.clone(),
            shared: Arc::clone(&shared),
            counters: Counters::new(&self.expect),
        };
        let finish = |local: MailService| total.lock().unwrap_or_else(PoisonError::into_inner).merge(local.counters);
        net::serve(server_config, signals, make, finish)?;
        Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Resources {
    config: SessionConfig,
    faults: Arc<FaultRules>,
    certs: Option<ServerCerts>,
    spool: Option<Arc<Spool>>,
    recent: Option<Arc<RecentMessages>>,
}
