//! Authentication exchange of a session (RFC 4954).
//!
//! Owns which mechanism is offered when, and the replies to AUTH; [`sasl`](super::sasl) verifies the responses.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::auth::Mechanism;
use super::super::stage::Stage;
use super::config::ServerTurn;
use super::policy::Policy;
use super::replies::{self, ServerReply};
use super::sasl::{SaslServer, SaslStep};
use super::state::{AuthExchange, PendingJob, Response};
use super::{MessageSink, ServerEvent, ServerSession, State};

/// Mechanisms, strongest first, each with a flag: the password is sent in cleartext.
pub(super) const MECHANISMS: [(Mechanism, bool); 3] =
    [(Mechanism::ScramSha256, false), (Mechanism::Plain, true), (Mechanism::Login, true)];

/// Returns whether the line is an AUTH command, which may be longer than others.
pub(super) fn is_auth_command(line: &[u8]) -> bool {
    line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"))
}

impl<M: MessageSink, P: Policy<M>> ServerSession<M, P> {
    /// Returns whether the client may use this mechanism.
    pub(super) fn is_offered(&self, mechanism: Mechanism) -> bool {
        let config = self.sink.config();
        let needs_tls = self.client.tls.is_none() && !config.allows_plaintext_auth;
        let fits = |&(known, is_cleartext): &(Mechanism, bool)| known == mechanism && !(is_cleartext && needs_tls);
        config.users.is_some() && MECHANISMS.iter().any(fits)
    }

    pub(super) fn run_auth(
        &mut self,
        mechanism_name: &str,
        initial: Option<&str>,
        turn: &mut ServerTurn<'_, M>,
    ) -> Option<Response<M::Stored>> {
        let known = mechanism_name.parse::<Mechanism>().ok();
        // An unknown mechanism name may be a misplaced password, so it is not reported.
        let shown = known.map_or_else(|| "AUTH".to_owned(), |mechanism| format!("AUTH {}", mechanism.name()));
        let users = self.sink.config().users.clone();
        let mechanism = known.filter(|known| MECHANISMS.iter().any(|(mechanism, _)| mechanism == known));
        let rejection = match (&users, mechanism) {
            (None, _) => Some(replies::NOT_OFFERED),
            _ if !self.greeting.is_extended => Some(replies::EHLO_REQUIRED),
            _ if self.is_hidden("AUTH") => Some(replies::NOT_OFFERED),
            _ if self.client.login.is_some() => Some(replies::ALREADY_DONE),
            _ if self.is_in_transaction() => Some(replies::TRANSACTION_OPEN),
            (_, None) => Some(replies::UNSUPPORTED_MECHANISM),
            (_, Some(mechanism)) => (!self.is_offered(mechanism)).then_some(replies::ENCRYPTION_REQUIRED),
        };
        let (None, Some(users), Some(mechanism)) = (&rejection, users, mechanism) else {
            let rejection = rejection.unwrap_or(replies::NOT_OFFERED);
            return Some(self.respond(Some(Stage::Auth), ("", &shown), turn, |_| rejection));
        };
        if let Some(count) = self.policy.repeated_challenges(&self.client.helo_name, turn) {
            self.state = State::Auth(AuthExchange::RepeatedChallenges(count.saturating_sub(1)));
            return Some(self.challenge(String::new(), turn));
        }
        let login = SaslServer::new(mechanism, Arc::clone(&users), self.sink.nonce());
        let prompt = login.initial_challenge();
        self.state = State::Auth(AuthExchange::Sasl(login));
        match initial {
            // `=` stands for an empty initial response (RFC 4954 §4).
            Some("=") => self.continue_auth(b"", turn),
            Some(initial) => self.receive_auth_response(initial, turn),
            None => Some(self.challenge(prompt, turn)),
        }
    }

    fn challenge(&mut self, text: String, turn: &mut ServerTurn<'_, M>) -> Response<M::Stored> {
        let verdict = self.policy.verdict(None, "", turn);
        if verdict.rejection().is_some() {
            self.state = State::Ready;
        }
        let reply = verdict.rejection().cloned().unwrap_or(ServerReply::new(334, text));
        self.finish_reply(Some(Stage::Auth), "AUTH", reply, &verdict, turn)
    }

    pub(super) fn receive_auth_response(
        &mut self,
        line: &str,
        turn: &mut ServerTurn<'_, M>,
    ) -> Option<Response<M::Stored>> {
        if let State::Auth(AuthExchange::RepeatedChallenges(left)) = &mut self.state {
            if line == "*" || *left == 0 {
                let reply = if line == "*" { replies::AUTH_CANCELLED } else { replies::INVALID_CREDENTIALS };
                return Some(self.abort_auth(reply, turn));
            }
            *left -= 1;
            return Some(self.challenge(String::new(), turn));
        }
        match STANDARD.decode(line) {
            _ if line == "*" => Some(self.abort_auth(replies::AUTH_CANCELLED, turn)),
            Ok(response) => self.continue_auth(&response, turn),
            Err(_) => Some(self.abort_auth(replies::INVALID_BASE64, turn)),
        }
    }

    pub(super) fn abort_auth(&mut self, reply: ServerReply, turn: &mut ServerTurn<'_, M>) -> Response<M::Stored> {
        self.state = State::Ready;
        self.respond(Some(Stage::Auth), ("", "AUTH"), turn, |_| reply)
    }

    fn continue_auth(&mut self, response: &[u8], turn: &mut ServerTurn<'_, M>) -> Option<Response<M::Stored>> {
        let State::Auth(AuthExchange::Sasl(login)) = &mut self.state else { return None };
        let next = login.respond(response);
        self.finish_auth_step(next, turn)
    }

    pub(super) fn key_derived(&mut self, turn: &mut ServerTurn<'_, M>) -> Option<Response<M::Stored>> {
        let State::Auth(AuthExchange::Sasl(login)) = &mut self.state else { return None };
        let next = login.key_derived();
        self.finish_auth_step(next, turn)
    }

    fn finish_auth_step(&mut self, next: SaslStep, turn: &mut ServerTurn<'_, M>) -> Option<Response<M::Stored>> {
        match next {
            SaslStep::Challenge(text) => Some(self.challenge(text, turn)),
            SaslStep::Malformed => {
                let is_plain = matches!(&self.state, State::Auth(AuthExchange::Sasl(login)) if login.mechanism == Mechanism::Plain);
                let reply = if is_plain { replies::MALFORMED_PLAIN } else { replies::MALFORMED_SASL };
                Some(self.abort_auth(reply, turn))
            }
            SaslStep::DeriveKey => {
                let State::Auth(AuthExchange::Sasl(login)) = &self.state else { return None };
                turn.actions.run_job(Box::new(login.key_derivation_job()));
                self.pending_job = Some(PendingJob::DeriveKey);
                None
            }
            SaslStep::Finished(is_authenticated) => {
                let State::Auth(AuthExchange::Sasl(login)) = std::mem::replace(&mut self.state, State::Ready) else {
                    return None;
                };
                let (user, mechanism) = (login.user, login.mechanism);
                let shown = format!("AUTH {}", mechanism.name());
                let response = self.respond(Some(Stage::Auth), (&user, &shown), turn, |session| {
                    if !is_authenticated {
                        return replies::INVALID_CREDENTIALS;
                    }
                    session.client.login = Some((user.clone(), mechanism));
                    replies::AUTHENTICATED
                });
                let (client, ok) = (self.client.clone(), self.client.login.is_some());
                turn.actions.emit(ServerEvent::Login { client, user, mechanism, succeeded: ok });
                Some(response)
            }
        }
    }
}
