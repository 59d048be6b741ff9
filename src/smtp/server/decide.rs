//! What is answered: what a rule of `--fault` says, if one fires, else what is usual.
//!
//! Owns the question to the rules, the telling of what they and we refuse, and the patience with clients
//! that say nothing sensible.

use super::super::fault::{FaultAction, Fired, Instead, Place};
use super::super::plan::Stage;
use super::answer::{self, Answer};
use super::{After, Fact, Mailroom, Refused, Server};
use crate::conversation::Actions;
use crate::time::Moment;

impl<M: Mailroom> Server<M> {
    /// Asks the rules about a reply, and tells if one fires.
    pub(super) fn decide(&self, stage: Option<Stage>, whose: &str, out: &mut Actions<Fact<M::Kept>>) -> FaultAction {
        let fired = self.room.rules().faults.reply(stage, whose);
        self.told(fired, out)
    }

    /// The same about another place.
    pub(super) fn decide_at(&self, place: Place, out: &mut Actions<Fact<M::Kept>>) -> FaultAction {
        let fired = self.room.rules().faults.decide(|found| found == place, &self.client.name);
        self.told(fired, out)
    }

    pub(super) fn told(&self, fired: Option<Fired<'_>>, out: &mut Actions<Fact<M::Kept>>) -> FaultAction {
        let Some(fired) = fired else { return FaultAction::default() };
        out.emit(Fact::Fault { session: self.client.session, rule: fired.rule, number: fired.number });
        fired.action.clone()
    }

    /// Answers a command: a rule of `--fault` if one fires, else what `act` says. A rule that refuses
    /// means that nothing is done.
    pub(super) fn respond(
        &mut self,
        stage: Option<Stage>,
        (whose, shown): (&str, &str),
        now: Moment,
        out: &mut Actions<Fact<M::Kept>>,
        act: impl FnOnce(&mut Self) -> Answer,
    ) {
        let action = self.decide(stage, whose, out);
        let answer = match action.refusal() {
            Some(refusal) => refusal.clone(),
            None => act(self),
        };
        self.judged(stage, shown, answer, &action, now, out);
    }

    /// Says an answer, and tells if it refuses. What only a broken client says has a limit.
    pub(super) fn judged(
        &mut self,
        stage: Option<Stage>,
        shown: &str,
        mut answer: Answer,
        action: &FaultAction,
        now: Moment,
        out: &mut Actions<Fact<M::Kept>>,
    ) {
        const MOST_ERRORS: u32 = 20;
        // What we close for stays closed, whatever a rule says in its place.
        if answer.code == 421 {
            self.after = After::Close;
        }
        // What a rule says in its place is no refusal of ours.
        let is_said = matches!(action.instead, Instead::Usual) || action.refusal().is_some();
        if answer.is_refusal() && is_said {
            if matches!(answer.code, 500..=504 | 535) && action.refusal().is_none() {
                self.errors += 1;
                if self.errors >= MOST_ERRORS {
                    answer = answer::TOO_MANY_ERRORS;
                }
            }
            if answer.code == 421 {
                self.after = After::Close;
            }
            let (client, command) = (self.client.clone(), shown.to_owned());
            out.emit(Fact::Refused(Refused { client, stage, command, answer: answer.clone() }));
        }
        self.say(&answer, action, now, out);
    }
}
