//! `netlab ping-serve`: UDP echo server that drops datagrams on purpose and reports which.
//!
//! Owns the flags and the course of a run. `impair` makes the decisions, `probe` builds the replies,
//! [`events`] formats both.

mod events;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;

use super::args::{address_strings, choice, duration, number, parse_arg, read_key};
use super::dialogue_trace::{DatagramDescriber, DatagramTrace, Explainer, TraceArgs};
use super::listen_args::{ServerArgs, bind_help};
use super::report;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::impair::{BitRate, Direction, Distribution, Impairment, Jitter, LossModel, Probability};
use crate::net::datagram::{DatagramObserver, DatagramServerConfig, Endpoint, serve};
use crate::net::{self, Address, DatagramSockets, Signals};
use crate::output::{Output, Recorder, Style, WaitNotice};
use crate::probe::{EchoConfig, EchoEvent, EchoServer, MAX_UDP_PAYLOAD, explain};
use crate::protocol::{DatagramProtocol as _, TracedDatagrams};
use crate::time::Moment;
pub(in crate::commands) use events::list_events;
use events::{Listening, PingServeEvent, Summary};

/// Port of the textbook.
const DEFAULT_PORT: u16 = 12_000;

/// Echo UDP datagrams in upper case and drop some on purpose.
#[derive(Debug, Args)]
#[command(mut_arg("bind", |bind| bind_help(bind, DEFAULT_PORT, false)))]
#[command(after_help = "\
Examples:
  netlab ping-serve --loss 30% --seed 7
  netlab ping-serve --loss 0 --delay 20ms --jitter 5ms")]
pub(crate) struct PingServe {
    #[command(flatten)]
    server: ServerArgs,

    /// Loss model, such as 30%, ge:2%,25%, nth:5 or list:3,7
    ///
    /// A probability (30%, 0.3, 4/11), ge:P,R or ge:P,R,H,K (Gilbert-Elliott bursts: P and R are the transition
    /// probabilities good to bad and bad to good, H and K the delivery probabilities in the bad and in the good
    /// state; netem takes 1-H and 1-K), nth:K (every K-th) or list:3,7 (these, counted per client from 1).
    /// The default is that of the textbook: drop a datagram if a random integer from 0 to 10 is below 4.
    #[arg(long, value_name = "MODEL", default_value = "4/11", allow_hyphen_values = true, value_parser = parse_arg::<LossModel>)]
    loss: LossModel,

    /// Delay each reply
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration, hide_default_value = true)]
    delay: Duration,

    /// Jitter added to the delay
    ///
    /// Uniform jitter varies the delay by up to this much in both directions; for normal and pareto it is the scale.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration, hide_default_value = true)]
    jitter: Duration,

    /// Distribution of the jitter: uniform, normal or pareto
    #[arg(long, value_name = "NAME", default_value = "uniform", value_parser = choice::<Distribution>(&["uniform", "normal", "pareto"]), hide_possible_values = true, hide_short_help = true)]
    jitter_dist: Distribution,

    /// Send replies twice with probability P
    #[arg(long, value_name = "P", default_value = "0", value_parser = parse_arg::<Probability>, hide_short_help = true)]
    duplicate: Probability,

    /// Send replies without delay, ahead of delayed ones, with probability P
    #[arg(long, value_name = "P", default_value = "0", value_parser = parse_arg::<Probability>, hide_short_help = true)]
    reorder: Probability,

    /// Flip one bit of a datagram with probability P
    #[arg(long, value_name = "P", default_value = "0", value_parser = parse_arg::<Probability>, hide_short_help = true)]
    corrupt: Probability,

    /// Bit rate of the simulated link to each client, such as 5Mbit
    #[arg(long, value_name = "BITS", value_parser = parse_arg::<BitRate>, hide_short_help = true)]
    rate: Option<BitRate>,

    /// Direction of the impairments: in (received datagrams), out (replies) or both
    #[arg(long, value_name = "WAY", default_value = "in", value_parser = choice::<Direction>(&["in", "out", "both"]), hide_possible_values = true, hide_short_help = true)]
    direction: Direction,

    /// Random seed; the same seed repeats a run
    #[arg(long, value_name = "N", value_parser = number::<u64>(0..))]
    seed: Option<u64>,

    /// Print N decisions for the first client and exit
    #[arg(long, value_name = "N", value_parser = number::<u64>(0..))]
    plan: Option<u64>,

    /// Stop after N datagrams; 0 = no limit
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = number::<u64>(0..))]
    count: u64,

    /// Authenticate STAMP packets with the key in FILE
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    key_file: Option<PathBuf>,

    #[command(flatten)]
    trace: TraceArgs,
}

