//! Replies of the server.
//!
//! Owns the wire format of a reply (RFC 5321 §4.2) and the constant replies. Each text begins with the
//! enhanced status code of RFC 3463.

use std::borrow::Cow;
use std::fmt;

/// Reply code and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerReply {
    pub code: u16,
    /// Lines of text, separated by `\n`.
    pub text: Cow<'static, str>,
}

impl ServerReply {
    pub(crate) fn new(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into() }
    }

    /// Returns whether the command was rejected: 4yz or 5yz.
    pub(crate) fn is_negative(&self) -> bool {
        self.code >= 400
    }

    /// Appends the reply in wire format.
    pub(crate) fn write(&self, buffer: &mut Vec<u8>) {
        let mut lines = self.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let digits = [self.code / 100 % 10, self.code / 10 % 10, self.code % 10];
            buffer.extend(digits.map(|digit| b'0' + u8::try_from(digit).unwrap_or(0)));
            match (lines.peek().is_some(), line.is_empty()) {
                (true, _) => buffer.push(b'-'),
                (false, false) => buffer.push(b' '),
                // Clients expect the space in `334 ` even before an empty challenge (RFC 4954 §4).
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
    SEND_DATA = 354 "start mail input; end with <CRLF>.<CRLF>";
    RESET_OK = 250 "2.0.0 reset";
    OK = 250 "2.0.0 ok";
    BYE = 221 "2.0.0 bye";
    HELP = 214 "2.0.0 EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY QUIT (RFC 5321)";
    START_TLS = 220 "2.0.0 ready to start TLS";
    AUTHENTICATED = 235 "2.7.0 authentication successful";
    INVALID_CREDENTIALS = 535 "5.7.8 authentication credentials invalid";
    AUTH_CANCELLED = 501 "5.7.0 authentication cancelled";
    INVALID_BASE64 = 501 "5.5.2 response is not valid base64 (RFC 4954 section 4)";
    MALFORMED_PLAIN = 501 "5.5.2 malformed response; expected base64 of [authzid] NUL user NUL password (RFC 4616 section 2)";
    MALFORMED_SASL = 501 "5.5.2 malformed response to the challenge (RFC 4954 section 4)";
    UNSUPPORTED_MECHANISM = 504 "5.5.4 authentication mechanism not supported; see AUTH in the EHLO reply (RFC 4954 section 4)";
    ENCRYPTION_REQUIRED = 538 "5.7.11 encryption required for this authentication mechanism";
    AUTH_REQUIRED = 530 "5.7.0 authentication required";
    ONLY_QUIT_ACCEPTED = 503 "5.5.1 session rejected by the banner; only QUIT is accepted";
    EHLO_REQUIRED = 503 "5.5.1 send EHLO first (RFC 5321 section 4.1.4)";
    NESTED_TRANSACTION = 503 "5.5.1 a transaction is in progress; complete it or send RSET";
    MAIL_REQUIRED = 503 "5.5.1 send MAIL first (RFC 5321 section 4.1.4)";
    RCPT_REQUIRED = 503 "5.5.1 no recipient was accepted";
    MIXED_DATA_AND_BDAT = 503 "5.5.1 DATA and BDAT cannot be mixed in a transaction";
    CHUNK_REJECTED = 503 "5.5.1 a chunk was rejected; send RSET";
    ALREADY_DONE = 503 "5.5.1 this command has already succeeded";
    TRANSACTION_OPEN = 503 "5.5.1 not permitted at this point in a transaction";
    UNKNOWN_COMMAND = 500 "5.5.1 command not recognised";
    NOT_OFFERED = 502 "5.5.1 command not supported";
    CANNOT_VERIFY = 252 "2.0.0 cannot verify the user, but the message may be accepted";
    SYNTAX_ERROR = 501 "5.5.4 syntax error in parameters";
    BARE_LF = 500 "5.5.2 a command must end with CR LF, not a bare LF (RFC 5321 section 2.3.8); with nc, use nc -C";
    LINE_TOO_LONG = 500 "5.5.2 line too long";
    INVALID_TEXT = 500 "5.5.2 line contains control characters or invalid UTF-8";
    MESSAGE_TOO_LARGE = 552 "5.3.4 message size exceeds the limit of this server";
    TOO_MANY_RECIPIENTS = 452 "4.5.3 too many recipients";
    INSUFFICIENT_STORAGE = 452 "4.3.1 insufficient storage, try again later";
    INVALID_RECIPIENT = 501 "5.1.3 invalid recipient address; expected <user@example.org>";
    INVALID_SENDER = 501 "5.1.7 invalid sender address; expected <user@example.org> or <>";
    SMTPUTF8_REQUIRED = 553 "5.6.7 a non-ASCII address requires SMTPUTF8";
    UNKNOWN_PARAMETER = 555 "5.5.4 parameter not recognised";
    INVALID_PARAMETER = 501 "5.5.4 invalid or repeated parameter";
    TIMED_OUT = 421 "4.4.2 timed out, closing connection";
    SESSION_TIMED_OUT = 421 "4.4.2 session time limit reached, closing connection";
    SHUTTING_DOWN = 421 "4.3.2 server shutting down, closing connection";
    MESSAGE_LIMIT_REACHED = 421 "4.3.2 message limit of this server reached, closing connection";
    TOO_MANY_ERRORS = 421 "4.7.0 too many errors, closing connection";
    TOO_MANY_CONNECTIONS = 421 "4.7.0 too many connections, try again later";
    HTTP_DETECTED = 421 "4.7.0 HTTP request sent to a mail server, closing connection";
    PIPELINED_STARTTLS = 421 "4.7.0 data received after STARTTLS before the TLS handshake, closing connection";
}

#[cfg(test)]
mod tests {
    use super::ServerReply;
    use crate::smtp::Reply;

    #[test]
    fn a_written_reply_is_parsed_back_unchanged() {
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
