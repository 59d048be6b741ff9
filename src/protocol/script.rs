//! Test harness of stream protocols: a scripted peer whose input arrives in pieces of any size.

use std::time::Duration;

use proptest::prelude::{ProptestConfig, Strategy, prop};

use super::{Action, Actions, CloseReason, StreamProtocol};
use crate::time::Moment;

/// Time of every call; a script takes no time.
pub(crate) const NOW: Moment = Moment::new(Duration::from_secs(5), Duration::from_secs(1_764_000_000));

/// Output of a protocol: bytes, and how it ended the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transcript {
    pub sent: Vec<u8>,
    pub ended: Option<&'static str>,
}

/// Settings of all property tests. `PROPTEST_CASES` sets the number of cases; no file is written on failure.
pub(crate) fn property_config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// Sizes of the pieces in which input arrives; they repeat.
pub(crate) fn piece_sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..40_usize, 1..12)
}

/// Runs a protocol against a peer that sends each part of the script once the part before was answered, and then closes
/// the connection.
pub(crate) fn run<P: StreamProtocol>(protocol: &mut P, script: &[&[u8]], sizes: &[usize]) -> Transcript {
    let mut transcript = Transcript::default();
    let mut actions = Actions::default();
    protocol.opened(None, NOW, &mut actions);
    answer(protocol, &mut actions, &mut transcript);
    let mut sizes = sizes.iter().copied().cycle();
    for part in script {
        let (mut arrived, mut rest) = (Vec::new(), *part);
        while !rest.is_empty() && transcript.ended.is_none() {
            let (piece, later) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
            rest = later;
            arrived.extend_from_slice(piece);
            loop {
                let taken = protocol.received(&arrived, NOW, &mut actions);
                arrived.drain(..taken);
                let has_answered = answer(protocol, &mut actions, &mut transcript);
                if transcript.ended.is_some() || arrived.is_empty() || (taken == 0 && !has_answered) {
                    break;
                }
            }
        }
    }
    if transcript.ended.is_none() {
        protocol.ended(&CloseReason::Finished, NOW, &mut actions);
        answer(protocol, &mut actions, &mut transcript);
    }
    transcript
}

/// Sends everything queued and runs the jobs; returns true if there was anything.
fn answer<P: StreamProtocol>(protocol: &mut P, actions: &mut Actions<P::Event>, transcript: &mut Transcript) -> bool {
    let mut has_answered = false;
    loop {
        let (queued, bytes) = actions.queued();
        let has_output = !queued.is_empty();
        for action in queued.drain(..) {
            match action {
                Action::Bytes(_) | Action::File { .. } => {}
                Action::Close => transcript.ended = transcript.ended.or(Some("close")),
                Action::Reset => transcript.ended = transcript.ended.or(Some("reset")),
                Action::StartTls => transcript.ended = transcript.ended.or(Some("TLS")),
            }
        }
        transcript.sent.append(bytes);
        actions.events().for_each(drop);
        if let Some(job) = actions.take_job() {
            job();
            protocol.job_done(NOW, actions);
        } else if has_output && transcript.ended.is_none() {
            protocol.sent(NOW, actions);
        } else {
            return has_answered;
        }
        has_answered = true;
    }
}
