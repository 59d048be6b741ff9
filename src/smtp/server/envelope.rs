//! Envelope: sender and recipients of a transaction.
//!
//! Owns the paths and parameters of MAIL and RCPT (RFC 5321 §4.1.2) and the extensions' parameters:
//! SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), AUTH (RFC 4954 §5), RET, ENVID, NOTIFY
//! and ORCPT (RFC 3461 §4). Parameters that are unknown, invalid or repeated are rejected.

use schemars::JsonSchema;
use serde::Serialize;

use super::super::dsn::{is_valid_envid, is_valid_notify, is_valid_orcpt};
use super::super::mailbox::Mailbox;
use super::replies::{self, ServerReply};

/// Parsed arguments of MAIL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EnvelopeSender {
    /// Reverse-path; `None` is the null sender `<>`.
    pub mailbox: Option<Mailbox>,
    /// Declared message size (SIZE).
    pub size: Option<u64>,
    pub is_8bit: bool,
    pub is_smtputf8: bool,
    /// RET: FULL or HDRS.
    pub ret: Option<String>,
    /// ENVID, undecoded.
    pub envid: Option<String>,
}

/// Parsed arguments of RCPT.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub(crate) struct EnvelopeRecipient {
    pub address: String,
    /// NOTIFY, in upper case.
    pub notify: Option<String>,
    /// ORCPT, undecoded.
    pub orcpt: Option<String>,
}

/// Splits a path in angle brackets from the parameters after it.
fn split_path(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('<')?;
    let mut quoted = false;
    let mut escaped = false;
    for (at, character) in inner.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => {
                let (path, rest) = inner.split_at(at);
                let rest = rest.strip_prefix('>')?;
                let route = path.strip_prefix('@').and_then(|_| path.split_once(':'));
                // A source route is accepted and ignored (RFC 5321 appendix C).
                let path = route.map_or(path, |(_, path)| path);
                return (rest.is_empty() || rest.starts_with(' ')).then_some((path, rest));
            }
            _ => {}
        }
    }
    None
}

/// Parses the parameters; each may occur once.
fn parse_parameters(text: &str) -> Result<Vec<(String, Option<&str>)>, ServerReply> {
    let mut all: Vec<(String, Option<&str>)> = Vec::new();
    for parameter in text.split(' ').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').map_or((parameter, None), |(name, value)| (name, Some(value)));
        let name = name.to_ascii_uppercase();
        if all.iter().any(|(known, _)| *known == name) || value == Some("") {
            return Err(replies::INVALID_PARAMETER);
        }
        all.push((name, value));
    }
    Ok(all)
}

impl EnvelopeSender {
    /// Parses the arguments of `MAIL FROM:`; parameters require EHLO.
    pub(crate) fn parse(text: &str, is_extended: bool) -> Result<Self, ServerReply> {
        let (path, rest) = split_path(text).ok_or(replies::INVALID_SENDER)?;
        let mailbox = match path {
            "" => None,
            path => Some(path.parse::<Mailbox>().map_err(|_| replies::INVALID_SENDER)?),
        };
        let mut sender = Self { mailbox, ..Self::default() };
        for (name, value) in parse_parameters(rest)? {
            match (name.as_str(), value) {
                _ if !is_extended => return Err(replies::UNKNOWN_PARAMETER),
                ("SIZE", Some(size)) => sender.size = Some(parse_size(size)?),
                ("BODY", Some(body)) if body.eq_ignore_ascii_case("8BITMIME") => sender.is_8bit = true,
                ("BODY", Some(body)) if body.eq_ignore_ascii_case("7BIT") => {}
                ("SMTPUTF8", None) => sender.is_smtputf8 = true,
                ("RET", Some(ret)) if ["FULL", "HDRS"].contains(&ret.to_ascii_uppercase().as_str()) => {
                    sender.ret = Some(ret.to_ascii_uppercase());
                }
                ("ENVID", Some(envid)) if is_valid_envid(envid) => {
                    sender.envid = Some(envid.to_owned());
                }
                ("AUTH", Some(_)) => {}
                ("SIZE" | "BODY" | "SMTPUTF8" | "RET" | "ENVID" | "AUTH", _) => return Err(replies::INVALID_PARAMETER),
                _ => return Err(replies::UNKNOWN_PARAMETER),
            }
        }
        let is_international = sender.mailbox.as_ref().is_some_and(Mailbox::is_internationalized);
        if is_international && !sender.is_smtputf8 { Err(replies::SMTPUTF8_REQUIRED) } else { Ok(sender) }
    }

    /// Returns the address, empty for the null sender.
    pub(crate) fn address(&self) -> &str {
        self.mailbox.as_ref().map_or("", Mailbox::as_str)
    }
}

impl EnvelopeRecipient {
    /// Returns the approximate memory use in bytes.
    pub(crate) fn memory_size(&self) -> usize {
        let parameters = [&self.notify, &self.orcpt].into_iter().flatten().map(String::len).sum::<usize>();
        size_of::<Self>() + self.address.len() + parameters
    }

