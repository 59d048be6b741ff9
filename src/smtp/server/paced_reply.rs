//! Reply that is delayed, throttled or suppressed by a fault rule. Knows bytes and times, but not the session.

use std::time::Duration;

use super::fault::{Effect, FaultAction};
use crate::protocol::Turn;
use crate::time::Moment;

/// Minimum time between two pieces of a throttled reply.
const MIN_PIECE_INTERVAL: Duration = Duration::from_millis(50);

/// Reply that is not completely sent yet.
#[derive(Debug)]
pub(super) struct PacedReply {
    bytes: Vec<u8>,
    sent: usize,
    bytes_per_second: Option<u64>,
    pub next_piece_at: Moment,
    ending: ReplyEnding,
}

/// Action after the last byte of the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyEnding {
    Normal,
    Drop,
    Reset,
    Stall,
}

impl PacedReply {
    pub(super) fn new(bytes: Vec<u8>, action: &FaultAction, now: Moment) -> Self {
        let ending = match action.effect {
            Effect::Drop => ReplyEnding::Drop,
            Effect::Reset => ReplyEnding::Reset,
            Effect::Stall => ReplyEnding::Stall,
            _ => ReplyEnding::Normal,
        };
        let bytes = if ending == ReplyEnding::Normal { bytes } else { Vec::new() };
        let (bytes_per_second, next_piece_at) = (action.bytes_per_second, now + action.delay);
        Self { bytes, sent: 0, bytes_per_second, next_piece_at, ending }
    }

    /// Sends the next piece; returns the ending once all bytes are sent.
    pub(super) fn send_due<E>(&mut self, turn: &mut Turn<'_, E>) -> Option<ReplyEnding> {
        let rest = self.bytes.get(self.sent..).unwrap_or_default();
        let Some(rate) = self.bytes_per_second.filter(|_| !rest.is_empty()) else {
            turn.actions.send(rest);
            return Some(self.ending);
        };
        let due = u128::from(rate) * MIN_PIECE_INTERVAL.as_nanos() / 1_000_000_000;
        let piece = rest.get(..usize::try_from(due).unwrap_or(usize::MAX).max(1)).unwrap_or(rest);
        turn.actions.send(piece);
        self.sent += piece.len();
        self.next_piece_at =
            turn.now + Duration::from_secs_f64(as_f64(piece.len()) / as_f64(usize::try_from(rate).unwrap_or(1)));
        None
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most a few kilobytes")]
fn as_f64(bytes: usize) -> f64 {
    bytes as f64
}
