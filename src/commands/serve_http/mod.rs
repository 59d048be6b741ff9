//! `netlab serve-http`: the textbook web server made real.
//!
//! Owns the flags and the story of a run: open the root, listen, say so, serve until told to
//! stop, sum up. The conversation is [`web`]'s, [`answer`] joins a request with the
//! site, [`events`] is what is said about it.

mod answer;
mod events;
mod tally;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values::{ServerArgs, duration, positive_duration};
use super::web::{self, Decision, Fact, Limits, Pages, Session, Turn};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::http::Request;
use crate::net::tls::ServerSide;
use crate::net::{self, Arrival, Listeners, Notice, Nudge, Patience, Plan, Service, Signals, Welcome};
use crate::output::{Format, Output, Recorder, Style};
use crate::site::Root;
use crate::time::Moment;
use answer::Site;
use events::{Event, Line, Listening};
use tally::Tally;

/// The textbook's port.
const PORT: u16 = 6789;

/// Serve the files of a directory over HTTP.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab serve-http assets/site --threads
  netlab serve-http --bind '*:8080' --log combined > access.log")]
pub struct ServeHttp {
    /// The directory to serve
    #[arg(default_value = ".", value_name = "DIR")]
    root: PathBuf,

    #[command(flatten)]
    server: ServerArgs,

    /// File to show for a directory; repeatable
    ///
    /// The first that exists is taken; without any, the directory is listed.
    #[arg(long, value_name = "NAME", default_value = "index.html", value_parser = index_name)]
    index: Vec<String>,

    /// Access log: off, common, combined, json
    ///
    /// Goes to stdout. common and combined are the formats of Apache and nginx; --json means json.
    #[arg(long, value_enum, default_value_t = Log::Common, hide_possible_values = true)]
    log: Log,

    /// Stop after N requests; 0 is never
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    count: u64,

    /// Serve https with this chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// How long running answers may go on after SIGINT, SIGTERM or the end of --for
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration, hide_short_help = true)]
    grace: Duration,

    /// How long a request head may take from its first byte to its last
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    head_timeout: Duration,

    /// How long a connection may be silent between requests
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    idle_timeout: Duration,

    /// How long a client may take none of its answer, or send none of its body
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = positive_duration, hide_short_help = true, help_heading = "Limits")]
    stall_timeout: Duration,
}

/// Form of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Log {
    /// No line per request
    Off,
    /// Common Log Format
    Common,
    /// Common, with Referer and User-Agent
    Combined,
    /// One JSON object per event
    Json,
}

/// An index is a name, not a path that could lead elsewhere.
fn index_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains('/') || text == "." || text == ".." {
        return Err("expected a file name without /".to_owned());
    }
    Ok(text.to_owned())
}

