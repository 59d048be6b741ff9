//! `netlab get`: HTTP client, once or as a repeated measurement.
//!
//! Owns the flags and the course of a run: fetch each URL up to `--count` times, report each result, print the
//! summary. [`request`] parses URLs and fields, [`fetch`] follows redirects to the final response, [`body_sink`]
//! receives the body, [`events`] formats the output.

mod body_sink;
mod events;
mod fetch;
mod request;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::args::{TrustArgs, duration, number, positive_duration};
use super::dialogue_trace::TraceArgs;
use super::fail_if::{FailIf, check_all};
use super::header_field::HeaderField;
use super::peer::AddressArgs;
use super::plot_data::{PlotData, write_chart};
use super::report::{self, plural};
use crate::disk;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::{self, Signals};
use crate::output::{Attempts, Format, Marker, Output, Style, WaitNotice, names_stdout};
use crate::stop::StopConditions;
use crate::time::Moment;
use body_sink::{BodySink, Destination};
use events::Counters;
pub(in crate::commands) use events::list_events;
use fetch::{FetchResult, Fetcher};
use request::{RequestTemplate, Target};

/// Fetch URLs over HTTP, once or repeatedly with statistics.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab get -o page.html http://127.0.0.1:6789/HelloWorld.html
  netlab get --count 10 --interval 200ms http://127.0.0.1:6789/")]
pub(crate) struct Get {
    /// URL to fetch; http:// may be omitted
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,

    /// Write the body to FILE once it is complete
    ///
    /// The body is written to FILE.part, which is renamed to FILE once it is complete. - means standard output,
    /// also for a binary body on a terminal.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write the body to a file named after the URL
    #[arg(short = 'O', long, conflicts_with = "output")]
    remote_name: bool,

    /// Let -O overwrite an existing file
    #[arg(long, requires = "remote_name", hide_short_help = true)]
    force: bool,

    /// Add 'Name: value' to the request; repeatable
    #[arg(short = 'H', long, value_name = "FIELD")]
    header: Vec<String>,

    /// Request method, overriding that of other flags
    #[arg(short = 'X', long, value_name = "METHOD", value_parser = request::method, hide_short_help = true)]
    request: Option<String>,

    /// Send DATA, @FILE or @- (stdin) with POST
    #[arg(short, long, value_name = "DATA", conflicts_with = "head")]
    data: Option<String>,

    /// Send HEAD and print the response head
    #[arg(short = 'I', long)]
    head: bool,

    /// Print the response head before the body
    #[arg(short, long, hide_short_help = true)]
    include: bool,

    /// Fetch N times and print statistics; 0 = until interrupted
    ///
    /// Bodies are counted instead of printed (-o still writes them), and the summary has statistics of each phase.
    #[arg(short, long, value_name = "N", value_parser = number::<u64>(0..))]
    count: Option<u64>,

    /// Time between the starts of fetches
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    interval: Duration,

    /// Give up after this long without progress
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = positive_duration)]
    timeout: Duration,

    /// Time limit for connecting
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive_duration, hide_short_help = true)]
    connect_timeout: Duration,

    /// Time limit for the whole run
    #[arg(short = 'w', long, value_name = "DURATION", value_parser = positive_duration, hide_short_help = true)]
    deadline: Option<Duration>,

    /// Follow at most N redirects; 0 = print the redirect itself
    #[arg(long, value_name = "N", default_value_t = 10, hide_short_help = true, value_parser = number::<u32>(0..=u32::MAX))]
    max_redirects: u32,

    /// Write an SVG chart of request times to FILE
    #[arg(long, value_name = "FILE", requires = "count", hide_short_help = true)]
    svg: Option<PathBuf>,

    /// Exit 1 if EXPR holds, e.g. 'total.p95>20ms'; repeatable
    #[arg(long, value_name = "EXPR", value_parser = FailIf::parse::<events::Summary>, hide_short_help = true)]
    fail_if: Vec<FailIf>,

    #[command(flatten)]
    trace: TraceArgs,

    #[command(flatten)]
    addressing: AddressArgs,

    #[command(flatten)]
    trust: TrustArgs,
}