    /// Parses the arguments of `RCPT TO:`; `is_smtputf8` if MAIL had SMTPUTF8.
    pub(crate) fn parse(text: &str, is_extended: bool, is_smtputf8: bool) -> Result<Self, ServerReply> {
        let (path, rest) = split_path(text).ok_or(replies::INVALID_RECIPIENT)?;
        // Every server accepts mail for postmaster, also without a domain (RFC 5321 §4.5.1).
        let is_postmaster = path.eq_ignore_ascii_case("postmaster");
        if !is_postmaster {
            let mailbox = path.parse::<Mailbox>().map_err(|_| replies::INVALID_RECIPIENT)?;
            if mailbox.is_internationalized() && !is_smtputf8 {
                return Err(replies::SMTPUTF8_REQUIRED);
            }
        }
        let mut recipient = Self { address: path.to_owned(), notify: None, orcpt: None };
        for (name, value) in parse_parameters(rest)? {
            match (name.as_str(), value) {
                _ if !is_extended => return Err(replies::UNKNOWN_PARAMETER),
                ("NOTIFY", Some(notify)) if is_valid_notify(notify) => {
                    recipient.notify = Some(notify.to_ascii_uppercase());
                }
                ("ORCPT", Some(orcpt)) if is_valid_orcpt(orcpt) => recipient.orcpt = Some(orcpt.to_owned()),
                ("NOTIFY" | "ORCPT", _) => return Err(replies::INVALID_PARAMETER),
                _ => return Err(replies::UNKNOWN_PARAMETER),
            }
        }
        Ok(recipient)
    }
}

/// Parses up to twenty digits (RFC 1870 §4); a value beyond `u64` is saturated.
fn parse_size(text: &str) -> Result<u64, ServerReply> {
    let is_number = (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { Ok(text.parse().unwrap_or(u64::MAX)) } else { Err(replies::INVALID_PARAMETER) }
}

#[cfg(test)]
mod tests {
    use super::{EnvelopeRecipient, EnvelopeSender};

    fn sender(text: &str) -> Result<EnvelopeSender, u16> {
        EnvelopeSender::parse(text, true).map_err(|reply| reply.code)
    }

    fn recipient(text: &str) -> Result<EnvelopeRecipient, u16> {
        EnvelopeRecipient::parse(text, true, false).map_err(|reply| reply.code)
    }

    #[test]
    fn senders_are_parsed_with_their_parameters() {
        let read = sender("<a@b> SIZE=10 body=8bitmime SMTPUTF8 RET=hdrs ENVID=QQ314159 AUTH=<>").expect("well-formed");
        assert_eq!((read.address(), read.size, read.is_8bit, read.is_smtputf8), ("a@b", Some(10), true, true));
        assert_eq!((read.ret.as_deref(), read.envid.as_deref()), (Some("HDRS"), Some("QQ314159")));
        assert_eq!(sender("<>").expect("the null sender").mailbox, None);
        assert_eq!(sender("<@x,@y:a@b>").expect("a source route").address(), "a@b");
        assert_eq!(sender("<\"a>b\"@c>").expect("a quoted bracket").address(), "\"a>b\"@c");
    }

    #[test]
    fn each_error_in_a_sender_has_its_code() {
        for (text, code) in [
            ("a@b", 501),
            ("<a@b", 501),
            ("<a>", 501),
            ("<a@b>SIZE=1", 501),
            ("<a@b> SIZE=", 501),
            ("<a@b> SIZE=x", 501),
            ("<a@b> SIZE=+1", 501),
            ("<a@b> SIZE=1 size=1", 501),
            ("<a@b> BODY=BINARYMIME", 501),
            ("<a@b> RET=SOME", 501),
            ("<a@b> ENVID=a=b", 501),
            ("<a@b> ENVID=a+2b", 501),
            (&format!("<a@b> ENVID={}", "x".repeat(101)), 501),
            ("<a@b> XFOO=1", 555),
            ("<j\u{f6}rg@b>", 553),
        ] {
            assert_eq!(sender(text).expect_err(text), code, "{text}");
        }
        assert!(EnvelopeSender::parse("<j\u{f6}rg@b> SMTPUTF8", true).is_ok());
        assert_eq!(EnvelopeSender::parse("<a@b> SIZE=1", false).expect_err("HELO has no parameters").code, 555);
    }

    #[test]
    fn recipients_are_parsed_with_their_parameters() {
        let read = recipient("<a@b> NOTIFY=success,DELAY ORCPT=rfc822;a@b").expect("well-formed");
        assert_eq!((read.address.as_str(), read.notify.as_deref()), ("a@b", Some("SUCCESS,DELAY")));
        assert_eq!(read.orcpt.as_deref(), Some("rfc822;a@b"));
        assert!(recipient("<Postmaster>").is_ok());
        for (text, code) in [
            ("<>", 501),
            ("<a@b> NOTIFY=NEVER,DELAY", 501),
            ("<a@b> ORCPT=x", 501),
            ("<a@b> ORCPT=rfc822;", 501),
            ("<a@b> NOTIFY=DELAY,delay", 501),
            (&format!("<a@b> ORCPT=rfc822;{}", "x".repeat(494)), 501),
            ("<a@b> ORCPT=rfc822;a+b@c", 501),
            ("<a@b> SIZE=1", 555),
            ("<j\u{f6}rg@b>", 553),
        ] {
            assert_eq!(recipient(text).expect_err(text), code, "{text}");
        }
    }
}
