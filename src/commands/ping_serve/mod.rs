//! `netlab ping-serve`: the textbook's echo that loses datagrams on purpose, and says which.
//!
//! Owns the flags and the story of a run. What happens to a datagram is decided in `impair`, what
//! it is answered with in `probe`; [`events`] words both.

mod events;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;

use super::args::{ServerArgs, address_strings, duration, parse_arg, read_key};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::impair::{BitRate, Direction, Distribution, Impairment, Jitter, LossModel, Probability};
use crate::net::datagram::{DatagramObserver, DatagramServerConfig, Endpoint, serve};
use crate::net::{self, Address, DatagramSockets, Signals};
use crate::output::{Output, Recorder, Style};
use crate::probe::{Echo, EchoConfig, EchoEvent, MAX_UDP_PAYLOAD};
use crate::time::Moment;
use events::{Listening, PingServeEvent, PingServeReport, Summary};

/// The textbook's port.
const DEFAULT_PORT: u16 = 12_000;

/// Echo datagrams in upper case, and lose some on purpose.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab ping-serve --loss 30% --seed 7
  netlab ping-serve --loss 0 --delay 20ms --jitter 5ms")]
pub(crate) struct PingServe {
    #[command(flatten)]
    server: ServerArgs,

    /// What is lost on purpose
    ///
    /// A probability (30%, 0.3, 4/11), ge:P,R or ge:P,R,H,K (Gilbert-Elliott bursts: P into the bad
    /// state, R out of it, H and K the chances to arrive in the bad and in the good one, where netem wants 1-H
    /// and 1-K), nth:K (every K-th) or
    /// list:3,7 (these, counted per client from 1). The default is the textbook's: a random integer
    /// from 0 to 10, below 4 is lost.
    #[arg(long, value_name = "MODEL", default_value = "4/11", allow_hyphen_values = true, value_parser = parse_arg::<LossModel>)]
    loss: LossModel,

    /// Hold each answer for D
    #[arg(long, value_name = "D", default_value = "0", value_parser = duration, hide_default_value = true)]
    delay: Duration,

    /// Vary the delay by up to D
    #[arg(long, value_name = "D", default_value = "0", value_parser = duration, hide_default_value = true)]
    jitter: Duration,

    /// How the jitter is spread: uniform, normal or pareto
    #[arg(long, value_name = "NAME", default_value = "uniform", value_parser = parse_arg::<Distribution>, hide_short_help = true)]
    jitter_dist: Distribution,

    /// Send this part of the answers twice
    #[arg(long, value_name = "P", default_value = "0", value_parser = parse_arg::<Probability>, hide_short_help = true)]
    duplicate: Probability,

    /// Let this part of the answers overtake the delayed ones
    #[arg(long, value_name = "P", default_value = "0", value_parser = parse_arg::<Probability>, hide_short_help = true)]
    reorder: Probability,

    /// Flip a bit in this part of the datagrams
    #[arg(long, value_name = "P", default_value = "0", value_parser = parse_arg::<Probability>, hide_short_help = true)]
    corrupt: Probability,

    /// The speed of the link to each client, for example 5Mbit
    #[arg(long, value_name = "BITS", value_parser = parse_arg::<BitRate>, hide_short_help = true)]
    rate: Option<BitRate>,

    /// Which way all this happens: in, out or both
    #[arg(long, value_name = "WAY", default_value = "in", value_parser = parse_arg::<Direction>, hide_short_help = true)]
    direction: Direction,

    /// Roll the same dice as a run before
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Print N decisions for the first client, and serve nobody
    #[arg(long, value_name = "N")]
    plan: Option<u64>,

    /// Stop after N datagrams; 0 is never
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    count: u64,

    /// The key of authenticated STAMP
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    key_file: Option<PathBuf>,
}

