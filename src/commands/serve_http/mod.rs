//! `netlab serve-http`: HTTP file server.
//!
//! Owns the flags and the course of a run: open the root, listen, report the addresses, serve until stopped, print
//! the summary. [`service`] has the sessions, [`response`] maps requests to files, [`events`] formats the output.

mod access;
mod compression;
mod counters;
mod events;
mod file_cache;
mod file_response;
mod listing_response;
mod response;
mod service;
mod site_args;

use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::args::{duration, number, positive_duration};
use super::dialogue_trace::TraceArgs;
use super::listen_args::{ServerArgs, bind_help, bound_names};
use super::report;
use super::server_tls::ServerTlsArgs;
use super::web;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::http::{ALPN_PROTOCOL, HttpTimeouts};
use crate::net::tls::ServerTls;
use crate::net::{self, ConnectionTimeouts, Listeners, ServerConfig, Signals};
use crate::output::{Format, Output, Recorder, WaitNotice};
use crate::site::Root;
use crate::time::Moment;
use access::{AccessArgs, AccessRules};
use counters::Counters;
pub(in crate::commands) use events::list_events;
use events::{Listening, ServeHttpEvent};
use response::{SiteConfig, SiteHandle};
use service::{HttpService, RequestLimit, SiteHandler};
use site_args::SiteArgs;

/// Port of the textbook exercise.
const DEFAULT_PORT: u16 = 6789;

/// Serve the files of a directory over HTTP.
#[derive(Debug, Args)]
#[command(mut_arg("bind", |bind| bind_help(bind, DEFAULT_PORT, true)))]
#[command(mut_arg("tls_self_signed", |flag| flag.hide_short_help(true)))]
#[command(after_help = "\
Examples:
  netlab serve-http assets/site --threads
  netlab serve-http --bind '*:8080' --log combined > access.log")]
pub(crate) struct ServeHttp {
    #[command(flatten)]
    site: SiteArgs,

    #[command(flatten)]
    access: AccessArgs,

    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    trace: TraceArgs,

    /// Log: off, common, combined, json
    ///
    /// The access log is written to stdout. common and combined are the formats of Apache and nginx; unless stdout is a
    /// terminal, addresses and summary are then written to stderr. --json implies json.
    #[arg(long, value_enum, default_value_t = LogFormat::Common, hide_possible_values = true)]
    log: LogFormat,

    /// Stop after N requests; 0 = no limit
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = number::<u64>(0..))]
    count: u64,

    #[command(flatten)]
    tls: ServerTlsArgs,

    /// Time for responses in progress after SIGINT, SIGTERM or the end of --for
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration, hide_short_help = true)]
    grace: Duration,

    /// Time limit for a request head, from its first byte to its last
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    head_timeout: Duration,

    /// Time limit for an idle connection between requests
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    idle_timeout: Duration,

    /// Serve at most N connections at a time [default: half of the descriptors]
    ///
    /// At the limit, the connection that has been idle longest is closed for a new one. If none is idle, new ones wait. The
    /// other half of the descriptors is kept for files.
    #[arg(long, value_name = "N", value_parser = number::<usize>(1..), hide_short_help = true, help_heading = "Limits")]
    max_connections: Option<usize>,

    /// Time limit for a client that does not read its response or send its request body
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    stall_timeout: Duration,
}

/// Format of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// No access log
    Off,
    /// Common Log Format
    Common,
    /// Common Log Format with Referer and User-Agent
    Combined,
    /// One JSON object per event
    Json,
}

impl ServeHttp {
    pub(crate) fn run(&self, mut output: Output) -> Result<Exit> {
        self.connections_per_thread()?;
        let mut ready_file = self.server.listen.prepare_ready_file()?;
        if self.log == LogFormat::Json {
            output.set_format(Format::Json);
        }
        let is_log_alone = self.is_log_alone(&output);
        let target = self.site.target();
        let root = self.site.open_root(&target)?;
        let certificate = self.tls.certificate(None, self.tls.authority()?.as_ref())?;
        // Before another socket is opened, which could have the number of one that a service manager passes.
        let listeners = self.server.listen.listeners(DEFAULT_PORT, self.server.threads)?;
        let mut signals = Signals::install()?;
        let stop = self.server.listen.stop_conditions(&signals);
        output.stop_stderr_on(stop.clone());
        self.tls.write_ca(certificate.as_ref(), &stop)?;
        let listening = Listening::new(&listeners, certificate.as_ref(), self.site.path());
        self.print_warnings(&output, &listeners, &listening);
        let names = (!listening.is_public()).then(|| bound_names(&self.server.listen.bind));
        let access = AccessRules::new(&self.access, names, &stop)?;
        let site = SiteConfig::new(&self.site, target, access);

        let notes = output.clone();
        let (recorder, writer) = Recorder::start(output.clone(), move || {
            notes.note("note: the reader of the log is gone; serving continues without a log");
        })?;
        let scheme = if certificate.is_some() { "https" } else { "http" };
        ready_file.write(listeners.addresses().map(|address| web::url(scheme, address)), &stop)?;
        if is_log_alone {
            output.note(&listening.to_string());
        } else {
            recorder.emit(ServeHttpEvent::Listening(listening));
        }

        let started = net::now();
        let total = self.serve(
            listeners,
            certificate.as_ref().map(|certificate| certificate.tls.with_protocol(ALPN_PROTOCOL)).as_ref(),
            (site, root),
            &mut signals,
            (&recorder, &output),
            started,
        )?;
        let elapsed = net::now() - started;
        drop(recorder);
        let (mut output, dropped, written) = writer.finish();
        if is_log_alone {
            output.leave_stdout();
        }
        report::emit_summary(&mut output, &total.summary(elapsed, dropped), Exit::Success)?;
        written?;
        Ok(Exit::Success)
    }

