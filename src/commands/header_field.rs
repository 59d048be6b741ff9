//! Header field of the command line, `Name: value`.

use std::str::FromStr;

use crate::http::{is_field_value, is_token};

/// Header field of `-H`.
#[derive(Clone, Debug)]
pub(super) struct HeaderField {
    pub name: String,
    pub value: String,
}

impl FromStr for HeaderField {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once(':').ok_or("expected 'Name: value'")?;
        let value = value.trim_matches([' ', '\t']);
        if !is_token(name.as_bytes()) {
            return Err("expected 'Name: value', with a name of letters, digits and hyphens".to_owned());
        }
        if !is_field_value(value.as_bytes()) {
            return Err("expected 'Name: value' without control characters".to_owned());
        }
        if ["content-length", "transfer-encoding", "connection"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return Err("it frames the message, so netlab sets it".to_owned());
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}
