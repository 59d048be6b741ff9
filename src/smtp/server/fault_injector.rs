//! Fault injector: carries a server session on a connection and applies the fault rules to it.
//!
//! Owns the points at which rules apply, the replies that a rule replaces, delays or suppresses, and the end of the
//! connection. The session is independent of it; without rules each response is sent as it is.
//!
//! ```text
//!   connection ◀─▶ FaultInjector ── bytes ──▶ ServerSession ── verdict? ──▶ RulePolicy ──▶ FaultRules
//!                        ▲                         │                            │
//!                        └────── response ─────────┘         action of its rule ┘
//! ```
//!
//! A paced reply or an unfinished job pauses the session: no input is read.

use std::rc::Rc;
use std::sync::Arc;

use super::super::stage::Stage;
use super::config::ServerTurn;
use super::fault::{Effect, FaultAction, FaultPoint, FaultRules, FiredRule};
use super::paced_reply::{PacedReply, ReplyEnding};
use super::policy::{Policy, Verdict};
use super::state::{AfterReply, Response};
use super::{ClientInfo, MessageSink, ServerEvent, ServerReply, ServerSession};
use crate::protocol::{
    Actions, Awaited, AwaitsInput, CloseReason, InputPiece, StreamProtocol, Turn, WaitReport, excerpt,
};
use crate::time::Moment;

/// Server session on a connection, with fault rules.
pub(crate) struct FaultInjector<M: MessageSink> {
    pub(super) session: ServerSession<M, RulePolicy>,
    /// Effect in place of the implicit-TLS handshake; `None` once the connection is open.
    opening: Option<Effect>,
    /// Reply that is being sent, and the action that follows it.
    paced_reply: Option<(PacedReply, AfterReply)>,
    /// Stored messages whose 250 is not sent yet, with the time of reception.
    unacknowledged: Vec<(M::Stored, Moment)>,
    condition: Condition,
}

/// Condition of a connection, beside the dialogue.
#[derive(Debug, PartialEq, Eq)]
enum Condition {
    Open,
    /// Fault: bytes to send in place of the TLS handshake.
    FailedHandshake(Vec<u8>),
    /// Fault: nothing more is sent or read.
    Stalled,
    Closed,
}

/// Policy given by the fault rules.
pub(super) struct RulePolicy {
    rules: Arc<FaultRules>,
    session: u64,
    /// Action of the rule that fired for the next response.
    action: FaultAction,
}

impl RulePolicy {
    /// Emits an event for the rule that fired, and returns its action.
    fn report<T>(&self, fired: Option<FiredRule<'_>>, turn: &mut Turn<'_, ServerEvent<T>>) -> FaultAction {
        let Some(FiredRule { rule_index, ordinal, action }) = fired else { return FaultAction::default() };
        turn.actions.emit(ServerEvent::Fault { session: self.session, rule_index, ordinal });
        action.clone()
    }

    fn evaluate<T>(&self, point: FaultPoint, name: &str, turn: &mut Turn<'_, ServerEvent<T>>) -> FaultAction {
        self.report(self.rules.evaluate(|candidate| candidate == point, name), turn)
    }
}

impl<M: MessageSink> Policy<M> for RulePolicy {
    fn verdict(&mut self, stage: Option<Stage>, identity: &str, turn: &mut ServerTurn<'_, M>) -> Verdict {
        self.action = self.report(self.rules.evaluate_reply(stage, identity), turn);
        match self.action.negative_reply() {
            Some(reply) => Verdict::Reject(reply.clone()),
            None if self.action.effect == Effect::None => Verdict::Execute,
            None => Verdict::Override,
        }
    }

    fn hidden_extensions(&mut self, name: &str, turn: &mut ServerTurn<'_, M>) -> Vec<String> {
        let mut hidden = Vec::new();
        for fired in self.rules.evaluate_all(|point| point == FaultPoint::EhloExtensions, name) {
            if let Effect::Hide(keywords) = self.report(Some(fired), turn).effect {
                hidden.extend(keywords);
            }
        }
        hidden
    }

