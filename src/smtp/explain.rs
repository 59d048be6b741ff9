//! What is going on, in plain words.
//!
//! Owns one sentence with its clause for each command and each kind of reply, for people who see the
//! dialogue for the first time. Nothing is decided here.

/// What a command is for.
pub(crate) fn command(line: &str) -> Option<&'static str> {
    let verb = line.split(' ').next().unwrap_or_default();
    Some(match verb.to_ascii_uppercase().as_str() {
        "EHLO" => "we say who we are and ask what the server can do (RFC 5321 §4.1.1.1)",
        "HELO" => {
            "the greeting of 1982, for servers that do not know EHLO; nothing can be asked of them (RFC 5321 §3.2)"
        }
        "STARTTLS" => "we ask to encrypt the line; all that was said so far will be forgotten (RFC 3207 §4.2)",
        "AUTH" => "we prove who we are, by one of the ways that the server offers (RFC 4954 §4)",
        "MAIL" => "a mail begins; if it cannot be delivered, the report goes to this address (RFC 5321 §4.1.1.2)",
        "RCPT" => "one recipient; each gets an answer of its own, and the headers do not matter (RFC 5321 §4.1.1.3)",
        "DATA" => "we ask to send the message itself, headers and text (RFC 5321 §4.1.1.4)",
        "BDAT" => "we send the message as one piece whose length we say, so that no dot has to end it (RFC 3030 §2)",
        "RSET" => "the mail that was begun is forgotten, the connection stays (RFC 5321 §4.1.1.5)",
        "QUIT" => "we say goodbye and wait for the answer before the line is closed (RFC 5321 §4.1.1.10)",
        _ => return None,
    })
}

/// What a reply means, by its code alone.
pub(crate) fn reply(code: u16) -> &'static str {
    match code {
        220 => "the server is ready (RFC 5321 §4.2.2)",
        221 => "the server says goodbye (RFC 5321 §4.2.2)",
        235 => "the login is accepted (RFC 4954 §6)",
        250..=252 => "yes: done (RFC 5321 §4.2.1, the 2 says so; the text is for people)",
        334 => "the server wants the next part of the login, in base64 (RFC 4954 §4)",
        354 => "go on: the message, and then a dot alone on a line (RFC 5321 §4.1.1.4)",
        421 => "the server closes the connection; everything can be tried again (RFC 5321 §3.8)",
        200..=299 => "yes (RFC 5321 §4.2.1)",
        300..=399 => "yes so far: more is wanted (RFC 5321 §4.2.1)",
        400..=499 => "not now: the same may work later (RFC 5321 §4.2.1, the 4 says so)",
        530 => "no: a login is wanted first (RFC 4954 §6)",
        534 | 535 => "no: the login is refused (RFC 4954 §6)",
        _ => "no, for good: the same will be refused again (RFC 5321 §4.2.1, the 5 says so)",
    }
}

/// What the message on its way is.
pub(crate) const BODY: &str =
    "the message; a line that begins with a dot gets a second one, which the server takes away (RFC 5321 §4.5.2)";

/// What encryption changes.
pub(crate) const ENCRYPTED: &str = "nobody on the way can read or change what follows; we greet anew, since only what is said now counts (RFC 3207 §4.2)";

#[cfg(test)]
mod tests {
    use super::{command, reply};

    #[test]
    fn every_command_of_ours_and_every_kind_of_reply_has_its_sentence() {
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
        assert!((200..=599).all(|code| reply(code).contains("RFC ")));
        assert_ne!(reply(451), reply(551));
    }
}