    /// Returns whether stdout has nothing but the access log, for a program that analyzes it.
    fn is_log_alone(&self, output: &Output) -> bool {
        matches!(self.log, LogFormat::Common | LogFormat::Combined)
            && output.style().format == Format::Text
            && !output.is_terminal()
    }

    /// Warns about addresses that failed, a private root and access from other hosts.
    fn print_warnings(&self, output: &Output, listeners: &Listeners, listening: &Listening) {
        for warning in listeners.warnings() {
            output.note(&format!("note: {warning}"));
        }
        let home = std::env::home_dir();
        let root = std::fs::canonicalize(self.site.path()).unwrap_or_default();
        if root.parent().is_none() || home.is_some_and(|home| home == root) {
            output.note(&format!("warning: serving all of {}, including private files", root.display()));
        }
        if listening.is_public() {
            let what = if self.access.auth_file.is_some() { "try passwords" } else { "read these files" };
            output.note(&format!("warning: any host that can reach this machine can {what}"));
            if self.access.auth_file.is_some() && !self.tls.is_enabled() {
                output.note("warning: passwords are sent unencrypted without --tls-cert or --tls-self-signed");
            }
        }
    }

    /// Returns the share of each thread in the limit of connections.
    fn connections_per_thread(&self) -> Result<usize> {
        let threads = self.server.threads;
        match self.max_connections {
            Some(max) if max < threads => {
                Err(Error::new(Exit::Usage, format!("--max-connections {max} is less than the number of threads"))
                    .expected(format!("at least {threads}, one for each thread")))
            }
            max => Ok(max.unwrap_or_else(net::connection_capacity).max(threads) / threads),
        }
    }

    fn serve(
        &self,
        listeners: Listeners,
        tls: Option<&ServerTls>,
        (site, root): (SiteConfig, Root),
        signals: &mut Signals,
        (recorder, output): (&Recorder<ServeHttpEvent>, &Output),
        started: Moment,
    ) -> Result<Counters> {
        let timeouts = HttpTimeouts { head: self.head_timeout, idle: self.idle_timeout, stall: self.stall_timeout };
        let config = ServerConfig {
            listener_groups: vec![listeners],
            threads: self.server.threads,
            pool_threads: self.server.threads,
            max_connections: self.connections_per_thread()?,
            timeouts: ConnectionTimeouts { handshake: self.head_timeout, stall: self.stall_timeout },
            drain_timeout: self.grace,
            deadline: self.server.listen.lifetime.map(|lifetime| started + lifetime),
        };
        let request_limit = Arc::new(RequestLimit::new(self.count, signals.waker()?));
        let (site, root) = (Arc::new(site), Arc::new(root));
        let total = Mutex::new(Counters::default());
        let quiet = !output.style().prints_events();
        let is_hint_printed = Arc::new(AtomicBool::new(false));
        let notice = WaitNotice::new(output);
        notice.waiting_for("waiting for the first connection");
        let make = || HttpService {
            handler: Rc::new(SiteHandler {
                site: SiteHandle::new(Arc::clone(&site), Arc::clone(&root), reporter(recorder)),
                timeouts,
                request_limit: Arc::clone(&request_limit),
                events_wanted: self.log != LogFormat::Off && !quiet,
            }),
            recorder: recorder.clone(),
            output: output.clone(),
            trace: self.trace,
            is_waiting_reported: output.reports_waiting(),
            is_hint_printed: Arc::clone(&is_hint_printed),
            first_wait: Some(notice.clone()),
            log: self.log,
            is_log_alone: self.is_log_alone(output),
            tls: tls.cloned(),
            counters: Counters::default(),
        };
        let finish =
            |web: HttpService| total.lock().unwrap_or_else(std::sync::PoisonError::into_inner).merge(&web.counters);
        net::serve(config, signals, make, finish)?;
        Ok(total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// Returns a function that prints a note through the writer thread.
fn reporter(recorder: &Recorder<ServeHttpEvent>) -> Box<dyn Fn(String)> {
    let recorder = recorder.clone();
    Box::new(move |text| recorder.note(&text))
}
