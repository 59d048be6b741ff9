//! Login of a client session.
//!
//! Decides whether the connection is secure enough for a password.

use super::errors::{no_common_mechanism, rejection};
use super::{ClientSession, MAX_COMMAND_LENGTH, State};
use crate::failure::{Failure, FailureKind};
use crate::mac::Secret;
use crate::smtp::auth::{ChallengeResponse, Mechanism, SaslClient};
use crate::smtp::client::config::ClientTurn;
use crate::smtp::reply::Reply;
use crate::smtp::stage::Stage;

impl ClientSession {
    pub(super) fn start_auth(&mut self, turn: &mut ClientTurn<'_>) {
        let Some(credentials) = self.config.credentials.clone() else { return self.on_authenticated(turn) };
        let offered = &self.hello.extensions.auth_mechanisms;
        let mechanism = match credentials.mechanism {
            Some(requested) if requested.is_offered(offered) => Some(requested),
            Some(_) => None,
            None => Mechanism::strongest(offered),
        };
        let Some(mechanism) = mechanism else {
            return self.fail(no_common_mechanism(offered, credentials.mechanism), true, turn);
        };
        let is_safe = self.is_encrypted && self.config.verify_certificate;
        if !is_safe && !credentials.allow_cleartext {
            let error = Failure::new(
                FailureKind::UnsafeLogin,
                "password not sent: the connection is not encrypted or its certificate is not verified",
            )
            .expected("TLS with a verified certificate");
            return self.fail(error, true, turn);
        }
        self.login.mechanism = Some(mechanism);
        let mut sasl = SaslClient::new(mechanism, &credentials.user, &credentials.secret, &credentials.nonce);
        let command = format!("AUTH {}", mechanism.name());
        let first = sasl.initial_response(MAX_COMMAND_LENGTH.saturating_sub(command.len() + 1));
        self.enter(State::Auth(sasl), turn);
        match first {
            Some(first) => {
                let response = if first.expose().is_empty() { b"=" } else { first.expose() };
                let line = Secret::new([command.as_bytes(), b" ", response].concat());
                self.send_secret(&line, &format!("{command} [hidden]"), turn);
            }
            None => self.send_command(&command, turn),
        }
    }

    /// Continues after the login, or without one.
    fn on_authenticated(&mut self, turn: &mut ClientTurn<'_>) {
        if self.stops_after(Stage::Auth) { self.send_quit(turn) } else { self.start_transaction(turn) }
    }

    pub(super) fn on_auth_reply(&mut self, raw_reply: &Reply, reply: &Reply, turn: &mut ClientTurn<'_>) {
        let State::Auth(sasl) = &mut self.state else { return };
        match reply.code {
            235 => {
                sasl.on_success(raw_reply.lines.first().map_or("", String::as_str));
                if !sasl.may_accept_success() {
                    let error = Failure::new(
                        FailureKind::Protocol,
                        "the server accepted the login without proving that it knows the password",
                    )
                    .expected("the server signature of SCRAM (RFC 5802 §3)");
                    return self.fail(error, false, turn);
                }
                self.on_authenticated(turn);
            }
            334 => match sasl.evaluate_challenge(&raw_reply.text()) {
                ChallengeResponse::Line(line) => self.send_secret(&line, "[hidden]", turn),
                // The reply to the cancellation ends the login.
                ChallengeResponse::Cancel(reason) => {
                    let error = Failure::new(FailureKind::Protocol, format!("login cancelled: {reason}"));
                    self.send_command("*", turn);
                    self.fail(error, true, turn);
                }
            },
            _ => self.fail_with_reply(reply, rejection(Stage::Auth, reply), true, turn),
        }
    }
}