    fn repeated_challenges(&mut self, helo_name: &str, turn: &mut ServerTurn<'_, M>) -> Option<u32> {
        let action = self.evaluate(FaultPoint::AuthChallenge, helo_name, turn);
        if let Effect::Challenges(count) = action.effect { Some(count) } else { None }
    }
}

impl<M: MessageSink> FaultInjector<M> {
    pub(crate) fn new(sink: Rc<M>, rules: Arc<FaultRules>, client: ClientInfo, now: Moment) -> Self {
        let policy = RulePolicy { rules, session: client.session, action: FaultAction::default() };
        Self {
            session: ServerSession::new(sink, policy, client, now),
            opening: Some(Effect::None),
            paced_reply: None,
            unacknowledged: Vec::new(),
            condition: Condition::Open,
        }
    }

    /// Makes the session send `reply` in place of the banner and close.
    #[must_use]
    pub(crate) fn with_rejection(mut self, reply: ServerReply) -> Self {
        self.session.rejection = Some(reply);
        self
    }

    /// Returns whether the session is rejected in place of the banner.
    pub(crate) fn is_rejected(&self) -> bool {
        self.session.rejection.is_some()
    }

    /// Applies `effect` in place of the implicit-TLS handshake.
    #[must_use]
    pub(crate) fn with_handshake_effect(mut self, effect: Effect) -> Self {
        self.opening = Some(effect);
        self
    }

    fn evaluate(&self, point: FaultPoint, turn: &mut ServerTurn<'_, M>) -> FaultAction {
        self.session.policy.evaluate(point, &self.session.client.helo_name, turn)
    }

    /// Returns whether input cannot be processed now.
    fn is_busy(&self) -> bool {
        self.is_paused() || matches!(self.condition, Condition::Stalled | Condition::Closed)
    }

    /// Sends the response, or what the rule that fired for it prescribes.
    fn send(&mut self, response: Response<M::Stored>, turn: &mut ServerTurn<'_, M>) {
        let Response { reply, then, stored } = response;
        let action = std::mem::take(&mut self.session.policy.action);
        self.unacknowledged.extend(stored);
        if action == FaultAction::default() {
            turn.actions.send_with(|buffer| reply.write(buffer));
            return self.reply_sent(then, turn);
        }
        let mut bytes = Vec::new();
        match &action.effect {
            Effect::Reply(replacement) => replacement.write(&mut bytes),
            Effect::Raw(raw) => bytes.extend_from_slice(raw),
            _ => reply.write(&mut bytes),
        }
        bytes.extend_from_slice(&action.injected);
        self.pace(bytes, &action, then, turn);
    }

    fn pace(&mut self, bytes: Vec<u8>, action: &FaultAction, then: AfterReply, turn: &mut ServerTurn<'_, M>) {
        self.paced_reply = Some((PacedReply::new(bytes, action, turn.now), then));
        if action.delay.is_zero() {
            self.flush_reply(turn);
        }
    }

    /// Sends the part of the paced reply that is due.
    fn flush_reply(&mut self, turn: &mut ServerTurn<'_, M>) {
        let Some((reply, then)) = &mut self.paced_reply else { return };
        let Some(ending) = reply.send_due(turn) else { return };
        let then = *then;
        self.paced_reply = None;
        if ending != ReplyEnding::Normal {
            self.emit_accepted(turn);
        }
        match ending {
            ReplyEnding::Normal => self.reply_sent(then, turn),
            ReplyEnding::Drop => self.close(turn),
            ReplyEnding::Reset => self.reset(turn),
            ReplyEnding::Stall => self.condition = Condition::Stalled,
        }
    }