impl PingServe {
    /// Answers until told to stop.
    pub(crate) fn run(&self, style: Style) -> Result<Exit> {
        let seed = self.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
        let impairment = self.impairment(seed);
        impairment.validate()?;
        let mut output = Output::new(style);
        if let Some(count) = self.plan {
            return Self::print_plan(&impairment, count, &mut output);
        }
        let key = self.key_file.as_deref().map(read_key).transpose()?;
        let mut signals = Signals::install()?;
        let receivers = DatagramSockets::bind(&self.server.listen.binds(DEFAULT_PORT), self.server.threads)?;
        let public = receivers.addresses().any(Address::is_public);
        let is_copying = self.duplicate.is_possible();
        if public && is_copying {
            return Err(Error::new(
                Exit::Usage,
                "--duplicate answers one datagram with two, and strangers could aim them",
            )
            .expected("--duplicate on loopback only")
            .remedy("leave out --duplicate, or --bind"));
        }
        self.print_warnings(&output, &receivers, public);
        let nudge = signals.waker()?;
        let (recorder, writer) = Recorder::start(output, move || nudge.wake())?;
        let listening = Listening::new(address_strings(receivers.addresses()), &impairment, public);
        recorder.emit(PingServeReport::Event(PingServeEvent::Listening(listening)));
        self.server.listen.write_ready_file(receivers.addresses().map(ToString::to_string))?;

        let started = net::now();
        let rules = EchoConfig {
            impairment,
            key,
            own_addresses: receivers.socket_addresses(),
            is_public: public,
            remaining: (self.count > 0).then(|| Arc::new(AtomicU64::new(self.count))),
        };
        let total = self.serve(receivers, &rules, style, &mut signals, &recorder, started)?;
        let elapsed = net::now() - started;
        drop(recorder);
        let (mut output, dropped, written) = writer.finish();
        output.emit(&PingServeReport::summary(total.into_summary(elapsed, seed, dropped)))?;
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
        let mut exit = Exit::Success;
        for planned in impairment.plan(1, count) {
            if let Some(signal) = signals.take() {
                exit = signal.exit();
                break;
            }
            output.emit(&PingServeReport::Event(PingServeEvent::Planned(planned)))?;
            if output.is_closed() {
                break;
            }
        }
        output.emit(&PingServeReport::summary(Summary::of_plan(impairment.seed)))?;
        Ok(exit)
    }

    fn print_warnings(&self, output: &Output, receivers: &DatagramSockets, public: bool) {
        for missing in receivers.warnings() {
            output.note(&format!("note: {missing}"));
        }
        if public {
            output.note("warning: strangers can send here; each network is answered 100 times a second at most");
        }
        if self.jitter > self.delay && !self.jitter.is_zero() {
            output.note("note: the jitter is larger than the delay; what would come before its time comes at once");
        }
    }

    fn serve(
        &self,
        receivers: DatagramSockets,
        rules: &EchoConfig,
        style: Style,
        signals: &mut Signals,
        recorder: &Recorder<PingServeReport>,
        started: Moment,
    ) -> Result<Totals> {
        let plan = DatagramServerConfig {
            sockets: receivers,
            threads: self.server.threads,
            max_payload: MAX_UDP_PAYLOAD,
            events_wanted: !style.quiet,
            deadline: self.server.listen.lifetime.map(|lifetime| started + lifetime),
            coalesce_delay: Duration::ZERO,
        };
        let ordinals = Arc::new(AtomicU32::new(0));
        let total = Mutex::new(Totals::default());
        let make = || {
            let echo = Echo::new(rules.clone(), Arc::clone(&ordinals));
            (echo, Observer { recorder: recorder.clone(), remaining: rules.remaining.clone() })
        };
        let finish = |echo: Echo, _: Observer| total.lock().unwrap_or_else(PoisonError::into_inner).add(&echo);
        serve(plan, signals, make, finish)?;
        Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What all threads did.
#[derive(Default)]
struct Totals {
    counters: crate::probe::EchoCounters,
    clients: Vec<crate::probe::ClientCounters>,
}

impl Totals {
    fn add(&mut self, echo: &Echo) {
        self.counters.merge(echo.counters());
        self.clients.extend(echo.clients());
    }

    fn into_summary(mut self, elapsed: Duration, seed: u64, dropped_events: u64) -> Summary {
        self.clients.sort_unstable_by_key(|client| client.client);
        Summary::new(self.counters, self.clients, elapsed, seed, dropped_events)
    }
}

/// Hears the facts of one thread.
struct Observer {
    recorder: Recorder<PingServeReport>,
    remaining: Option<Arc<AtomicU64>>,
}

impl DatagramObserver<Echo> for Observer {
    fn on_event(&mut self, _: usize, fact: EchoEvent) {
        self.recorder.emit(PingServeReport::Event(PingServeEvent::Echo(fact)));
    }

    fn on_turn(&mut self, sides: &mut [Endpoint<Echo>], _: Moment) -> ControlFlow<()> {
        let is_last = self.remaining.as_ref().is_some_and(|remaining| remaining.load(Ordering::Relaxed) == 0);
        // What is held back on purpose is still owed.
        let owes = sides.iter().any(|side| crate::protocol::DatagramProtocol::wake_at(side.protocol()).is_some());
        if is_last && !owes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn on_status_request(&mut self, _: &mut [Endpoint<Echo>], _: Moment) {}
}
