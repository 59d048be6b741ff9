//! Explanations of `--explain`: one sentence with its RFC clause for each command and each kind of reply.
//!
//! Written for readers who see an SMTP session for the first time. Nothing is decided here.

pub(crate) fn command(line: &str) -> Option<&'static str> {
    let verb = line.split(' ').next().unwrap_or_default();
    Some(match verb.to_ascii_uppercase().as_str() {
        "EHLO" => "the client names itself and asks for the server's extensions (RFC 5321 §4.1.1.1)",
        "HELO" => "the command of 1982 for servers without EHLO; they have no extensions (RFC 5321 §3.2)",
        "STARTTLS" => "the client asks for encryption; both sides discard what they learned before it (RFC 3207 §4.2)",
        "AUTH" => "the client logs in with one of the mechanisms that the server offers (RFC 4954 §4)",
        "MAIL" => "starts a mail; a delivery failure is reported to this address (RFC 5321 §4.1.1.2)",
        "RCPT" => "names one recipient; each has its own reply, and the headers do not matter (RFC 5321 §4.1.1.3)",
        "DATA" => "the client asks to send the message: headers and body (RFC 5321 §4.1.1.4)",
        "BDAT" => "sends the message as one chunk of a given length, so no dot has to end it (RFC 3030 §2)",
        "RSET" => "aborts the current mail and keeps the connection (RFC 5321 §4.1.1.5)",
        "QUIT" => "ends the session; the client waits for the reply before it closes (RFC 5321 §4.1.1.10)",
        _ => return None,
    })
}

/// Explains a reply by its code; 530 stands for a login or for STARTTLS, which only the text tells apart.
pub(crate) fn reply(code: u16, text: &str) -> &'static str {
    match code {
        220 => "the server is ready (RFC 5321 §4.2.2)",
        221 => "the server closes the connection (RFC 5321 §4.2.2)",
        235 => "the login was accepted (RFC 4954 §6)",
        250..=252 => "accepted and completed; the 2 decides, the text is informative (RFC 5321 §4.2.1)",
        334 => "the server asks for the next part of the login, in base64 (RFC 4954 §4)",
        354 => "send the message, then a line with a single dot (RFC 5321 §4.1.1.4)",
        421 => "the server closes the connection; try again later (RFC 5321 §3.8)",
        200..=299 => "accepted (RFC 5321 §4.2.1)",
        300..=399 => "accepted so far; the server waits for more (RFC 5321 §4.2.1)",
        400..=499 => "rejected for now; the same command may succeed later (RFC 5321 §4.2.1)",
        503 => "rejected: a command is out of order; send the missing one first (RFC 5321 §4.1.4)",
        530 if text.to_ascii_uppercase().contains("STARTTLS") => {
            "rejected: the server requires encryption first; send STARTTLS (RFC 3207 §4)"
        }
        530 => "rejected: authentication is required first (RFC 4954 §6)",
        534 | 535 => "rejected: the login failed (RFC 4954 §6)",
        _ => "rejected permanently; the same command will fail again (RFC 5321 §4.2.1)",
    }
}

/// Explains the message after DATA or BDAT.
pub(crate) const BODY: &str =
    "the message; a line that starts with a dot gets a second one, which the server removes (RFC 5321 §4.5.2)";

/// Explains the session after the TLS handshake.
pub(crate) const ENCRYPTED: &str =
    "encrypted from here on; the client sends EHLO again, since only the new reply counts (RFC 3207 §4.2)";

#[cfg(test)]
mod tests {
    use super::{command, reply};

    #[test]
    fn every_command_and_every_kind_of_reply_is_explained() {
        for line in [
            "EHLO x",
            "helo x",
            "STARTTLS",
            "AUTH PLAIN ***",
            "MAIL FROM:<>",
            "RCPT TO:<a@x>",
            "DATA",
            "BDAT 9 LAST",
            "QUIT",
        ] {
            assert!(command(line).is_some_and(|text| text.contains("RFC ")), "{line}");
        }
        assert_eq!(command("***"), None);
        assert!((200..=599).all(|code| reply(code, "").contains("RFC ")));
        assert_ne!(reply(451, ""), reply(551, ""));
        assert!(reply(530, "5.7.0 Must issue a STARTTLS command first").contains("RFC 3207"));
        assert!(reply(530, "5.7.0 Authentication required").contains("RFC 4954"));
    }
}