impl PingServe {
    /// Serves until a signal, `--for` or `--count`.
    pub(crate) fn run(&self, mut output: Output) -> Result<Exit> {
        let style = output.style();
        let seed = self.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
        let impairment = self.impairment(seed);
        impairment.validate()?;
        if let Some(count) = self.plan {
            return Self::print_plan(&impairment, count, &mut output);
        }
        let mut ready_file = self.server.listen.prepare_ready_file()?;
        let start = self.server.listen.start_conditions();
        let key = self.key_file.as_deref().map(|file| read_key(file, &start)).transpose()?;
        let mut signals = Signals::install()?;
        let stop = self.server.listen.stop_conditions(&signals);
        output.stop_stderr_on(stop.clone());
        let sockets = DatagramSockets::bind(&self.server.listen.binds(DEFAULT_PORT), self.server.threads)?;
        let is_public = sockets.addresses().any(Address::is_public);
        if is_public && self.duplicate.is_possible() {
            return Err(Error::new(
                Exit::Usage,
                "--duplicate is not allowed on a public address: forged requests could flood a victim",
            )
            .expected("loopback addresses only")
            .remedy("leave out --duplicate or --bind"));
        }
        self.print_warnings(&output, &sockets, is_public);
        let notice = WaitNotice::new(&output);
        let waker = signals.waker()?;
        let (recorder, writer) = Recorder::start(output, move || waker.wake())?;
        let listening = Listening::new(address_strings(sockets.addresses()), &impairment, is_public);
        recorder.emit(PingServeEvent::Listening(listening));
        ready_file.write(sockets.addresses().map(ToString::to_string), &stop)?;

        let started = net::now();
        let config = EchoConfig {
            impairment,
            key,
            own_addresses: sockets.socket_addresses(),
            is_public,
            remaining: (self.count > 0).then(|| Arc::new(AtomicU64::new(self.count))),
        };
        notice.waiting_for("waiting for the first datagram");
        let make_observer = || Observer {
            recorder: recorder.clone(),
            remaining: config.remaining.clone(),
            explainer: self.trace.explainer(style, recorder.notes()),
            first_wait: Some(notice.clone()),
        };
        let totals = self.serve(sockets, &config, style, &mut signals, &make_observer, started)?;
        let elapsed = net::now() - started;
        drop(recorder);
        let (mut output, dropped, written) = writer.finish();
        report::emit_summary(&mut output, &totals.into_summary(elapsed, seed, dropped), Exit::Success)?;
        written?;
        Ok(Exit::Success)
    }

    fn impairment(&self, seed: u64) -> Impairment {
        Impairment {
            seed,
            loss: self.loss.clone(),
            corrupt: self.corrupt,
            duplicate: self.duplicate,
            rate: self.rate,
            delay: self.delay,
            jitter: Jitter { spread: self.jitter, distribution: self.jitter_dist },
            reorder: self.reorder,
            direction: self.direction,
        }
    }

    fn print_plan(impairment: &Impairment, count: u64, output: &mut Output) -> Result<Exit> {
        let mut signals = Signals::install()?;
        output.stop_on(signals.stop_conditions(None));
        let mut exit = Exit::Success;
        for planned in impairment.plan(1, count) {
            if let Some(signal) = signals.take() {
                exit = signal.into();
                break;
            }
            output.emit(&PingServeEvent::Planned(planned))?;
            if output.is_closed() {
                break;
            }
        }
        report::emit_summary(output, &Summary::of_plan(impairment.seed), exit)?;
        Ok(exit)
    }

