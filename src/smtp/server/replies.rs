//! What a server answers.
//!
//! Owns the form of a reply on its way out (RFC 5321 §4.2) and the replies that mean the same
//! wherever they are said. Each text begins with the enhanced code of RFC 3463.

use std::borrow::Cow;
use std::fmt;

/// A reply: a code and its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerReply {
    /// 200 to 599.
    pub code: u16,
    /// Its lines, with `\n` between them.
    pub text: Cow<'static, str>,
}

impl ServerReply {
    /// A reply.
    pub(crate) fn new(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into() }
    }

    /// Whether it refuses: 4yz or 5yz.
    pub(crate) fn is_negative(&self) -> bool {
        self.code >= 400
    }

    /// Appends it as it goes on the wire.
    pub(crate) fn write(&self, buffer: &mut Vec<u8>) {
        let mut lines = self.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let digits = [self.code / 100 % 10, self.code / 10 % 10, self.code % 10];
            buffer.extend(digits.map(|digit| b'0' + u8::try_from(digit).unwrap_or(0)));
            match (lines.peek().is_some(), line.is_empty()) {
                (true, _) => buffer.push(b'-'),
                (false, false) => buffer.push(b' '),
                // Clients look for `334 `, also where no challenge follows (RFC 4954 §4).
                (false, true) if self.code == 334 => buffer.push(b' '),
                (false, true) => {}
            }
            buffer.extend_from_slice(line.as_bytes());
            buffer.extend_from_slice(b"\r\n");
        }
    }
}

impl fmt::Display for ServerReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text.replace('\n', " "))
    }
}

macro_rules! replies {
    ($($name:ident = $code:literal $text:literal;)*) => {
        $(pub(crate) const $name: ServerReply = ServerReply { code: $code, text: Cow::Borrowed($text) };)*
    };
}

replies! {
    SENDER_OK = 250 "2.1.0 sender ok";
    RECIPIENT_OK = 250 "2.1.5 recipient ok";
    SEND_DATA = 354 "send the message, end with a line that holds a dot alone";
    RESET_OK = 250 "2.0.0 forgotten";
    OK = 250 "2.0.0 ok";
    BYE = 221 "2.0.0 bye";
    START_TLS = 220 "2.0.0 begin TLS";
    AUTHENTICATED = 235 "2.7.0 logged in";
    INVALID_CREDENTIALS = 535 "5.7.8 wrong user or password";
    AUTH_CANCELLED = 501 "5.7.0 login cancelled";
    INVALID_BASE64 = 501 "5.5.2 that is not base64";
    UNSUPPORTED_MECHANISM = 504 "5.5.4 that mechanism is not offered";
    ENCRYPTION_REQUIRED = 538 "5.7.11 this mechanism wants TLS first";
    AUTH_REQUIRED = 530 "5.7.0 log in first";
    ONLY_QUIT_ACCEPTED = 503 "5.5.1 the banner said no: only QUIT is left";
    EHLO_REQUIRED = 503 "5.5.1 say EHLO first";
    NESTED_TRANSACTION = 503 "5.5.1 a mail is under way: finish it or say RSET";
    MAIL_REQUIRED = 503 "5.5.1 say MAIL first";
    RCPT_REQUIRED = 503 "5.5.1 no recipient was accepted";
    MIXED_DATA_AND_BDAT = 503 "5.5.1 DATA and BDAT do not go together";
    CHUNK_REJECTED = 503 "5.5.1 a chunk was refused: say RSET";
    ALREADY_DONE = 503 "5.5.1 that was done already";
    TRANSACTION_OPEN = 503 "5.5.1 not within a mail";
    UNKNOWN_COMMAND = 500 "5.5.1 no such command";
    NOT_OFFERED = 502 "5.5.1 not offered here";
    CANNOT_VERIFY = 252 "2.5.2 send and see";
    SYNTAX_ERROR = 501 "5.5.4 syntax error in the parameters";
    BARE_LF = 500 "5.5.2 a command ends in CR LF, and a bare LF ends nothing (RFC 5321 2.3.8); with nc it takes nc -C";
    LINE_TOO_LONG = 500 "5.5.2 the line is too long";
    INVALID_TEXT = 500 "5.5.2 the line holds what is no text";
    MESSAGE_TOO_LARGE = 552 "5.3.4 the message is larger than this server takes";
    TOO_MANY_RECIPIENTS = 452 "4.5.3 too many recipients";
    INSUFFICIENT_STORAGE = 452 "4.3.1 no room for more messages at the moment";
    INVALID_RECIPIENT = 501 "5.1.3 that is no address of the form <user@example.org>";
    INVALID_SENDER = 501 "5.1.7 that is no address of the form <user@example.org>, nor <>";
    SMTPUTF8_REQUIRED = 553 "5.6.7 an address beyond ASCII wants SMTPUTF8";
    UNKNOWN_PARAMETER = 555 "5.5.4 a parameter that is not known here";
    INVALID_PARAMETER = 501 "5.5.4 a parameter is wrong or said twice";
    TIMED_OUT = 421 "4.4.2 nothing came in time, closing";
    SESSION_TIMED_OUT = 421 "4.4.2 this session has lasted long enough, closing";
    SHUTTING_DOWN = 421 "4.3.2 the server is closing";
    MESSAGE_LIMIT_REACHED = 421 "4.3.2 this server has all the mails that it was to take, closing";
    TOO_MANY_ERRORS = 421 "4.7.0 too many errors, closing";
    TOO_MANY_CONNECTIONS = 421 "4.7.0 too many connections, try again later";
    HTTP_DETECTED = 421 "4.7.0 this is a mail server, closing";
    PIPELINED_STARTTLS = 421 "4.7.0 commands behind STARTTLS came in clear and are not believed, closing";
}

#[cfg(test)]
mod tests {
    use super::ServerReply;
    use crate::smtp::Reply;

    #[test]
    fn an_answer_is_read_back_as_it_was_said() {
        for (code, text, lines) in
            [(250, "ok", vec!["ok"]), (250, "", vec![""]), (250, "mx\nSIZE 1\nDSN", vec!["mx", "SIZE 1", "DSN"])]
        {
            let mut wire = Vec::new();
            ServerReply::new(code, text).write(&mut wire);
            let (taken, reply) = Reply::parse(&wire).expect("well-formed").expect("complete");
            assert_eq!(
                (taken, reply.code, reply.lines),
                (wire.len(), code, lines.iter().map(|line| (*line).to_owned()).collect())
            );
        }
    }
}
