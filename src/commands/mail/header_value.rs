//! Values of header fields: persons, names of files, and the rule that a value stays on one line.

use std::path::Path;
use std::str::FromStr;

use mail_builder::headers::address::Address;

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::smtp::Mailbox;

/// Maximum length of a message line without its end (RFC 5322 §2.1.1).
pub(super) const MAX_LINE_LENGTH: usize = 998;

/// Address with an optional display name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    name: Option<String>,
    pub mailbox: Mailbox,
}

impl FromStr for Person {
    type Err = Error;

    /// Parses `a@b` or `Name <a@b>`.
    fn from_str(text: &str) -> Result<Self> {
        let (name, address) = match text.strip_suffix('>').and_then(|rest| rest.split_once('<')) {
            Some((name, address)) => (Some(name.trim().trim_matches('"').to_owned()), address),
            None => (None, text),
        };
        let name = name.filter(|name| !name.is_empty());
        name.as_deref().map_or(Ok(()), |name| check_single_line("a name", name))?;
        Ok(Self { name, mailbox: address.trim().parse()? })
    }
}

impl Person {
    /// Address for a header.
    pub(super) fn address(&self) -> Address<'static> {
        Address::new_address(self.name.clone(), self.ascii_mailbox().to_string())
    }

    /// Address with A-labels, which every server accepts; a non-ASCII local part needs SMTPUTF8.
    pub(super) fn ascii_mailbox(&self) -> Mailbox {
        self.mailbox.to_ascii().unwrap_or_else(|| self.mailbox.clone())
    }
}

/// Returns the last component of the path, for a header.
pub(super) fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name =
        name.ok_or_else(|| Error::new(Exit::InvalidInput, format!("'{}' is not a file name", path.display())))?;
    check_single_line("a file name", &name)?;
    Ok(name)
}

/// Rejects control characters, which could end a line.
pub(super) fn check_single_line(label: &str, text: &str) -> Result<()> {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        let message = format!("{label} contains control characters: '{}'", text.escape_debug());
        return Err(Error::new(Exit::InvalidInput, message).expected("one line of text"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Person;

    fn person(text: &str) -> Person {
        text.parse().expect(text)
    }

    #[test]
    fn an_address_may_have_a_display_name() {
        assert_eq!(person("Jörg <j@x.test>").name.as_deref(), Some("Jörg"));
        assert_eq!(person("\"A, B\" <j@x.test>").name.as_deref(), Some("A, B"));
        assert_eq!(person("<j@x.test>").name, None);
        for wrong in ["", "j", "A <j@x.test", "A\r\nB <j@x.test>", "a@x, b@x", "a@x,", "A <b@x> c"] {
            assert!(wrong.parse::<Person>().is_err(), "{wrong:?}");
        }
    }
}