    fn reply_sent(&mut self, then: AfterReply, turn: &mut ServerTurn<'_, M>) {
        self.session.reply_sent(turn.now);
        match then {
            AfterReply::Continue => {}
            AfterReply::SendBanner => {
                let banner = self.session.banner(turn);
                self.send(banner, turn);
            }
            AfterReply::StartTls => self.start_tls(turn),
            AfterReply::Close => self.close(turn),
        }
    }

    /// Emits the messages whose 250 is sent or will never be.
    fn emit_accepted(&mut self, turn: &mut ServerTurn<'_, M>) {
        for (stored, received_at) in self.unacknowledged.drain(..) {
            turn.actions.emit(ServerEvent::Accepted(stored, turn.now - received_at));
        }
    }

    /// Applies the rules at the start of a message's content.
    fn start_content(&mut self, turn: &mut ServerTurn<'_, M>) {
        let action = self.evaluate(FaultPoint::Body, turn);
        match action.negative_reply() {
            Some(rejection) => {
                let response = self.session.reject_content(rejection.clone(), turn);
                self.session.policy.action = action;
                self.send(response, turn);
            }
            None if action == FaultAction::default() => {}
            None => self.pace(action.injected.clone(), &action, AfterReply::Continue, turn),
        }
    }

    /// Begins the handshake after the 220 to STARTTLS.
    fn start_tls(&mut self, turn: &mut ServerTurn<'_, M>) {
        // Every earlier reply is sent too.
        self.emit_accepted(turn);
        let effect = self.evaluate(FaultPoint::TlsHandshake, turn).effect;
        self.session.begin_tls(turn.now);
        match effect {
            Effect::None => turn.actions.start_tls(),
            effect => self.fail_handshake(effect, turn),
        }
    }

    /// Applies a fault in place of a TLS handshake.
    fn fail_handshake(&mut self, effect: Effect, turn: &mut ServerTurn<'_, M>) {
        /// TLS 1.2 record with the fatal alert `handshake_failure` (RFC 8446 §6).
        const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];
        match effect {
            Effect::Raw(raw) => self.condition = Condition::FailedHandshake(raw),
            Effect::Alert => self.condition = Condition::FailedHandshake(ALERT.to_vec()),
            Effect::Stall => self.condition = Condition::Stalled,
            Effect::Reset => self.reset(turn),
            _ => self.close(turn),
        }
    }

    fn close(&mut self, turn: &mut ServerTurn<'_, M>) {
        self.condition = Condition::Closed;
        turn.actions.close();
    }

    fn reset(&mut self, turn: &mut ServerTurn<'_, M>) {
        self.condition = Condition::Closed;
        turn.actions.reset();
    }
}

impl<M: MessageSink> StreamProtocol for FaultInjector<M> {
    type Event = ServerEvent<M::Stored>;
    const FULL_DUPLEX: bool = false;

    fn opened(&mut self, tls: Option<&'static str>, now: Moment, actions: &mut Actions<Self::Event>) {
        let turn = &mut Turn { now, actions };
        let response = self.session.opened(tls, turn);
        match (self.opening.take(), response) {
            (None | Some(Effect::None), Some(response)) => self.send(response, turn),
            // Nothing was sent that a reset could destroy.
            (Some(_), Some(_)) => self.reset(turn),
            (Some(Effect::None), None) => {
                let action = self.evaluate(FaultPoint::Connect, turn);
                self.pace(action.injected.clone(), &action, AfterReply::SendBanner, turn);
            }
            (Some(effect), None) => self.fail_handshake(effect, turn),
            (None, None) => {}
        }
    }

