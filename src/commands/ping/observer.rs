//! Observer of the datagram loop: prints the events of each ping while the loop runs.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::events;
use crate::commands::dialogue_trace::DatagramTrace;
use crate::commands::plot_data::PlotData;
use crate::commands::report::TargetEvent;
use crate::error::{Error, Result};
use crate::net::datagram::{DatagramObserver, Endpoint};
use crate::output::{Format, Marker, Output, StatusLine, Trace, WaitNotice};
use crate::probe::{PingClient, PingEvent, explain};
use crate::protocol::TracedDatagrams;
use crate::time::Moment;

/// Output state of one target.
pub(super) struct TargetRun {
    /// Target as typed, with its port.
    pub target: Arc<str>,
    pub peer: SocketAddr,
    pub plot_data: PlotData,
}

/// Protocol of one target, with its trace.
pub(super) type TracedPing = TracedDatagrams<PingClient, DatagramTrace>;

pub(super) struct Observer {
    pub output: Output,
    pub runs: Vec<TargetRun>,
    /// Set if every event is printed.
    pub events_wanted: bool,
    pub status_line: StatusLine,
    /// Explains the outcome of each ping.
    pub trace: Trace,
    pub notice: WaitNotice,
    pub started: Moment,
    /// First output error; it ends the loop.
    pub failure: Result<()>,
}

impl DatagramObserver<TracedPing> for Observer {
    fn on_event(&mut self, index: usize, event: PingEvent) {
        let is_alone = self.runs.len() == 1;
        let Some(run) = self.runs.get_mut(index) else { return };
        if let Some((seq, marker)) = marker(&event) {
            run.plot_data.record(seq, marker);
        }
        match &event {
            PingEvent::Sent { seq, .. } => self.notice.waiting_for(format!("waiting for the reply to ping {seq}")),
            PingEvent::Reply { .. } | PingEvent::Lost { .. } | PingEvent::Refused { .. } => self.notice.done(),
            _ => {}
        }
        // `sent` is printed only as JSON or with -v: the outcome repeats the number.
        let is_shown = self.events_wanted
            && (self.output.style().format == Format::Json
                || self.output.style().is_verbose()
                || !matches!(event, PingEvent::Sent { .. }));
        if is_shown && self.failure.is_ok() {
            let explanation = explain::explain_outcome(&event);
            let report = TargetEvent::new(event, (Arc::clone(&run.target), run.peer), is_alone);
            let (output, failure) = (&mut self.output, &mut self.failure);
            self.status_line.suspend(|| *failure = output.emit(&report).map_err(Error::from));
            self.trace.explain(explanation);
        }
    }

    fn on_turn(&mut self, endpoints: &mut [Endpoint<TracedPing>], now: Moment) -> ControlFlow<()> {
        let clients = || endpoints.iter().map(|endpoint| &endpoint.protocol().inner);
        self.status_line.update(now, || events::status_line(clients(), now - self.started));
        let is_over = clients().all(PingClient::is_finished);
        if is_over || self.output.is_closed() || self.failure.is_err() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn on_status_request(&mut self, endpoints: &mut [Endpoint<TracedPing>], now: Moment) {
        for (endpoint, run) in endpoints.iter().zip(&self.runs) {
            let snapshot =
                events::interim_line(&run.target, &endpoint.protocol().inner.statistics(), now - self.started);
            let output = &self.output;
            self.status_line.suspend(|| output.note(&snapshot));
        }
    }
}

/// Outcome of a ping for the plot; a late reply replaces its loss.
fn marker(event: &PingEvent) -> Option<(u64, Marker)> {
    match event {
        PingEvent::Reply { seq, rtt, .. } => Some((*seq, Marker::Answered(*rtt))),
        PingEvent::Late { seq, rtt, .. } => Some((*seq, Marker::Late(*rtt))),
        PingEvent::Lost { seq } => Some((*seq, Marker::Lost)),
        PingEvent::Refused { seq, .. } => Some((*seq, Marker::Refused)),
        PingEvent::SendError { seq, .. } => Some((*seq, Marker::NotSent)),
        _ => None,
    }
}