    fn print_warnings(&self, output: &Output, sockets: &DatagramSockets, is_public: bool) {
        for warning in sockets.warnings() {
            output.note(&format!("note: {warning}"));
        }
        if is_public {
            output.note("warning: reachable from other hosts; replies are limited to 100/s per source network");
        }
        if self.jitter > self.delay && !self.jitter.is_zero() {
            output.note("note: jitter is larger than delay; a reply with a negative delay is sent at once");
        }
    }

    fn serve(
        &self,
        sockets: DatagramSockets,
        echo_config: &EchoConfig,
        style: Style,
        signals: &mut Signals,
        make_observer: &(impl Fn() -> Observer + Sync),
        started: Moment,
    ) -> Result<Totals> {
        let server_config = DatagramServerConfig {
            sockets,
            threads: self.server.threads,
            max_payload: MAX_UDP_PAYLOAD,
            events_wanted: style.prints_events(),
            deadline: self.server.listen.lifetime.map(|lifetime| started + lifetime),
            coalesce_delay: Duration::ZERO,
        };
        let client_count = Arc::new(AtomicU32::new(0));
        let totals = Mutex::new(Totals::default());
        let make = || {
            let echo = EchoServer::new(echo_config.clone(), Arc::clone(&client_count));
            let describer = DatagramDescriber {
                describe_sent: explain::describe_reply,
                describe_received: explain::describe_request,
            };
            let observer = make_observer();
            let trace = self.trace.server_datagram_trace(describer, (style, observer.recorder.notes()));
            (TracedDatagrams::new(echo, trace), observer)
        };
        let finish = |echo: TracedEcho, _: Observer| {
            totals.lock().unwrap_or_else(PoisonError::into_inner).add(&echo.inner);
        };
        serve(server_config, signals, make, finish)?;
        Ok(totals.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Echo server of one thread, with its trace.
type TracedEcho = TracedDatagrams<EchoServer, DatagramTrace>;

/// Counters and clients of all threads.
#[derive(Default)]
struct Totals {
    counters: crate::probe::EchoCounters,
    clients: Vec<crate::probe::ClientCounters>,
}

impl Totals {
    fn add(&mut self, echo: &EchoServer) {
        self.counters.merge(echo.counters());
        self.clients.extend(echo.clients());
    }

    fn into_summary(mut self, elapsed: Duration, seed: u64, dropped_events: u64) -> Summary {
        self.clients.sort_unstable_by_key(|client| client.client);
        Summary::new(self.counters, self.clients, elapsed, seed, dropped_events)
    }
}

/// Observer of one thread.
struct Observer {
    recorder: Recorder<PingServeEvent>,
    remaining: Option<Arc<AtomicU64>>,
    explainer: Explainer,
    /// Present until the first datagram is received.
    first_wait: Option<WaitNotice>,
}

impl DatagramObserver<TracedEcho> for Observer {
    fn on_event(&mut self, _: usize, event: EchoEvent) {
        let explanation = explain::explain_decision(&event);
        self.recorder.emit(PingServeEvent::Echo(event));
        self.explainer.explain(explanation);
    }

    fn on_turn(&mut self, endpoints: &mut [Endpoint<TracedEcho>], _: Moment) -> ControlFlow<()> {
        let has_received = || endpoints.iter().any(|endpoint| endpoint.protocol().inner.counters().received > 0);
        if let Some(notice) = self.first_wait.take_if(|_| has_received()) {
            notice.done();
        }
        let is_last = self.remaining.as_ref().is_some_and(|remaining| remaining.load(Ordering::Relaxed) == 0);
        // Delayed replies must still be sent.
        let has_delayed = endpoints.iter().any(|endpoint| endpoint.protocol().wake_at().is_some());
        if is_last && !has_delayed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn on_status_request(&mut self, _: &mut [Endpoint<TracedEcho>], _: Moment) {}
}
