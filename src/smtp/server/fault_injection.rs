//! Fault injection into the replies: the effect of a `--fault` rule if one fires, else the normal reply.
//!
//! Owns the evaluation of the rules, the events for faults and rejected commands, and the error limit.

use super::super::stage::Stage;
use super::config::ServerTurn;
use super::fault::{Effect, FaultAction, FaultPoint, FiredRule};
use super::replies::{self, ServerReply};
use super::{AfterReply, MessageSink, RejectedCommand, ServerEvent, ServerSession};

impl<M: MessageSink> ServerSession<M> {
    /// Evaluates the rules for a reply and emits an event if one fires.
    pub(super) fn evaluate_reply(
        &self,
        stage: Option<Stage>,
        identity: &str,
        turn: &mut ServerTurn<'_, M>,
    ) -> FaultAction {
        let fired = self.sink.config().faults.evaluate_reply(stage, identity);
        self.emit_fault(fired, turn)
    }

    /// Evaluates the rules for another fault point.
    pub(super) fn evaluate_at(&self, point: FaultPoint, turn: &mut ServerTurn<'_, M>) -> FaultAction {
        let fired = self.sink.config().faults.evaluate(|candidate| candidate == point, &self.client.helo_name);
        self.emit_fault(fired, turn)
    }

    pub(super) fn emit_fault(&self, fired: Option<FiredRule<'_>>, turn: &mut ServerTurn<'_, M>) -> FaultAction {
        let Some(fired) = fired else { return FaultAction::default() };
        turn.actions.emit(ServerEvent::Fault {
            session: self.client.session,
            rule_index: fired.rule_index,
            ordinal: fired.ordinal,
        });
        fired.action.clone()
    }

    /// Replies to a command with the result of `act`, unless a fault rule replaces the reply. `act` is not
    /// called if that reply is negative.
    pub(super) fn respond(
        &mut self,
        stage: Option<Stage>,
        (identity, command): (&str, &str),
        turn: &mut ServerTurn<'_, M>,
        act: impl FnOnce(&mut Self) -> ServerReply,
    ) {
        let action = self.evaluate_reply(stage, identity, turn);
        let reply = match action.negative_reply() {
            Some(rejection) => rejection.clone(),
            None => act(self),
        };
        self.finish_reply(stage, command, reply, &action, turn);
    }

    /// Sends a reply and emits an event if it is negative. Too many errors close the connection.
    pub(super) fn finish_reply(
        &mut self,
        stage: Option<Stage>,
        command: &str,
        mut reply: ServerReply,
        action: &FaultAction,
        turn: &mut ServerTurn<'_, M>,
    ) {
        const MAX_ERRORS: u32 = 20;
        // A 421 closes the connection even if a rule replaces the reply.
        if reply.code == 421 {
            self.output.after_reply = AfterReply::Close;
        }
        // A reply replaced by a positive one is not a rejection.
        let is_sent = matches!(action.effect, Effect::None) || action.negative_reply().is_some();
        if reply.is_negative() && is_sent {
            if matches!(reply.code, 500..=504 | 535) && action.negative_reply().is_none() {
                self.input.errors += 1;
                if self.input.errors >= MAX_ERRORS {
                    reply = replies::TOO_MANY_ERRORS;
                }
            }
            if reply.code == 421 {
                self.output.after_reply = AfterReply::Close;
            }
            let (client, command) = (self.client.clone(), command.to_owned());
            turn.actions.emit(ServerEvent::Rejected(RejectedCommand { client, stage, command, reply: reply.clone() }));
        }
        self.send_reply(&reply, action, turn);
    }
}