impl ServeHttp {
    /// Serves until told to stop.
    pub fn run(&self, style: Style) -> Result<Exit> {
        let style = if self.log == Log::Json { Style { format: Format::Json, ..style } } else { style };
        let output = Output::new(style);
        let root = self.open_root()?;
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(chain), Some(key)) => Some(ServerSide::from_files(chain, key)?),
            _ => None,
        };
        let mut signals = Signals::listen()?;
        let listeners = Listeners::bind(&self.server.listen.binds(PORT), self.server.threads)?;
        let listening = Listening::new(&listeners, tls.is_some(), root.path());
        self.warn(&output, &listeners, &listening);

        let nudge = signals.nudger()?;
        let (recorder, writer) = Recorder::start(output, move || nudge.nudge())?;
        recorder.emit(Event::Fact(Line::Listening(listening)));
        let scheme = if tls.is_some() { "https" } else { "http" };
        self.server.listen.tell_ready(listeners.addresses().map(|address| web::url(scheme, address)))?;

        let started = net::now();
        let total = self.serve(listeners, tls.as_ref(), root, &mut signals, (&recorder, style), started)?;
        let elapsed = net::now() - started;
        drop(recorder);
        let (mut output, dropped, written) = writer.finish();
        output.emit(&Event::summary(total.summary(elapsed, dropped)))?;
        written?;
        Ok(Exit::Done)
    }

    fn open_root(&self) -> Result<Root> {
        let shown = self.root.display();
        Root::open(&self.root).map_err(|error| {
            let exit = if error.kind() == std::io::ErrorKind::PermissionDenied {
                Exit::Permission
            } else {
                Exit::InputMissing
            };
            let word = match error.kind() {
                std::io::ErrorKind::NotFound => "no such directory",
                std::io::ErrorKind::NotADirectory => "not a directory",
                std::io::ErrorKind::PermissionDenied => "permission denied",
                _ => "it cannot be opened",
            };
            Error::new(exit, format!("cannot serve {shown}: {word}"))
                .expected("a directory that this user may read")
                .remedy("name one: netlab serve-http DIR")
                .because(error)
        })
    }

    /// What a person should know before others find out.
    fn warn(&self, output: &Output, listeners: &Listeners, listening: &Listening) {
        for missing in listeners.missing() {
            output.note(&format!("note: {missing}"));
        }
        let home = std::env::home_dir();
        let root = std::fs::canonicalize(&self.root).unwrap_or_default();
        if root.parent().is_none() || home.is_some_and(|home| home == root) {
            output.note(&format!("warning: {} is served whole, with everything private in it", root.display()));
        }
        if listening.is_public() {
            output.note("warning: everybody who can reach this machine can read these files");
        }
    }

    fn serve(
        &self,
        listeners: Listeners,
        tls: Option<&ServerSide>,
        root: Root,
        signals: &mut Signals,
        (recorder, style): (&Recorder<Event>, Style),
        started: Moment,
    ) -> Result<Tally> {
        let limits = Limits { head: self.head_timeout, idle: self.idle_timeout, stall: self.stall_timeout };
        let plan = Plan {
            doors: vec![listeners],
            threads: self.server.threads,
            helpers: 0,
            most: usize::MAX,
            patience: Patience { handshake: self.head_timeout, stall: self.stall_timeout },
            grace: self.grace,
            until: self.server.listen.lifetime.map(|lifetime| started + lifetime),
        };
        let budget = Arc::new(Budget {
            limit: self.count,
            taken: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            nudge: signals.nudger()?,
        });
        let site = Arc::new((root, self.index.clone()));
        let total = Mutex::new(Tally::default());
        let quiet = style.quiet;
        let make = || Web {
            shared: Rc::new(Shared {
                site: Site::new(Arc::clone(&site)),
                limits,
                budget: Arc::clone(&budget),
                listens: self.log != Log::Off && !quiet,
            }),
            recorder: recorder.clone(),
            combined: self.log == Log::Combined,
            tls: tls.cloned(),
            tally: Tally::default(),
        };
        let finish = |web: Web| total.lock().unwrap_or_else(std::sync::PoisonError::into_inner).merge(&web.tally);
        net::serve(plan, signals, make, finish)?;
        Ok(total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// `--count`: how many requests may still be taken, over all threads.
#[derive(Debug)]
struct Budget {
    limit: u64,
    taken: AtomicU64,
    answered: AtomicU64,
    nudge: Nudge,
}

impl Budget {
    fn take(&self) -> Turn {
        if self.limit == 0 {
            return Turn::Served;
        }
        match self.taken.fetch_add(1, Ordering::Relaxed) + 1 {
            number if number < self.limit => Turn::Served,
            number if number == self.limit => Turn::Last,
            _ => Turn::TooLate,
        }
    }

    fn answered(&self) {
        if self.limit > 0 && self.answered.fetch_add(1, Ordering::Relaxed) + 1 == self.limit {
            self.nudge.nudge();
        }
    }
}

/// What all sessions of one thread share.
#[derive(Debug)]
struct Shared {
    site: Site,
    limits: Limits,
    budget: Arc<Budget>,
    /// Whether anybody reads an event per request.
    listens: bool,
}

impl Pages for Shared {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn decide(&self, request: &Request<'_>, now: Moment) -> Decision {
        self.site.decide(request, now)
    }

    fn listens(&self) -> bool {
        self.listens
    }

    fn turn(&self) -> Turn {
        self.budget.take()
    }

    fn answered(&self) {
        self.budget.answered();
    }
}

/// The service of one thread.
struct Web {
    shared: Rc<Shared>,
    recorder: Recorder<Event>,
    combined: bool,
    tls: Option<ServerSide>,
    tally: Tally,
}

impl Service for Web {
    type Talk = Session<Shared>;

    fn accepted(&mut self, Arrival { peer, .. }: Arrival, now: Moment) -> Welcome<Session<Shared>> {
        self.tally.connections += 1;
        let talk = Session::new(Rc::clone(&self.shared), peer, now);
        Welcome { talk, tls: self.tls.clone(), upgrade: None }
    }

    fn fact(&mut self, fact: Fact) {
        self.tally.count(&fact);
        if self.shared.listens
            && let Some(event) = Line::of(fact, self.combined)
        {
            self.recorder.emit(Event::Fact(event));
        }
    }

    fn notice(&mut self, Notice::Exhausted(word): Notice) {
        self.recorder.emit(Event::Fact(Line::Notice { what: format!("no new connections for a moment: {word}") }));
    }
}
