//! Stream protocol of the client session: received bytes, timeouts and connection ends.

use super::errors::{connection_lost, protocol_error, timed_out, unsolicited_reply, wrong_protocol};
use super::{ClientSession, State, TransactionStep};
use crate::protocol::{Actions, CloseReason, StreamProtocol, Turn, Violation};
use crate::smtp::client::config::{ClientEvent, ClientTurn, Security};
use crate::smtp::reply::Reply;
use crate::smtp::stage::Stage;
use crate::time::Moment;

/// Maximum bytes shown of a malformed reply.
const MAX_SHOWN_BYTES: usize = 512;
const UNENCRYPTED_DATA: Violation =
    Violation::new("data followed the reply to STARTTLS unencrypted", "a TLS handshake", "RFC 3207 §4");

impl ClientSession {
    /// Handles the reply to the final dot followed by more data. The reply counts, but the session ends after it.
    fn on_final_dot_reply_with_extra(&mut self, reply: &Reply, extra: &[u8], turn: &mut ClientTurn<'_>) {
        let extra = self.shown_text(extra);
        self.delivery.transactions_left = 1;
        self.on_reply(reply, turn);
        if self.config.requested_extensions.strict {
            self.failure.get_or_insert_with(|| unsolicited_reply(Stage::Dot, &extra));
        } else {
            turn.actions.emit(ClientEvent::Warning("unsolicited reply after the one to the final dot"));
        }
    }
}

impl ClientSession {
    /// Beginning of received bytes as text, with secrets hidden.
    fn shown_text(&self, bytes: &[u8]) -> String {
        let shown = String::from_utf8_lossy(bytes.get(..MAX_SHOWN_BYTES).unwrap_or(bytes));
        self.redact_text(shown.into_owned())
    }
}

impl StreamProtocol for ClientSession {
    type Event = ClientEvent;
    const FULL_DUPLEX: bool = true;

    fn opened(&mut self, _: Option<&'static str>, now: Moment, actions: &mut Actions<ClientEvent>) {
        let turn = &mut Turn { now, actions };
        if matches!(self.state, State::TlsHandshake) {
            self.is_encrypted = true;
            turn.actions.emit(ClientEvent::TlsEstablished);
            if self.config.security == Security::Starttls {
                return self.send_ehlo(turn);
            }
            self.enter(State::Greeting, turn);
        }
        self.stage_started = turn.now;
        self.start_reply_timeout(turn.now);
    }

    fn received(&mut self, bytes: &[u8], now: Moment, actions: &mut Actions<ClientEvent>) -> usize {
        let turn = &mut Turn { now, actions };
        if matches!(self.state, State::Finished { .. }) {
            return bytes.len();
        }
        let (taken, reply) = match Reply::parse(bytes) {
            Ok(None) => {
                self.partial_reply = bytes.to_vec();
                return 0;
            }
            Ok(Some(parsed)) => parsed,
            Err((violation, at)) => {
                let error = protocol_error(violation, &self.shown_text(bytes.get(at..).unwrap_or_default()));
                turn.actions.emit(ClientEvent::MalformedReply(self.shown_text(bytes)));
                let error = if matches!(self.state, State::Greeting) { wrong_protocol(bytes, error) } else { error };
                self.fail(self.adjust_for_final_dot(error), false, turn);
                return bytes.len();
            }
        };
        self.partial_reply.clear();
        let rest = bytes.get(taken..).unwrap_or_default();
        // One reply per command: an additional one could be taken for the reply to the next command, and data
        // after the 220 to STARTTLS would be trusted after the handshake (CVE-2011-0411, "NO STARTTLS").
        let (stage, step, expected) = (self.state.stage(), self.state.step(), self.state.expected_replies());
        // A server may announce at any time that it closes (421, RFC 5321 §3.8); that becomes the reply to the next
        // command. The 421 may still be incomplete: treat it as one if it is a prefix; no positive reply begins so.
        let is_closing = (rest.starts_with(b"421") || b"421".starts_with(rest)) && stage != Stage::Starttls;
        if !is_closing && step == Some(TransactionStep::FinalDot) {
            self.on_final_dot_reply_with_extra(&reply, rest, turn);
            return bytes.len();
        }
        if expected == 1 && !rest.is_empty() && !is_closing && stage != Stage::Quit {
            turn.actions.emit(ClientEvent::ReplyReceived(self.redact_reply(&reply).into_owned()));
            let shown = self.shown_text(rest);
            let error = match stage {
                Stage::Starttls => protocol_error(UNENCRYPTED_DATA, &shown),
                stage => unsolicited_reply(stage, &shown),
            };
            turn.actions.emit(ClientEvent::MalformedReply(shown));
            self.fail(self.adjust_for_final_dot(error), false, turn);
            return bytes.len();
        }
        self.on_reply(&reply, turn);
        taken
    }

    fn sent(&mut self, now: Moment, actions: &mut Actions<ClientEvent>) {
        let turn = &mut Turn { now, actions };
        if self.state.step() == Some(TransactionStep::Body) {
            self.enter_step(TransactionStep::FinalDot, turn);
            self.start_reply_timeout(turn.now);
        }
    }

    fn partly_sent(&mut self, bytes_sent: u64, actions: &mut Actions<ClientEvent>) {
        if self.state.step() == Some(TransactionStep::Body) {
            actions.emit(ClientEvent::MessageProgress(bytes_sent));
        }
    }

    fn woken(&mut self, now: Moment, actions: &mut Actions<ClientEvent>) {
        let turn = &mut Turn { now, actions };
        match self.state {
            State::Finished { .. } => {}
            State::Idle => self.start_transaction(turn),
            State::Closing => {
                self.finish(turn);
                turn.actions.close();
            }
            _ => {
                if !self.partial_reply.is_empty() {
                    turn.actions.emit(ClientEvent::MalformedReply(self.shown_text(&self.partial_reply)));
                }
                let error = timed_out(self.state.stage(), turn.now - self.stage_started);
                self.fail(self.adjust_for_final_dot(error), false, turn);
            }
        }
    }

    fn draining(&mut self, _: Moment, _: &mut Actions<ClientEvent>) {}

    fn ended(&mut self, reason: &CloseReason, now: Moment, actions: &mut Actions<ClientEvent>) {
        let turn = &mut Turn { now, actions };
        let error = match reason {
            CloseReason::Finished | CloseReason::Truncated => connection_lost(self.state.stage(), None),
            CloseReason::Broken(error) => connection_lost(self.state.stage(), Some(error)),
        };
        self.on_connection_lost(error, turn);
    }

    fn wake_at(&self) -> Option<Moment> {
        self.deadline
    }
}
