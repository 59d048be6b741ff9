//! The part of the dialogue that logs in.
//!
//! Owns the decision whether the line is safe enough for a password.

use super::errors::{no_common_mechanism, rejection};
use super::{ClientSession, MAX_COMMAND_LENGTH};
use crate::error::Error;
use crate::exit::Exit;
use crate::mac::Secret;
use crate::protocol::Actions;
use crate::smtp::auth::{ChallengeResponse, Mechanism, SaslClient};
use crate::smtp::client::config::ClientEvent;
use crate::smtp::provider;
use crate::smtp::reply::Reply;
use crate::smtp::stage::Stage;
use crate::time::Moment;

impl ClientSession {
    pub(super) fn start_auth(&mut self, now: Moment, actions: &mut Actions<ClientEvent>) {
        let Some(credentials) = self.config.credentials.clone() else { return self.on_authenticated(now, actions) };
        let offered = &self.extensions.auth_mechanisms;
        let mechanism = match credentials.mechanism {
            Some(wanted) if wanted.is_offered(offered) => Some(wanted),
            Some(_) => None,
            None => Mechanism::strongest(offered),
        };
        let Some(mechanism) = mechanism else {
            return self.fail(no_common_mechanism(offered, credentials.mechanism), true, now, actions);
        };
        let is_safe = self.is_encrypted && self.config.verify_certificate;
        if !is_safe && !credentials.allow_cleartext {
            let error = Error::new(Exit::InvalidInput, "the password was not sent: nobody knows who could read it")
                .expected("TLS with a certificate that is checked")
                .remedy("leave out --plain and --insecure, or say --insecure-auth");
            return self.fail(error, true, now, actions);
        }
        self.enter_stage(Stage::Auth, now, actions);
        self.mechanism = Some(mechanism);
        let mut login = SaslClient::new(mechanism, &credentials.user, &credentials.secret, &credentials.nonce);
        let command = format!("AUTH {}", mechanism.name());
        let first = login.initial_response(MAX_COMMAND_LENGTH.saturating_sub(command.len() + 1));
        self.sasl_client = Some(login);
        match first {
            Some(first) => {
                let word = if first.expose().is_empty() { b"=" } else { first.expose() };
                let line = Secret::new([command.as_bytes(), b" ", word].concat());
                self.send_secret(&line, &format!("{command} [hidden]"), now, actions);
            }
            None => self.send_command(&command, now, actions),
        }
    }

    /// Whoever is to log in has.
    fn on_authenticated(&mut self, now: Moment, actions: &mut Actions<ClientEvent>) {
        if self.stops_after(Stage::Auth) { self.send_quit(now, actions) } else { self.start_transaction(now, actions) }
    }

    pub(super) fn on_auth_reply(
        &mut self,
        raw_reply: &Reply,
        reply: &Reply,
        now: Moment,
        actions: &mut Actions<ClientEvent>,
    ) {
        let Some(login) = &mut self.sasl_client else { return };
        match reply.code {
            235 => {
                login.on_success(raw_reply.lines.first().map_or("", String::as_str));
                if !login.may_accept_success() {
                    let error = Error::new(Exit::Protocol, "the server says yes without knowing the password itself")
                        .expected("its proof, as SCRAM wants it");
                    return self.fail(error, false, now, actions);
                }
                self.sasl_client = None;
                self.on_authenticated(now, actions);
            }
            334 => match login.evaluate_challenge(&raw_reply.text()) {
                ChallengeResponse::Line(line) => self.send_secret(&line, "[hidden]", now, actions),
                // The server's answer to it ends the login.
                ChallengeResponse::Cancel(why) => {
                    let error = Error::new(Exit::Protocol, format!("the login broke off: {why}"));
                    self.send_command("*", now, actions);
                    self.fail(error, true, now, actions);
                }
            },
            code => {
                let is_token = self.mechanism == Some(Mechanism::Xoauth2);
                let error = rejection(Stage::Auth, reply);
                if is_token && matches!(code, 534 | 535) {
                    let error = error.remedy("check the user and the token: most are good for an hour");
                    return self.fail_with_reply(reply, error, true, now, actions);
                }
                let wants = provider::auth_hint(&self.config.server_name).filter(|_| matches!(code, 534 | 535));
                let error = if let Some(wants) = wants { error.remedy(wants) } else { error };
                self.fail_with_reply(reply, error, true, now, actions);
            }
        }
    }
}
