//! Parameters of MAIL FROM and RCPT TO, and the check that a server can transport a message.

use std::fmt::Write as _;

use crate::failure::{Failure, FailureKind};
use crate::smtp::client::config::{Envelope, RequestedExtensions};
use crate::smtp::dot_stuffing;
use crate::smtp::dsn::{encode_unitext, encode_xtext};
use crate::smtp::extensions::{Extension, Extensions};
use crate::smtp::mailbox::Mailbox;

/// Formats the parameters of MAIL FROM, or fails if the server cannot transport the message.
pub(super) fn mail_parameters(
    extensions: &Extensions,
    envelope: &Envelope,
    requested: &RequestedExtensions,
) -> Result<String, Failure> {
    let mut parameters = String::new();
    if let Some(limit) = extensions.size {
        let size = dot_stuffing::canonical_size(&envelope.message) as u64;
        if limit > 0 && size > limit {
            let message = format!("the message has {size} bytes; the server accepts at most {limit}");
            return Err(Failure::new(FailureKind::InvalidMessage, message).expected("a smaller message"));
        }
        parameters = format!(" SIZE={size}");
    }
    let mut mailboxes = envelope.recipients.iter().chain(&envelope.from);
    let has_utf8_headers = dot_stuffing::has_utf8_headers(&envelope.message);
    if extensions.supports(Extension::Smtputf8) {
        if has_utf8_headers || mailboxes.any(Mailbox::is_internationalized) {
            parameters.push_str(" SMTPUTF8");
        }
    } else if let Some(international) = mailboxes.find(|mailbox| mailbox.to_ascii().is_none()) {
        let message = format!("the server does not accept the address {international} (no SMTPUTF8)");
        return Err(Failure::new(FailureKind::InvalidMessage, message).expected("an address in ASCII"));
    } else if has_utf8_headers {
        // RFC 6532 §3: only servers with SMTPUTF8 may receive such headers.
        let message = "the headers contain non-ASCII characters, which the server does not accept (no SMTPUTF8)";
        return Err(
            Failure::new(FailureKind::InvalidMessage, message).expected("headers in ASCII: encoded words (RFC 2047)")
        );
    }
    if dot_stuffing::is_8bit(&envelope.message) {
        if !extensions.supports(Extension::EightBitMime) {
            let message = "the message contains bytes above 127, which the server does not accept (no 8BITMIME)";
            return Err(Failure::new(FailureKind::InvalidMessage, message)
                .expected("an ASCII message: parts encoded as base64 or quoted-printable"));
        }
        parameters.push_str(" BODY=8BITMIME");
    }
    for (is_requested, extension) in [
        (requested.wants(Extension::Chunking), Extension::Chunking),
        (requested.wants_dsn(), Extension::Dsn),
        (requested.wants(Extension::RequireTls), Extension::RequireTls),
    ] {
        if is_requested && !extensions.supports(extension) {
            let keyword = extension.keyword();
            return Err(Failure::new(
                FailureKind::Rejected,
                format!("the server does not offer {keyword}; nothing was sent"),
            )
            .expected(format!("{keyword} in the reply to EHLO")));
        }
    }
    if let Some(ret) = requested.ret {
        let _ = write!(parameters, " RET={ret}");
    }
    if let Some(envid) = &requested.envid {
        let _ = write!(parameters, " ENVID={}", encode_xtext(envid));
    }
    if requested.wants(Extension::RequireTls) {
        parameters.push_str(" REQUIRETLS");
    }
    Ok(parameters)
}

/// Converts an address to the form that the server accepts (RFC 6531 §3.2).
pub(super) fn address_for_server(extensions: &Extensions, mailbox: &Mailbox) -> Mailbox {
    let ascii = if extensions.supports(Extension::Smtputf8) { None } else { mailbox.to_ascii() };
    ascii.unwrap_or_else(|| mailbox.clone())
}

/// Formats the parameters of RCPT TO.
pub(super) fn rcpt_parameters(recipient: &Mailbox, requested: &RequestedExtensions) -> String {
    if !requested.wants_dsn() {
        return String::new();
    }
    let notify = requested.notify.as_ref().map(|notify| format!(" NOTIFY={notify}")).unwrap_or_default();
    // The address type for non-ASCII addresses is that of RFC 6533, which requires SMTPUTF8.
    let kind = if recipient.is_internationalized() { "utf-8" } else { "rfc822" };
    let address = recipient.as_str();
    let address = if recipient.is_internationalized() { encode_unitext(address) } else { encode_xtext(address) };
    format!("{notify} ORCPT={kind};{address}")
}

impl RequestedExtensions {
    /// Returns whether the use of an extension is requested.
    pub(super) fn wants(&self, extension: Extension) -> bool {
        self.extensions.contains(&extension)
    }

    /// Returns true if a parameter of DSN is requested.
    fn wants_dsn(&self) -> bool {
        self.ret.is_some() || self.envid.is_some() || self.notify.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::rcpt_parameters;
    use crate::smtp::client::config::RequestedExtensions;

    #[test]
    fn the_original_recipient_is_encoded_in_xtext() {
        let requested =
            RequestedExtensions { notify: Some("SUCCESS,FAILURE".into()), ..RequestedExtensions::default() };
        let parameters = |address: &str| rcpt_parameters(&address.parse().expect("an address"), &requested);
        assert_eq!(parameters("a+b@x.test"), " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@x.test");
        assert_eq!(
            parameters("\"\u{f6} +\"@x.test"),
            " NOTIFY=SUCCESS,FAILURE ORCPT=utf-8;\"\u{f6}\\x{20}\\x{2B}\"@x.test"
        );
        assert_eq!(rcpt_parameters(&"a@x".parse().expect("an address"), &RequestedExtensions::default()), "");
    }
}
