//! Command dispatch: splits the input into lines and runs each command.
//!
//! Owns the order of commands (RFC 5321 §4.1.4) and authentication (RFC 4954).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::auth::Mechanism;
use super::super::stage::Stage;
use super::command::{Command, is_http, is_unsupported_verb};
use super::config::ServerTurn;
use super::data_decoder::DataDecoder;
use super::envelope::{EnvelopeRecipient, EnvelopeSender};
use super::fault::{Effect, FaultPoint};
use super::replies::{self, ServerReply};
use super::sasl::{SaslServer, SaslStep};
use super::state::{AuthExchange, Transaction, TransactionInput};
use super::{AfterReply, MessageSink, PendingJob, Reservation, ServerEvent, ServerSession, State};

/// Maximum length of an AUTH command or response (RFC 4954 §4).
const MAX_AUTH_LINE: usize = 12_288;
/// Maximum length of any other command: 512 octets (RFC 5321 §4.5.3.1.4) plus the allowances of the
/// extensions, 500 of them for ORCPT (RFC 3461 §4.2).
const MAX_COMMAND_LINE: usize = 2_048;

/// Mechanisms, strongest first, each with a flag: the password is sent in cleartext.
const MECHANISMS: [(Mechanism, bool); 3] =
    [(Mechanism::ScramSha256, false), (Mechanism::Plain, true), (Mechanism::Login, true)];

