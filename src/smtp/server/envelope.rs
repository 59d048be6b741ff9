//! Who a mail is from and whom it is for.
//!
//! Owns the paths and parameters of MAIL and RCPT (RFC 5321 §4.1.2) and what the extensions add to
//! them: SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), AUTH (RFC 4954 §5), RET, ENVID, NOTIFY
//! and ORCPT (RFC 3461 §4). A word that was not offered, a wrong one and one said twice are refused.

use serde::Serialize;

use super::super::dsn::{is_valid_envid, is_valid_notify, is_valid_orcpt};
use super::super::mailbox::Mailbox;
use super::replies::{self, ServerReply};

/// MAIL, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EnvelopeSender {
    /// Who it is from; `None` is the null sender `<>`.
    pub mailbox: Option<Mailbox>,
    /// How large it says it will be.
    pub size: Option<u64>,
    /// Whether it says so with BODY=8BITMIME.
    pub is_8bit: bool,
    /// Whether it says SMTPUTF8.
    pub is_smtputf8: bool,
    /// RET: FULL or HDRS.
    pub ret: Option<String>,
    /// ENVID, as it was said.
    pub envid: Option<String>,
}

/// RCPT, read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct EnvelopeRecipient {
    /// Whom.
    pub address: String,
    /// NOTIFY, as it was said.
    pub notify: Option<String>,
    /// ORCPT, as it was said.
    pub orcpt: Option<String>,
}

/// What stands between angle brackets, and the parameters behind them.
fn split_path(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('<')?;
    let mut quoted = false;
    let mut escaped = false;
    for (at, letter) in inner.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => {
                let (path, rest) = inner.split_at(at);
                let rest = rest.strip_prefix('>')?;
                let route = path.strip_prefix('@').and_then(|_| path.split_once(':'));
                // A source route is read and not followed (appendix C).
                let path = route.map_or(path, |(_, path)| path);
                return (rest.is_empty() || rest.starts_with(' ')).then_some((path, rest));
            }
            _ => {}
        }
    }
    None
}

/// The parameters, each once.
fn parse_parameters(text: &str) -> Result<Vec<(String, Option<&str>)>, ServerReply> {
    let mut all: Vec<(String, Option<&str>)> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let name = name.to_ascii_uppercase();
        if all.iter().any(|(known, _)| *known == name) || value == Some("") {
            return Err(replies::INVALID_PARAMETER);
        }
        all.push((name, value));
    }
    Ok(all)
}

impl EnvelopeSender {
    /// Reads what follows `MAIL FROM:`; without EHLO there are no parameters.
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

    /// The address, empty for the null sender.
    pub(crate) fn address(&self) -> &str {
        self.mailbox.as_ref().map_or("", Mailbox::as_str)
    }
}

impl EnvelopeRecipient {
    /// What it takes in memory, about.
    pub(crate) fn memory_size(&self) -> usize {
        let parameters = [&self.notify, &self.orcpt].into_iter().flatten().map(String::len).sum::<usize>();
        size_of::<Self>() + self.address.len() + parameters
    }

    /// Reads what follows `RCPT TO:`; `is_utf8` if MAIL said SMTPUTF8.
    pub(crate) fn parse(text: &str, is_extended: bool, is_smtputf8: bool) -> Result<Self, ServerReply> {
        let (path, rest) = split_path(text).ok_or(replies::INVALID_RECIPIENT)?;
        // Every server has a postmaster, also without a domain (§4.5.1).
        let is_postmaster = path.eq_ignore_ascii_case("postmaster");
        if !is_postmaster {
            let mailbox = path.parse::<Mailbox>().map_err(|_| replies::INVALID_RECIPIENT)?;
            if mailbox.is_internationalized() && !is_smtputf8 {
                return Err(replies::SMTPUTF8_REQUIRED);
            }
        }
        let mut addressee = Self { address: path.to_owned(), notify: None, orcpt: None };
        for (name, value) in parse_parameters(rest)? {
            match (name.as_str(), value) {
                _ if !is_extended => return Err(replies::UNKNOWN_PARAMETER),
                ("NOTIFY", Some(notify)) if is_valid_notify(notify) => {
                    addressee.notify = Some(notify.to_ascii_uppercase());
                }
                ("ORCPT", Some(orcpt)) if is_valid_orcpt(orcpt) => addressee.orcpt = Some(orcpt.to_owned()),
                ("NOTIFY" | "ORCPT", _) => return Err(replies::INVALID_PARAMETER),
                _ => return Err(replies::UNKNOWN_PARAMETER),
            }
        }
        Ok(addressee)
    }
}

/// Up to twenty digits (RFC 1870 §4), and so more than can ever be taken.
fn parse_size(text: &str) -> Result<u64, ServerReply> {
    let is_number = (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { Ok(text.parse().unwrap_or(u64::MAX)) } else { Err(replies::INVALID_PARAMETER) }
}

#[cfg(test)]
mod tests {
    use super::{EnvelopeRecipient, EnvelopeSender};

    fn sender(text: &str) -> Result<EnvelopeSender, u16> {
        EnvelopeSender::parse(text, true).map_err(|answer| answer.code)
    }

    fn recipient(text: &str) -> Result<EnvelopeRecipient, u16> {
        EnvelopeRecipient::parse(text, true, false).map_err(|answer| answer.code)
    }

    #[test]
    fn senders_are_read_with_their_parameters() {
        let read = sender("<a@b> SIZE=10 body=8bitmime SMTPUTF8 RET=hdrs ENVID=QQ314159 AUTH=<>").expect("well-formed");
        assert_eq!((read.address(), read.size, read.is_8bit, read.is_smtputf8), ("a@b", Some(10), true, true));
        assert_eq!((read.ret.as_deref(), read.envid.as_deref()), (Some("HDRS"), Some("QQ314159")));
        assert_eq!(sender("<>").expect("the null sender").mailbox, None);
        assert_eq!(sender("<@x,@y:a@b>").expect("a source route").address(), "a@b");
        assert_eq!(sender("<\"a>b\"@c>").expect("a quoted bracket").address(), "\"a>b\"@c");
    }

    #[test]
    fn what_is_wrong_with_a_sender_has_its_code() {
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
    fn addressees_are_read_with_their_parameters() {
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
