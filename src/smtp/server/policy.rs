//! Policy of a server session: decides about each command before it is executed, as a milter does.
//!
//! Owns the interface. The session asks; it does not know why a command is rejected.

use super::super::stage::Stage;
use super::MessageSink;
use super::config::ServerTurn;
use super::replies::ServerReply;

/// Decisions about the commands of one session.
pub(super) trait Policy<M: MessageSink> {
    /// Decides about a command of `stage`, or about another line without one. `identity` is the address, the user
    /// or the host name in it.
    fn verdict(&mut self, stage: Option<Stage>, identity: &str, turn: &mut ServerTurn<'_, M>) -> Verdict;

    /// Returns the EHLO keywords to hide from the client `name`. The use of their extensions is rejected.
    fn hidden_extensions(&mut self, name: &str, turn: &mut ServerTurn<'_, M>) -> Vec<String>;

    /// Returns the number of empty challenges that replace an authentication exchange.
    fn repeated_challenges(&mut self, helo_name: &str, turn: &mut ServerTurn<'_, M>) -> Option<u32>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Execute,
    /// Execute the command; the policy sends another reply, or none. A negative reply is then no error of the client.
    Override,
    /// Reject the command with this reply.
    Reject(ServerReply),
}

impl Verdict {
    pub(super) fn rejection(&self) -> Option<&ServerReply> {
        if let Self::Reject(reply) = self { Some(reply) } else { None }
    }
}