impl<M: MessageSink> ServerSession<M> {
    /// Consumes one complete line; returns 0 while it is incomplete.
    pub(super) fn receive_line(&mut self, bytes: &[u8], turn: &mut ServerTurn<'_, M>) -> usize {
        let is_in_auth = matches!(self.state, State::Auth(_));
        let is_login = is_in_auth || bytes.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"));
        let max_len = if is_login { MAX_AUTH_LINE } else { MAX_COMMAND_LINE };
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            if bytes.len() < max_len && !self.input.is_skipping_line {
                return 0;
            }
            // An HTTP client is rejected on a line of any length, before it can send SMTP in the body.
            if !std::mem::replace(&mut self.input.is_skipping_line, true) && is_http(bytes) {
                self.reject_line(replies::HTTP_DETECTED, turn);
            }
            return bytes.len();
        };
        let consumed = end + 1;
        let line = bytes.get(..end).unwrap_or_default();
        if !is_in_auth && !self.input.is_skipping_line && is_http(line) {
            self.reject_line(replies::HTTP_DETECTED, turn);
            return consumed;
        }
        if std::mem::take(&mut self.input.is_skipping_line) || line.len() >= max_len {
            self.reject_line(replies::LINE_TOO_LONG, turn);
            return consumed;
        }
        let Some(line) = line.strip_suffix(b"\r") else {
            self.reject_line(replies::BARE_LF, turn);
            return consumed;
        };
        match std::str::from_utf8(line).ok().filter(|line| !line.chars().any(char::is_control)) {
            Some(line) if !is_in_auth => {
                self.run_command(line, bytes.len() > consumed, turn);
            }
            Some(line) => self.receive_auth_response(line, turn),
            None => self.reject_line(replies::INVALID_TEXT, turn),
        }
        consumed
    }

    fn reject_line(&mut self, reply: ServerReply, turn: &mut ServerTurn<'_, M>) {
        if matches!(self.state, State::Auth(_)) {
            // A negative reply ends the authentication exchange (RFC 4954 §4).
            return self.abort_auth(reply, turn);
        }
        self.respond(None, ("", ""), turn, |_| reply);
    }

    fn run_command(&mut self, line: &str, is_followed: bool, turn: &mut ServerTurn<'_, M>) {
        let command = Command::parse(line);
        let stage = command.stage();
        if self.greeting.accepts_only_quit && command != Command::Quit {
            return self.respond(stage, ("", ""), turn, |_| replies::ONLY_QUIT_ACCEPTED);
        }
        match command {
            Command::Hello { name, is_extended } => self.run_hello(name, is_extended, line, turn),
            Command::Starttls => {
                self.respond(stage, ("", line), turn, |server| server.run_starttls(is_followed));
            }
            Command::Auth { mechanism, initial } => self.run_auth(mechanism, initial, turn),
            Command::Mail(text) => {
                let sender = EnvelopeSender::parse(text, self.greeting.is_extended);
                let address = sender.as_ref().map(|sender| sender.address().to_owned()).unwrap_or_default();
                self.respond(stage, (&address, line), turn, |server| server.run_mail(sender));
            }
            Command::Rcpt(text) => {
                let is_utf8 = self.transaction_mut().is_some_and(|transaction| transaction.sender.is_smtputf8);
                let recipient = EnvelopeRecipient::parse(text, self.greeting.is_extended, is_utf8);
                let address = recipient.as_ref().map(|recipient| recipient.address.clone()).unwrap_or_default();
                self.respond(stage, (&address, line), turn, |server| server.run_rcpt(recipient));
            }
            Command::Data => self.respond(stage, ("", line), turn, Self::run_data),
            Command::Bdat { size, is_last } => self.run_bdat(size, is_last, turn),
            Command::Rset => self.respond(stage, ("", line), turn, |server| {
                server.reset_transaction();
                replies::RESET_OK
            }),
            Command::Noop => self.respond(stage, ("", line), turn, |_| replies::OK),
            Command::Vrfy => self.respond(stage, ("", line), turn, |_| replies::CANNOT_VERIFY),
            Command::Help => self.respond(stage, ("", line), turn, |_| replies::HELP),
            Command::Quit => self.respond(stage, ("", line), turn, |server| {
                server.reset_transaction();
                server.output.after_reply = AfterReply::Close;
                replies::BYE
            }),
            Command::Malformed(Some(Stage::Auth)) => {
                self.respond(stage, ("", "AUTH"), turn, |_| replies::SYNTAX_ERROR);
            }
            // The chunk's end is unknown; read as commands, its bytes could inject another message.
            Command::InvalidBdat => self.respond(stage, ("", line), turn, |server| {
                server.output.after_reply = AfterReply::Close;
                replies::SYNTAX_ERROR
            }),
            Command::Malformed(_) => self.respond(stage, ("", line), turn, |_| replies::SYNTAX_ERROR),
            Command::Unknown => {
                // A client that is out of step may send its password here.
                let shown = if is_unsupported_verb(line) { line } else { "" };
                self.respond(stage, ("", shown), turn, |_| replies::UNKNOWN_COMMAND);
            }
        }
    }

    fn run_hello(&mut self, name: &str, is_extended: bool, line: &str, turn: &mut ServerTurn<'_, M>) {
        let sink = std::rc::Rc::clone(&self.sink);
        let mut hidden = Vec::new();
        if is_extended {
            for fired in sink.config().faults.evaluate_all(|point| point == FaultPoint::EhloExtensions, name) {
                if let Effect::Hide(keywords) = &self.emit_fault(Some(fired), turn).effect {
                    hidden.extend_from_slice(keywords);
                }
            }
        }
        self.respond(Some(Stage::Ehlo), (name, line), turn, |server| {
            server.reset_transaction();
            name.clone_into(&mut server.client.helo_name);
            server.greeting.is_extended = is_extended;
            server.greeting.hidden_extensions = hidden;
            server.hello_reply()
        });
    }

    /// Returns the EHLO reply with one line per extension (RFC 5321 §4.1.1.1), or the one-line HELO reply.
    fn hello_reply(&self) -> ServerReply {
        let config = self.sink.config();
        let mut text = format!("{} greets {}", config.name, self.client.helo_name);
        if self.greeting.is_extended {
            let mechanisms: Vec<_> = MECHANISMS.iter().filter(|(mechanism, _)| self.is_offered(*mechanism)).collect();
            let auth = mechanisms.iter().fold("AUTH".to_owned(), |text, (mechanism, _)| text + " " + mechanism.name());
            let size: &str = &format!("SIZE {}", config.max_size);
            let offers_starttls = config.offers_starttls && self.client.tls.is_none();
            let fixed = [size, "8BITMIME", "SMTPUTF8", "PIPELINING", "CHUNKING", "DSN", "ENHANCEDSTATUSCODES"];
            let optional = [(!mechanisms.is_empty(), auth.as_str()), (offers_starttls, "STARTTLS"), (true, "HELP")];
            for (is_offered, keyword) in fixed.map(|keyword| (true, keyword)).into_iter().chain(optional) {
                if is_offered && !self.is_hidden(keyword) {
                    text.extend(["\n", keyword]);
                }
            }
        }
        ServerReply::new(250, text)
    }

    /// Returns whether a fault rule hides this extension.
    pub(super) fn is_hidden(&self, keyword: &str) -> bool {
        let name = keyword.split(' ').next().unwrap_or_default();
        self.greeting.hidden_extensions.iter().any(|hidden| hidden.eq_ignore_ascii_case(name))
    }

    fn is_offered(&self, mechanism: Mechanism) -> bool {
        let config = self.sink.config();
        let needs_tls = self.client.tls.is_none() && !config.allows_plaintext_auth;
        let fits = |&(known, is_cleartext): &(Mechanism, bool)| known == mechanism && !(is_cleartext && needs_tls);
        config.users.is_some() && MECHANISMS.iter().any(fits)
    }

    fn run_starttls(&mut self, is_followed: bool) -> ServerReply {
        if !self.sink.config().offers_starttls || self.is_hidden("STARTTLS") {
            return replies::NOT_OFFERED;
        }
        if self.client.tls.is_some() {
            return replies::ALREADY_DONE;
        }
        if is_followed {
            // Cleartext commands must not be executed as if they came under TLS (CVE-2011-0411).
            return replies::PIPELINED_STARTTLS;
        }
        self.output.after_reply = AfterReply::StartTls;
        replies::START_TLS
    }

    fn run_mail(&mut self, sender: Result<EnvelopeSender, ServerReply>) -> ServerReply {
        let config = self.sink.config();
        if let Some(reply) = self.shutdown_reply() {
            return reply;
        }
        if self.client.helo_name.is_empty() {
            return replies::EHLO_REQUIRED;
        }
        if self.is_in_transaction() {
            return replies::NESTED_TRANSACTION;
        }
        if config.users.is_some() && self.client.login.is_none() {
            return replies::AUTH_REQUIRED;
        }
        let sender = match sender {
            Ok(sender) => sender,
            Err(reply) => return reply,
        };
        let uses = [
            (sender.size.is_some(), "SIZE"),
            (sender.is_8bit, "8BITMIME"),
            (sender.is_smtputf8, "SMTPUTF8"),
            (sender.ret.is_some() || sender.envid.is_some(), "DSN"),
        ];
        if uses.iter().any(|(is_used, keyword)| *is_used && self.is_hidden(keyword)) {
            return replies::UNKNOWN_PARAMETER;
        }
        if sender.size.is_some_and(|size| size > config.max_size as u64) {
            return replies::MESSAGE_TOO_LARGE;
        }
        let reservation = Reservation::new(&config.memory_budget);
        self.state = State::Transaction(Box::new(Transaction::new(sender, reservation)));
        replies::SENDER_OK
    }

    /// Reply to a command that requires a transaction, outside of one.
    pub(super) fn no_transaction_reply(&self) -> ServerReply {
        if self.client.helo_name.is_empty() { replies::EHLO_REQUIRED } else { replies::MAIL_REQUIRED }
    }

    fn run_rcpt(&mut self, recipient: Result<EnvelopeRecipient, ServerReply>) -> ServerReply {
        let max_recipients = self.sink.config().max_recipients;
        let is_dsn_hidden = self.is_hidden("DSN");
        let Some(transaction) = self.transaction_mut() else { return self.no_transaction_reply() };
        match recipient {
            _ if transaction.has_chunks() => replies::TRANSACTION_OPEN,
            Ok(_) if transaction.recipients.len() >= max_recipients => replies::TOO_MANY_RECIPIENTS,
            Ok(recipient) if is_dsn_hidden && (recipient.notify.is_some() || recipient.orcpt.is_some()) => {
                replies::UNKNOWN_PARAMETER
            }
            Ok(recipient) => transaction.add_recipient(recipient).err().unwrap_or(replies::RECIPIENT_OK),
            Err(reply) => reply,
        }
    }

    fn run_data(&mut self) -> ServerReply {
        let max_size = self.sink.config().max_size;
        let Some(transaction) = self.transaction_mut() else { return self.no_transaction_reply() };
        if transaction.recipients.is_empty() {
            return replies::RCPT_REQUIRED;
        }
        if transaction.has_chunks() {
            return replies::MIXED_DATA_AND_BDAT;
        }
        transaction.input = TransactionInput::Body(DataDecoder::new(max_size));
        replies::SEND_DATA
    }

    fn run_auth(&mut self, mechanism_name: &str, initial: Option<&str>, turn: &mut ServerTurn<'_, M>) {
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
            return self.respond(Some(Stage::Auth), ("", &shown), turn, |_| rejection);
        };
        let action = self.evaluate_at(FaultPoint::AuthChallenge, turn);
        if let Effect::Challenges(count) = action.effect {
            self.state = State::Auth(AuthExchange::RepeatedChallenges(count.saturating_sub(1)));
            return self.send_challenge(String::new(), turn);
        }
        let login = SaslServer::new(mechanism, Arc::clone(&users), self.sink.nonce());
        let prompt = login.initial_challenge();
        self.state = State::Auth(AuthExchange::Sasl(login));
        match initial {
            // `=` stands for an empty initial response (RFC 4954 §4).
            Some("=") => self.continue_auth(b"", turn),
            Some(initial) => self.receive_auth_response(initial, turn),
            None => self.send_challenge(prompt, turn),
        }
    }

    fn send_challenge(&mut self, text: String, turn: &mut ServerTurn<'_, M>) {
        let action = self.evaluate_reply(None, "", turn);
        let reply = action.negative_reply().cloned().unwrap_or(ServerReply::new(334, text));
        if reply.is_negative() {
            self.state = State::Ready;
        }
        self.finish_reply(Some(Stage::Auth), "AUTH", reply, &action, turn);
    }

    fn receive_auth_response(&mut self, line: &str, turn: &mut ServerTurn<'_, M>) {
        if let State::Auth(AuthExchange::RepeatedChallenges(left)) = &mut self.state {
            if line == "*" || *left == 0 {
                let reply = if line == "*" { replies::AUTH_CANCELLED } else { replies::INVALID_CREDENTIALS };
                self.state = State::Ready;
                return self.respond(Some(Stage::Auth), ("", "AUTH"), turn, |_| reply);
            }
            *left -= 1;
            return self.send_challenge(String::new(), turn);
        }
        match STANDARD.decode(line) {
            _ if line == "*" => self.abort_auth(replies::AUTH_CANCELLED, turn),
            Ok(response) => self.continue_auth(&response, turn),
            Err(_) => self.abort_auth(replies::INVALID_BASE64, turn),
        }
    }

    fn abort_auth(&mut self, reply: ServerReply, turn: &mut ServerTurn<'_, M>) {
        self.state = State::Ready;
        self.respond(Some(Stage::Auth), ("", "AUTH"), turn, |_| reply);
    }

    fn continue_auth(&mut self, response: &[u8], turn: &mut ServerTurn<'_, M>) {
        let State::Auth(AuthExchange::Sasl(login)) = &mut self.state else { return };
        let next = login.respond(response);
        self.finish_auth_step(next, turn);
    }

    pub(super) fn key_derived(&mut self, turn: &mut ServerTurn<'_, M>) {
        let State::Auth(AuthExchange::Sasl(login)) = &mut self.state else { return };
        let next = login.key_derived();
        self.finish_auth_step(next, turn);
    }

    fn finish_auth_step(&mut self, next: SaslStep, turn: &mut ServerTurn<'_, M>) {
        match next {
            SaslStep::Challenge(text) => self.send_challenge(text, turn),
            SaslStep::Malformed => self.abort_auth(replies::SYNTAX_ERROR, turn),
            SaslStep::DeriveKey => {
                let State::Auth(AuthExchange::Sasl(login)) = &self.state else { return };
                turn.actions.run_job(Box::new(login.key_derivation_job()));
                self.pending_job = Some(PendingJob::DeriveKey);
            }
            SaslStep::Finished(is_authenticated) => {
                let State::Auth(AuthExchange::Sasl(login)) = std::mem::replace(&mut self.state, State::Ready) else {
                    return;
                };
                let (user, mechanism) = (login.user, login.mechanism);
                let shown = format!("AUTH {}", mechanism.name());
                self.respond(Some(Stage::Auth), (&user, &shown), turn, |server| {
                    if is_authenticated {
                        server.client.login = Some((user.clone(), mechanism));
                    }
                    if is_authenticated { replies::AUTHENTICATED } else { replies::INVALID_CREDENTIALS }
                });
                let (client, ok) = (self.client.clone(), self.client.login.is_some());
                turn.actions.emit(ServerEvent::Login { client, user, mechanism, succeeded: ok });
            }
        }
    }
}