impl Get {
    pub(crate) fn run(&self, mut output: Output) -> Result<Exit> {
        let writes_stdout = self.output.as_deref().is_some_and(is_stdout);
        if writes_stdout && output.style().format == Format::Json {
            return Err(Error::new(Exit::Usage, "--json and a body cannot share standard output")
                .remedy("write the body to a file with -o FILE, or leave out --json"));
        }
        let interval = self.urls.first().filter(|word| self.include && duration(word).is_ok());
        if let Some(word) = interval.filter(|_| self.urls.len() > 1) {
            return Err(Error::new(Exit::Usage, format!("'{word}' is not a URL"))
                .remedy(format!("-i is --include; for the interval: --interval {word}")));
        }
        let (urls, note) = request::join_textbook_url(&self.urls);
        if let Some(number) = urls.iter().find(|word| word.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(Error::new(Exit::Usage, format!("'{number}' is not a URL"))
                .expected("a URL, or HOST PORT [FILE], with a port from 1 to 65535"));
        }
        note.iter().for_each(|note| output.note(note));
        if self.output.is_some() && urls.len() > 1 {
            return Err(Error::new(Exit::Usage, "cannot write the bodies of several URLs to one file")
                .remedy("use -O, or run netlab get once per URL"));
        }
        let (targets, fields) = self.parse_targets(&urls)?;
        let deadline = self.deadline.map(|deadline| net::now() + deadline);
        let before_signals = StopConditions::at_deadline(deadline, net::now);
        let body = self.data.as_deref().map(|data| request::read_body(data, &before_signals)).transpose()?;
        let request = RequestTemplate::new(self.method(), &fields, body);
        self.svg.as_deref().map_or(Ok(()), disk::check_writable)?;
        let mut signals = Signals::install()?;
        let stop = signals.stop_conditions(deadline);
        output.stop_on(stop.clone());
        let notice = WaitNotice::new(&output);
        let mut run = FetchRun {
            args: self,
            request,
            output,
            counters: Counters::new(&targets),
            plots: targets.iter().map(|_| PlotData::new(self.svg.is_some())).collect(),
            targets,
            created_files: HashSet::new(),
            deadline,
            stop,
            notice,
        };
        let fetcher = Fetcher::new(
            self.limits(run.deadline),
            self.trust.trust(),
            self.trace.client_trace(&run.output),
            run.notice.clone(),
        );
        run.fetch_all(fetcher, &mut signals)
    }

    /// Parses URLs and fields. They may contain secrets, so this is not left to clap, which repeats invalid
    /// values in its errors.
    fn parse_targets(&self, urls: &[String]) -> Result<(Vec<Target>, Vec<HeaderField>)> {
        let invalid = |what: String, reason: String| Error::invalid_value(&what, &reason);
        let url = |text: &str| format!("URL '{}'", request::masked(text));
        let targets = urls.iter().map(|text| text.parse().map_err(|reason| invalid(url(text), reason)));
        let field = |text: &str| {
            text.split_once(':').map_or_else(|| "header field".to_owned(), |(name, _)| format!("header field '{name}'"))
        };
        let fields = self.header.iter().map(|text| text.parse().map_err(|reason| invalid(field(text), reason)));
        Ok((targets.collect::<Result<_>>()?, fields.collect::<Result<_>>()?))
    }

    fn method(&self) -> Option<&str> {
        self.request.as_deref().or(self.head.then_some("HEAD"))
    }

    fn limits(&self, deadline: Option<Moment>) -> fetch::FetchLimits {
        fetch::FetchLimits {
            phase_timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            deadline,
            max_redirects: self.max_redirects,
            addressing: self.addressing,
        }
    }

    /// Returns true if bodies are counted instead of printed; `-o` still writes them.
    fn counts_bodies(&self, style: Style) -> bool {
        self.count.is_some() || style.format == Format::Json
    }
}

/// Outcome of a fetch for the chart.
fn marker(result: Result<&FetchResult, &Error>) -> Marker {
    match result {
        Ok(result) if result.status < 400 => result.phases.total.map_or(Marker::Failed, Marker::Answered),
        _ => Marker::Failed,
    }
}

/// Adds what was waited for to the error of an interruption.
fn interrupted_while(error: Error, notice: &WaitNotice) -> Error {
    match error.exit() {
        exit @ (Exit::Interrupted | Exit::Terminated) => {
            Error::new(exit, notice.describe_interruption(error.message()))
        }
        _ => error,
    }
}

/// Returns whether `-o` names standard output.
fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-" || names_stdout(path)
}

struct FetchRun<'g> {
    args: &'g Get,
    targets: Vec<Target>,
    /// Files that -O created in this run, and may replace.
    created_files: HashSet<PathBuf>,
    request: RequestTemplate,
    output: Output,
    counters: Counters,
    /// Times of each target, for the chart.
    plots: Vec<PlotData>,
    deadline: Option<Moment>,
    stop: StopConditions,
    notice: WaitNotice,
}