    fn received(&mut self, bytes: &[u8], now: Moment, actions: &mut Actions<Self::Event>) -> usize {
        /// Limit of queued replies, in bytes; no further commands are read above it.
        const MAX_QUEUED_REPLIES: usize = 64 * 1024;
        let turn = &mut Turn { now, actions };
        let mut consumed = 0;
        while !self.is_busy() && turn.actions.queued_bytes() < MAX_QUEUED_REPLIES {
            let rest = bytes.get(consumed..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            if let Condition::FailedHandshake(replacement) = &self.condition {
                turn.actions.send(replacement);
                self.close(turn);
                break;
            }
            if self.session.begins_content() {
                // Nothing is consumed yet: if the reply is paced, the same bytes are offered again later.
                self.start_content(turn);
                continue;
            }
            let input = turn.actions.is_traced().then(|| self.session.traced_input(rest));
            let (count, response) = self.session.receive(rest, turn);
            consumed += count;
            if let Some(input) = input.filter(|_| count > 0) {
                turn.actions.trace_input(|| {
                    if let InputPiece::Content(_) = input { InputPiece::Content(count as u64) } else { input }
                });
            }
            if let Some(response) = response {
                self.send(response, turn);
            } else if count == 0 {
                break;
            }
        }
        // A stalled session discards its input, so that the client's close is still detected.
        if matches!(self.condition, Condition::Stalled | Condition::Closed) { bytes.len() } else { consumed }
    }

    fn sent(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        if self.paced_reply.is_none() {
            self.emit_accepted(&mut Turn { now, actions });
        }
    }

    fn woken(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        let turn = &mut Turn { now, actions };
        match (&self.paced_reply, &self.condition) {
            (Some((reply, _)), _) if reply.next_piece_at <= turn.now => self.flush_reply(turn),
            (None, Condition::Open) => {
                let response = self.session.timed_out(turn);
                self.send(response, turn);
            }
            _ => {
                self.paced_reply = None;
                self.emit_accepted(turn);
                self.close(turn);
            }
        }
    }

    fn job_done(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        let turn = &mut Turn { now, actions };
        if let Some(response) = self.session.job_done(turn) {
            self.send(response, turn);
        }
    }

    fn draining(&mut self, now: Moment, actions: &mut Actions<Self::Event>) {
        let turn = &mut Turn { now, actions };
        match self.condition {
            Condition::Stalled | Condition::FailedHandshake(_) => self.close(turn),
            Condition::Closed => {}
            Condition::Open => {
                if let Some(response) = self.session.draining(self.is_busy(), turn.now) {
                    self.send(response, turn);
                }
            }
        }
    }

    fn ended(&mut self, reason: &CloseReason, now: Moment, actions: &mut Actions<Self::Event>) {
        let turn = &mut Turn { now, actions };
        self.emit_accepted(turn);
        if self.condition == Condition::Closed {
            return;
        }
        self.session.ended(reason, turn);
        match reason {
            CloseReason::Finished | CloseReason::Truncated => self.close(turn),
            CloseReason::Broken(_) => self.condition = Condition::Closed,
        }
    }

    fn wake_at(&self) -> Option<Moment> {
        let deadlines = &self.session.deadlines;
        match (&self.paced_reply, &self.condition) {
            _ if self.condition == Condition::Closed || self.session.pending_job.is_some() => None,
            (Some((reply, _)), _) => Some(reply.next_piece_at.min(deadlines.session)),
            (None, Condition::Stalled) => Some(deadlines.session),
            _ => Some(deadlines.next.min(deadlines.session)),
        }
    }

    fn is_paused(&self) -> bool {
        self.session.pending_job.is_some() || self.paced_reply.is_some()
    }
}

impl<M: MessageSink> AwaitsInput for FaultInjector<M> {
    fn awaited(&self) -> Option<Awaited> {
        if self.is_paused() || self.condition != Condition::Open { None } else { self.session.awaited() }
    }

    fn shown_line(&self, line: &[u8]) -> Option<String> {
        self.session.shown_input(line).map(|line| excerpt(line.as_bytes()))
    }

    fn waiting_event(&self, report: WaitReport) -> Self::Event {
        ServerEvent::Waiting { client: self.session.client.clone(), report }
    }
}
