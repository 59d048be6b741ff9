//! Login of a client session.
//!
//! Decides whether the connection is secure enough for a password.

use super::errors::{no_common_mechanism, rejection};
use super::{ClientSession, MAX_COMMAND_LENGTH};
use crate::failure::{Failure, FailureKind};
use crate::mac::Secret;
use crate::smtp::auth::{ChallengeResponse, Mechanism, SaslClient};
use crate::smtp::client::config::ClientActions;
use crate::smtp::reply::Reply;
use crate::smtp::stage::Stage;
use crate::time::Moment;

impl ClientSession {
    pub(super) fn start_auth(&mut self, now: Moment, actions: &mut ClientActions) {
        let Some(credentials) = self.config.credentials.clone() else { return self.on_authenticated(now, actions) };
        let offered = &self.extensions.auth_mechanisms;
        let mechanism = match credentials.mechanism {
            Some(requested) if requested.is_offered(offered) => Some(requested),
            Some(_) => None,
            None => Mechanism::strongest(offered),
        };
        let Some(mechanism) = mechanism else {
            return self.fail(no_common_mechanism(offered, credentials.mechanism), true, now, actions);
        };
        let is_safe = self.is_encrypted && self.config.verify_certificate;
        if !is_safe && !credentials.allow_cleartext {
            let error = Failure::new(
                FailureKind::UnsafeLogin,
                "password not sent: the connection is not encrypted or its certificate is not verified",
            )
            .expected("TLS with a verified certificate");
            return self.fail(error, true, now, actions);
        }
        self.enter_stage(Stage::Auth, now, actions);
        self.mechanism = Some(mechanism);
        let mut sasl = SaslClient::new(mechanism, &credentials.user, &credentials.secret, &credentials.nonce);
        let command = format!("AUTH {}", mechanism.name());
        let first = sasl.initial_response(MAX_COMMAND_LENGTH.saturating_sub(command.len() + 1));
        self.sasl_client = Some(sasl);
        match first {
            Some(first) => {
                let response = if first.expose().is_empty() { b"=" } else { first.expose() };
                let line = Secret::new([command.as_bytes(), b" ", response].concat());
                self.send_secret(&line, &format!("{command} [hidden]"), now, actions);
            }
            None => self.send_command(&command, now, actions),
        }
    }

    /// Continues after the login, or without one.
    fn on_authenticated(&mut self, now: Moment, actions: &mut ClientActions) {
        if self.stops_after(Stage::Auth) { self.send_quit(now, actions) } else { self.start_transaction(now, actions) }
    }

    pub(super) fn on_auth_reply(&mut self, raw_reply: &Reply, reply: &Reply, now: Moment, actions: &mut ClientActions) {
        let Some(sasl) = &mut self.sasl_client else { return };
        match reply.code {
            235 => {
                sasl.on_success(raw_reply.lines.first().map_or("", String::as_str));
                if !sasl.may_accept_success() {
                    let error = Failure::new(
                        FailureKind::Protocol,
                        "the server accepted the login without proving that it knows the password",
                    )
                    .expected("the server signature of SCRAM (RFC 5802 §3)");
                    return self.fail(error, false, now, actions);
                }
                self.sasl_client = None;
                self.on_authenticated(now, actions);
            }
            334 => match sasl.evaluate_challenge(&raw_reply.text()) {
                ChallengeResponse::Line(line) => self.send_secret(&line, "[hidden]", now, actions),
                // The reply to the cancellation ends the login.
                ChallengeResponse::Cancel(reason) => {
                    let error = Failure::new(FailureKind::Protocol, format!("login cancelled: {reason}"));
                    self.send_command("*", now, actions);
                    self.fail(error, true, now, actions);
                }
            },
            _ => self.fail_with_reply(reply, rejection(Stage::Auth, reply), true, now, actions),
        }
    }
}