impl FetchRun<'_> {
    /// Fetches on an absolute schedule, so that slow responses do not extend the interval.
    fn fetch_all(&mut self, mut fetcher: Fetcher, signals: &mut Signals) -> Result<Exit> {
        let started = net::now();
        let count = self.args.count.unwrap_or(1);
        let is_probe = self.args.counts_bodies(self.output.style());
        let mut exits = Vec::new();
        let mut stopped = None;
        let mut round = 0_u64;
        while (count == 0 || round < count) && stopped.is_none() && !self.output.is_closed() {
            for (index, target) in self.targets.clone().into_iter().enumerate() {
                let result = self.fetch_one(&target, &mut fetcher, signals);
                if let Some(plot) = self.plots.get_mut(index) {
                    plot.record(round + 1, marker(result.as_ref()));
                }
                let exit = self.report(&target, result, is_probe, !exits.is_empty())?;
                if matches!(exit, Exit::Interrupted | Exit::Terminated) {
                    stopped = Some(exit);
                    break;
                }
                exits.push(exit);
                if self.deadline.is_some_and(|deadline| deadline <= net::now()) {
                    break;
                }
            }
            round += 1;
            if stopped.is_none() && (count == 0 || round < count) {
                let slot = u32::try_from(round).map_or(Duration::MAX, |round| self.args.interval.saturating_mul(round));
                stopped = self.wait_until_due(started + slot, signals);
            }
            if self.deadline.is_some_and(|deadline| deadline <= net::now()) {
                break;
            }
        }
        if let Some(file) = &self.args.svg {
            let titles = self.targets.iter().map(Target::as_str);
            write_chart(
                (file, &self.stop),
                Attempts { one: "request", many: "requests" },
                &titles.zip(&self.plots).collect::<Vec<_>>(),
            )?;
        }
        let summary = self.counters.summary(net::now() - started);
        // A signal decides the exit code only if no fetch has ended.
        let exit = stopped.filter(|_| exits.is_empty()).unwrap_or_else(|| Exit::combined(exits.iter().copied()));
        if is_probe && summary.rejected > 0 {
            let (rejected, responses) = (summary.rejected, summary.responses);
            let message = format!(
                "{rejected} of {responses} {} had status 400 or above",
                plural(responses, "response", "responses")
            );
            self.output.report_error(&Error::new(Exit::Negative, message));
        }
        let exit = check_all(&self.args.fail_if, &summary, exit, &mut self.output);
        if is_probe {
            report::emit_summary(&mut self.output, &summary, exit)?;
        }
        Ok(exit)
    }

    /// Waits for the next fetch; a signal ends the wait and the run.
    fn wait_until_due(&self, slot: Moment, signals: &mut Signals) -> Option<Exit> {
        self.notice.waiting_for("");
        let until = self.deadline.map_or(slot, |deadline| deadline.min(slot));
        match signals.wait(Some(until)) {
            net::WakeReason::Signal(signal) => Some(signal.into()),
            net::WakeReason::Waker | net::WakeReason::Timeout => None,
        }
    }

    fn fetch_one(&mut self, target: &Target, fetcher: &mut Fetcher, signals: &mut Signals) -> Result<FetchResult> {
        let destination = self.destination(target).map_err(|error| match signals.take() {
            Some(signal) => signal.failure().into(),
            None => error,
        })?;
        let mut sink = BodySink::new(
            destination,
            self.args.include || self.args.head,
            &mut self.output,
            self.args.max_redirects > 0,
        );
        let result = fetcher.fetch(target, &self.request, &mut sink, signals);
        match result {
            Ok(result) => {
                if sink.finish()? && self.args.remote_name {
                    self.created_files.insert(target.file_name()?);
                }
                Ok(result)
            }
            Err(error) => Err(interrupted_while(sink.abort(error), &self.notice)),
        }
    }

    /// Opens the destination of the body before connecting, so that an error is reported early.
    fn destination(&self, target: &Target) -> Result<Destination> {
        match &self.args.output {
            Some(path) if is_stdout(path) => Ok(Destination::Stdout { allow_binary: true }),
            Some(path) => Ok(Destination::file(path, true, &self.stop)?),
            None if self.args.remote_name => {
                let name = target.file_name()?;
                Ok(Destination::file(&name, self.args.force || self.created_files.contains(&name), &self.stop)?)
            }
            None if self.args.counts_bodies(self.output.style()) => Ok(Destination::Count),
            None => Ok(Destination::Stdout { allow_binary: false }),
        }
    }

    fn report(&mut self, target: &Target, result: Result<FetchResult>, is_probe: bool, has_data: bool) -> Result<Exit> {
        match result {
            Ok(result) => {
                self.counters.record_response(&result);
                let exit = if result.status >= 400 { Exit::Negative } else { Exit::Success };
                if !is_probe && exit == Exit::Negative {
                    self.output.report_error(&Error::new(
                        exit,
                        format!("{}: {} {}", result.url, result.status, result.reason),
                    ));
                }
                let event = events::ResponseEvent::new(result, target);
                if is_probe {
                    self.output.emit(&event)?;
                } else if self.output.style().is_verbose() {
                    self.output.note(&event.to_string());
                }
                Ok(exit)
            }
            Err(error) => {
                let exit = error.exit();
                if has_data && matches!(exit, Exit::Interrupted | Exit::Terminated) {
                    // Stopped by the user: the fetch in flight is not a failure of the server.
                    return Ok(exit);
                }
                self.counters.record_failure();
                // A closed output ends the run silently, a stalled one does not.
                if !self.output.is_closed() || exit == Exit::Io {
                    self.output.report_error(&error.with_context(target.as_str()));
                }
                Ok(exit)
            }
        }
    }
}
