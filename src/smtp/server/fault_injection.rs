//! What is answered: what a rule of `--fault` says, if one fires, else what is usual.
//!
//! Owns the question to the rules, the telling of what they and we refuse, and the patience with clients
//! that say nothing sensible.

use super::super::stage::Stage;
use super::fault::{Effect, FaultAction, FaultPoint, FiredRule};
use super::replies::{self, ServerReply};
use super::{AfterReply, MessageSink, RejectedCommand, ServerEvent, ServerSession};
use crate::protocol::Actions;
use crate::time::Moment;

impl<M: MessageSink> ServerSession<M> {
    /// Asks the rules about a reply, and tells if one fires.
    pub(super) fn evaluate_reply(
        &self,
        stage: Option<Stage>,
        identity: &str,
        actions: &mut Actions<ServerEvent<M::Stored>>,
    ) -> FaultAction {
        let fired = self.sink.config().faults.evaluate_reply(stage, identity);
        self.emit_fault(fired, actions)
    }

    /// The same about another place.
    pub(super) fn evaluate_at(&self, point: FaultPoint, actions: &mut Actions<ServerEvent<M::Stored>>) -> FaultAction {
        let fired = self.sink.config().faults.evaluate(|found| found == point, &self.client.helo_name);
        self.emit_fault(fired, actions)
    }

    pub(super) fn emit_fault(
        &self,
        fired: Option<FiredRule<'_>>,
        actions: &mut Actions<ServerEvent<M::Stored>>,
    ) -> FaultAction {
        let Some(fired) = fired else { return FaultAction::default() };
        actions.emit(ServerEvent::Fault {
            session: self.client.session,
            rule_index: fired.rule_index,
            ordinal: fired.ordinal,
        });
        fired.action.clone()
    }

    /// Answers a command: a rule of `--fault` if one fires, else what `act` says. A rule that refuses
    /// means that nothing is done.
    pub(super) fn respond(
        &mut self,
        stage: Option<Stage>,
        (identity, command): (&str, &str),
        now: Moment,
        actions: &mut Actions<ServerEvent<M::Stored>>,
        act: impl FnOnce(&mut Self) -> ServerReply,
    ) {
        let action = self.evaluate_reply(stage, identity, actions);
        let answer = match action.negative_reply() {
            Some(refusal) => refusal.clone(),
            None => act(self),
        };
        self.finish_reply(stage, command, answer, &action, now, actions);
    }

    /// Says an answer, and tells if it refuses. What only a broken client says has a limit.
    pub(super) fn finish_reply(
        &mut self,
        stage: Option<Stage>,
        command: &str,
        mut reply: ServerReply,
        action: &FaultAction,
        now: Moment,
        actions: &mut Actions<ServerEvent<M::Stored>>,
    ) {
        const MAX_ERRORS: u32 = 20;
        // What we close for stays closed, whatever a rule says in its place.
        if reply.code == 421 {
            self.after_reply = AfterReply::Close;
        }
        // What a rule says in its place is no refusal of ours.
        let is_said = matches!(action.effect, Effect::None) || action.negative_reply().is_some();
        if reply.is_negative() && is_said {
            if matches!(reply.code, 500..=504 | 535) && action.negative_reply().is_none() {
                self.errors += 1;
                if self.errors >= MAX_ERRORS {
                    reply = replies::TOO_MANY_ERRORS;
                }
            }
            if reply.code == 421 {
                self.after_reply = AfterReply::Close;
            }
            let (client, command) = (self.client.clone(), command.to_owned());
            actions.emit(ServerEvent::Rejected(RejectedCommand { client, stage, command, reply: reply.clone() }));
        }
        self.send_reply(&reply, action, now, actions);
    }
}
