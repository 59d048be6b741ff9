//! Command dispatch: splits the input into lines and runs each command.
//!
//! Owns the order of commands (RFC 5321 §4.1.4).

use super::super::stage::Stage;
use super::auth_exchange::{MECHANISMS, is_auth_command};
use super::command::{Command, is_http, is_unsupported_verb};
use super::config::ServerTurn;
use super::data_decoder::DataDecoder;
use super::envelope::{EnvelopeRecipient, EnvelopeSender};
use super::policy::Policy;
use super::replies::{self, ServerReply};
use super::state::{LineProgress, Response, Transaction, TransactionInput};
use super::{AfterReply, MessageSink, Reservation, ServerEvent, ServerSession, State};
use crate::protocol::excerpt;

/// Maximum length of an AUTH command or response (RFC 4954 §4).
const MAX_AUTH_LINE: usize = 12_288;
/// Maximum length of any other command: 512 octets (RFC 5321 §4.5.3.1.4) plus the allowances of the
/// extensions, 500 of them for ORCPT (RFC 3461 §4.2).
const MAX_COMMAND_LINE: usize = 2_048;

impl<M: MessageSink, P: Policy<M>> ServerSession<M, P> {
    /// Consumes one complete line; returns 0 while it is incomplete.
    pub(super) fn receive_line(
        &mut self,
        bytes: &[u8],
        turn: &mut ServerTurn<'_, M>,
    ) -> (usize, Option<Response<M::Stored>>) {
        let is_in_auth = matches!(self.state, State::Auth(_));
        let max_len = if is_in_auth || is_auth_command(bytes) { MAX_AUTH_LINE } else { MAX_COMMAND_LINE };
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            if bytes.len() < max_len && self.input.line != LineProgress::Skipping {
                self.input.line = LineProgress::Begun;
                return (0, None);
            }
            // An HTTP client is rejected on a line of any length, before it can send SMTP in the body.
            let before = std::mem::replace(&mut self.input.line, LineProgress::Skipping);
            let is_http = before != LineProgress::Skipping && is_http(bytes);
            return (bytes.len(), is_http.then(|| self.reject_line(replies::HTTP_DETECTED, turn)));
        };
        let consumed = end + 1;
        let line = bytes.get(..end).unwrap_or_default();
        let is_skipped = std::mem::take(&mut self.input.line) == LineProgress::Skipping;
        let text = line.strip_suffix(b"\r").map(std::str::from_utf8);
        let response = match text {
            _ if !is_in_auth && !is_skipped && is_http(line) => self.reject_line(replies::HTTP_DETECTED, turn),
            _ if is_skipped || line.len() >= max_len => self.reject_line(replies::LINE_TOO_LONG, turn),
            None => self.reject_line(replies::BARE_LF, turn),
            Some(Ok(line)) if !line.chars().any(char::is_control) => {
                let is_followed = bytes.len() > consumed;
                let response = if is_in_auth {
                    self.receive_auth_response(line, turn)
                } else {
                    self.run_command(line, is_followed, turn)
                };
                return (consumed, response);
            }
            Some(_) => self.reject_line(replies::INVALID_TEXT, turn),
        };
        (consumed, Some(response))
    }

    fn reject_line(&mut self, reply: ServerReply, turn: &mut ServerTurn<'_, M>) -> Response<M::Stored> {
        if matches!(self.state, State::Auth(_)) {
            // A negative reply ends the authentication exchange (RFC 4954 §4).
            return self.abort_auth(reply, turn);
        }
        self.respond(None, ("", ""), turn, |_| reply)
    }

    fn run_command(
        &mut self,
        line: &str,
        is_followed: bool,
        turn: &mut ServerTurn<'_, M>,
    ) -> Option<Response<M::Stored>> {
        let command = Command::parse(line);
        self.input.has_seen_auth |= is_auth_command(line.as_bytes());
        let stage = command.stage();
        if self.greeting.accepts_only_quit && command != Command::Quit {
            return Some(self.respond(stage, ("", ""), turn, |_| replies::ONLY_QUIT_ACCEPTED));
        }
        Some(match command {
            Command::Hello { name, is_extended } => {
                if is_followed && self.client.helo_name.is_empty() {
                    self.emit_violation("commands were sent before the reply to EHLO (RFC 2920 §3.1)", turn);
                }
                self.run_hello(name, is_extended, line, turn)
            }
            Command::Starttls => self.respond(stage, ("", line), turn, |session| session.run_starttls(is_followed)),
            Command::Auth { mechanism, initial } => return self.run_auth(mechanism, initial, turn),
            Command::Mail(text) => {
                self.check_spacing(line, turn);
                let sender = EnvelopeSender::parse(text, self.greeting.is_extended);
                let address = sender.as_ref().map(|sender| sender.address().to_owned()).unwrap_or_default();
                self.respond(stage, (&address, line), turn, |session| session.run_mail(sender))
            }
            Command::Rcpt(text) => {
                self.check_spacing(line, turn);
                let is_utf8 = self.transaction_mut().is_some_and(|transaction| transaction.sender.is_smtputf8);
                let recipient = EnvelopeRecipient::parse(text, self.greeting.is_extended, is_utf8);
                let address = recipient.as_ref().map(|recipient| recipient.address.clone()).unwrap_or_default();
                self.respond(stage, (&address, line), turn, |session| session.run_rcpt(recipient))
            }
            Command::Data => {
                let response = self.respond(stage, ("", line), turn, Self::run_data);
                if is_followed && response.reply.code == 354 {
                    let what = "the message was sent before the reply to DATA (RFC 5321 §4.1.1.4, RFC 2920 §3.1)";
                    self.emit_violation(what, turn);
                }
                response
            }
            Command::Bdat { size, is_last } => return self.run_bdat(size, is_last, turn),
            Command::Rset => self.respond(stage, ("", line), turn, |session| {
                session.reset_transaction();
                replies::RESET_OK
            }),
            Command::Noop => self.respond(stage, ("", line), turn, |_| replies::OK),
            Command::Vrfy => self.respond(stage, ("", line), turn, |_| replies::CANNOT_VERIFY),
            Command::Help => self.respond(stage, ("", line), turn, |_| replies::HELP),
            Command::Quit => self.respond(stage, ("", line), turn, |session| {
                session.reset_transaction();
                session.after_reply = AfterReply::Close;
                replies::BYE
            }),
            Command::Malformed(Some(Stage::Auth)) => self.respond(stage, ("", "AUTH"), turn, |_| replies::SYNTAX_ERROR),
            // The chunk's end is unknown; read as commands, its bytes could inject another message.
            Command::InvalidBdat => self.respond(stage, ("", line), turn, |session| {
                session.after_reply = AfterReply::Close;
                replies::SYNTAX_ERROR
            }),
            Command::Malformed(_) => self.respond(stage, ("", line), turn, |_| replies::SYNTAX_ERROR),
            Command::Unknown => {
                // A client that is out of step may send its password here.
                let shown = if is_unsupported_verb(line) { line } else { "" };
                self.respond(stage, ("", shown), turn, |_| replies::UNKNOWN_COMMAND)
            }
        })
    }

    fn emit_violation(&self, what: &str, turn: &mut ServerTurn<'_, M>) {
        turn.actions.emit(ServerEvent::Violation { client: self.client.clone(), what: what.to_owned() });
    }

    /// Reports spaces around the address, which the server tolerates.
    fn check_spacing(&self, line: &str, turn: &mut ServerTurn<'_, M>) {
        let shown = excerpt(line.as_bytes());
        if line.contains(": ") {
            self.emit_violation(&format!("'{shown}': space after the colon is not allowed (RFC 5321 §3.3)"), turn);
        } else if line.ends_with(' ') {
            self.emit_violation(&format!("'{shown}': trailing space before CR LF (RFC 5321 §4.1.1)"), turn);
        }
    }

    fn run_hello(
        &mut self,
        name: &str,
        is_extended: bool,
        line: &str,
        turn: &mut ServerTurn<'_, M>,
    ) -> Response<M::Stored> {
        let hidden = if is_extended { self.policy.hidden_extensions(name, turn) } else { Vec::new() };
        self.respond(Some(Stage::Ehlo), (name, line), turn, |session| {
            session.reset_transaction();
            name.clone_into(&mut session.client.helo_name);
            session.greeting.is_extended = is_extended;
            session.greeting.hidden_extensions = hidden;
            session.hello_reply()
        })
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

    /// Returns whether the policy hides this extension.
    pub(super) fn is_hidden(&self, keyword: &str) -> bool {
        let name = keyword.split(' ').next().unwrap_or_default();
        self.greeting.hidden_extensions.iter().any(|hidden| hidden.eq_ignore_ascii_case(name))
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
        self.after_reply = AfterReply::StartTls;
        replies::START_TLS
    }

    fn run_mail(&mut self, sender: Result<EnvelopeSender, ServerReply>) -> ServerReply {
        let config = self.sink.config();
        if self.shutdown.is_draining {
            return replies::SHUTTING_DOWN;
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
}
