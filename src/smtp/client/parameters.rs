//! Whether a message can go through a server, and what MAIL FROM and RCPT TO have to say of it.

use std::fmt::Write as _;

use crate::error::Error;
use crate::exit::Exit;
use crate::smtp::client::config::{Envelope, RequestedExtensions};
use crate::smtp::dot_stuffing;
use crate::smtp::dsn::{encode_unitext, encode_xtext};
use crate::smtp::extensions::Extensions;
use crate::smtp::mailbox::Mailbox;

/// What stands behind MAIL FROM, or why the message cannot go through this server.
pub(super) fn mail_parameters(
    extensions: &Extensions,
    envelope: &Envelope,
    requested: &RequestedExtensions,
) -> Result<String, Error> {
    let mut parameters = String::new();
    if let Some(limit) = extensions.size {
        let size = dot_stuffing::canonical_size(&envelope.message) as u64;
        if limit > 0 && size > limit {
            let what = format!("the message has {size} octets, and the server takes {limit} at most");
            return Err(Error::new(Exit::InvalidInput, what).expected("a smaller message"));
        }
        parameters = format!(" SIZE={size}");
    }
    let mut everybody = envelope.recipients.iter().chain(&envelope.from);
    let has_utf8_headers = dot_stuffing::has_utf8_headers(&envelope.message);
    if extensions.smtputf8 {
        if has_utf8_headers || everybody.any(Mailbox::is_internationalized) {
            parameters.push_str(" SMTPUTF8");
        }
    } else if let Some(international) = everybody.find(|mailbox| mailbox.to_ascii().is_none()) {
        let what = format!("the server does not take the address {international} (no SMTPUTF8)");
        return Err(Error::new(Exit::InvalidInput, what).expected("an address in ASCII"));
    } else if has_utf8_headers {
        // RFC 6532 §3: such headers go to servers that know them, and to nobody else.
        let what = "the headers hold letters beyond ASCII, and the server does not take them (no SMTPUTF8)";
        return Err(Error::new(Exit::InvalidInput, what).expected("headers in ASCII: encoded words (RFC 2047)"));
    }
    if dot_stuffing::is_8bit(&envelope.message) {
        if !extensions.eight_bit_mime {
            let what = "the message holds octets above 127, and the server does not take them (no 8BITMIME)";
            return Err(Error::new(Exit::InvalidInput, what)
                .expected("a message in ASCII: parts encoded in base64 or quoted-printable"));
        }
        parameters.push_str(" BODY=8BITMIME");
    }
    for (is_wished, is_offered, word) in [
        (requested.chunking, extensions.chunking, "CHUNKING"),
        (requested.wants_dsn(), extensions.dsn, "DSN"),
        (requested.require_tls, extensions.requiretls, "REQUIRETLS"),
    ] {
        if is_wished && !is_offered {
            return Err(Error::new(Exit::Unavailable, format!("the server does not offer {word}; nothing was sent"))
                .expected(format!("{word} among the words of EHLO")));
        }
    }
    if let Some(ret) = requested.ret {
        let _ = write!(parameters, " RET={ret}");
    }
    if let Some(envid) = &requested.envid {
        let _ = write!(parameters, " ENVID={}", encode_xtext(envid));
    }
    if requested.require_tls {
        parameters.push_str(" REQUIRETLS");
    }
    Ok(parameters)
}

/// An address as this server takes it (RFC 6531 §3.2).
pub(super) fn address_for_server(extensions: &Extensions, mailbox: &Mailbox) -> Mailbox {
    let ascii = if extensions.smtputf8 { None } else { mailbox.to_ascii() };
    ascii.unwrap_or_else(|| mailbox.clone())
}

/// What stands behind RCPT TO.
pub(super) fn rcpt_parameters(recipient: &Mailbox, requested: &RequestedExtensions) -> String {
    if !requested.wants_dsn() {
        return String::new();
    }
    let notify = requested.notify.as_ref().map(|notify| format!(" NOTIFY={notify}")).unwrap_or_default();
    // The type for addresses beyond ASCII is RFC 6533's, which only servers with SMTPUTF8 know.
    let kind = if recipient.is_internationalized() { "utf-8" } else { "rfc822" };
    let address = recipient.as_str();
    let address = if recipient.is_internationalized() { encode_unitext(address) } else { encode_xtext(address) };
    format!("{notify} ORCPT={kind};{address}")
}

impl RequestedExtensions {
    /// Whether it is DSN that is wished for.
    fn wants_dsn(&self) -> bool {
        self.ret.is_some() || self.envid.is_some() || self.notify.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::rcpt_parameters;
    use crate::smtp::client::config::RequestedExtensions;

    #[test]
    fn what_a_report_is_about_is_written_in_xtext() {
        let wishes = RequestedExtensions { notify: Some("SUCCESS,FAILURE".into()), ..RequestedExtensions::default() };
        let about = |address: &str| rcpt_parameters(&address.parse().expect("an address"), &wishes);
        assert_eq!(about("a+b@x.test"), " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@x.test");
        assert_eq!(about("\"\u{f6} +\"@x.test"), " NOTIFY=SUCCESS,FAILURE ORCPT=utf-8;\"\u{f6}\\x{20}\\x{2B}\"@x.test");
        assert_eq!(rcpt_parameters(&"a@x".parse().expect("an address"), &RequestedExtensions::default()), "");
    }
}
