//! The part of the dialogue that logs in.
//!
//! Owns the decision whether the line is safe enough for a password.

use super::wording::{no_login, refused};
use super::{Client, LONGEST_COMMAND};
use crate::conversation::Actions;
use crate::error::Error;
use crate::exit::Exit;
use crate::smtp::auth::{Answer, Login, Mechanism};
use crate::smtp::plan::{Fact, Stage};
use crate::smtp::provider;
use crate::smtp::reply::Reply;
use crate::smtp::secret::Secret;
use crate::time::Moment;

impl Client {
    pub(super) fn log_in(&mut self, now: Moment, out: &mut Actions<Fact>) {
        let Some(credentials) = self.plan.login.clone() else { return self.logged_in(now, out) };
        let offered = &self.offers.auth;
        let mechanism = match credentials.mechanism {
            Some(wanted) if wanted.is_offered(offered) => Some(wanted),
            Some(_) => None,
            None => Mechanism::strongest(offered),
        };
        let Some(mechanism) = mechanism else {
            return self.fail(no_login(offered, credentials.mechanism), true, now, out);
        };
        let is_safe = self.is_encrypted && self.plan.is_verified;
        if !is_safe && !credentials.in_clear {
            let error = Error::new(Exit::InvalidInput, "the password was not sent: nobody knows who could read it")
                .expected("TLS with a certificate that is checked")
                .remedy("leave out --plain and --insecure, or say --insecure-auth");
            return self.fail(error, true, now, out);
        }
        self.enter(Stage::Auth, now, out);
        self.mechanism = Some(mechanism);
        let mut login = Login::new(mechanism, &credentials.user, &credentials.secret, &credentials.nonce);
        let command = format!("AUTH {}", mechanism.word());
        let first = login.opening(LONGEST_COMMAND.saturating_sub(command.len() + 1));
        self.login = Some(login);
        match first {
            Some(first) => {
                let word = if first.expose().is_empty() { b"=" } else { first.expose() };
                let line = Secret::new([command.as_bytes(), b" ", word].concat());
                self.say_hidden(&line, &format!("{command} [hidden]"), now, out);
            }
            None => self.say(&command, now, out),
        }
    }

    /// Whoever is to log in has.
    fn logged_in(&mut self, now: Moment, out: &mut Actions<Fact>) {
        if self.stops_at(Stage::Auth) { self.quit(now, out) } else { self.deliver(now, out) }
    }

    pub(super) fn challenged(&mut self, came: &Reply, reply: &Reply, now: Moment, out: &mut Actions<Fact>) {
        let Some(login) = &mut self.login else { return };
        match reply.code {
            235 => {
                login.succeeded_with(came.lines.first().map_or("", String::as_str));
                if !login.may_succeed() {
                    let error = Error::new(Exit::Protocol, "the server says yes without knowing the password itself")
                        .expected("its proof, as SCRAM wants it");
                    return self.fail(error, false, now, out);
                }
                self.login = None;
                self.logged_in(now, out);
            }
            334 => match login.answer(&came.text()) {
                Answer::Line(line) => self.say_hidden(&line, "[hidden]", now, out),
                // The server's answer to it ends the login.
                Answer::Cancel(why) => {
                    let error = Error::new(Exit::Protocol, format!("the login broke off: {why}"));
                    self.say("*", now, out);
                    self.fail(error, true, now, out);
                }
            },
            code => {
                let is_token = self.mechanism == Some(Mechanism::Xoauth2);
                let error = refused(Stage::Auth, reply);
                if is_token && matches!(code, 534 | 535) {
                    let error = error.remedy("check the user and the token: most are good for an hour");
                    return self.refuse(reply, error, true, now, out);
                }
                let wants = provider::wants(&self.plan.server).filter(|_| matches!(code, 534 | 535));
                let error = if let Some(wants) = wants { error.remedy(wants) } else { error };
                self.refuse(reply, error, true, now, out);
            }
        }
    }
}
