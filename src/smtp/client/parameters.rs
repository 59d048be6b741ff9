//! Whether a message can go through a server, and what MAIL FROM has to say of it.

use crate::error::Error;
use crate::exit::Exit;
use crate::smtp::offers::Offers;
use crate::smtp::plan::Envelope;
use crate::smtp::stuff;

/// What stands behind MAIL FROM, or why the message cannot go through this server.
pub fn parameters(offers: &Offers, envelope: &Envelope) -> Result<String, Error> {
    let mut parameters = String::new();
    if let Some(limit) = offers.size {
        let size = stuff::size(&envelope.message) as u64;
        if limit > 0 && size > limit {
            let what = format!("the message has {size} octets, and the server takes {limit} at most");
            return Err(Error::new(Exit::InputRefused, what).expected("a smaller message"));
        }
        parameters = format!(" SIZE={size}");
    }
    if stuff::is_8bit(&envelope.message) {
        if !offers.eight_bit {
            let what = "the message holds octets above 127, and the server does not take them (no 8BITMIME)";
            return Err(Error::new(Exit::InputRefused, what)
                .expected("a message in ASCII: parts encoded in base64 or quoted-printable"));
        }
        parameters.push_str(" BODY=8BITMIME");
    }
    let everybody = envelope.recipients.iter().chain(&envelope.from);
    if let Some(international) = everybody.into_iter().find(|mailbox| mailbox.is_international()) {
        if !offers.smtputf8 {
            let what = format!("the server does not take the address {international} (no SMTPUTF8)");
            return Err(Error::new(Exit::InputRefused, what).expected("an address in ASCII"));
        }
        parameters.push_str(" SMTPUTF8");
    }
    Ok(parameters)
}
