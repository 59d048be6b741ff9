//! Basic authentication of a server (RFC 7617).
//!
//! Owns the syntax of the credentials and their comparison in constant time. Passwords are kept as hashes.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::field_lines::FieldLines;
use crate::mac::{Secret, sha256};

/// Value of WWW-Authenticate.
pub(crate) const BASIC_CHALLENGE: &str = "Basic realm=\"netlab\", charset=\"UTF-8\"";

/// Hashes of the credentials `user:password`.
#[derive(Clone)]
pub(crate) struct BasicUsers(Vec<[u8; 32]>);

impl BasicUsers {
    pub(crate) fn new<'u>(users: impl IntoIterator<Item = (&'u str, &'u Secret)>) -> Self {
        let hash = |(user, password): (&str, &Secret)| {
            sha256(Secret::new([user.as_bytes(), b":", password.expose()].concat()).expose())
        };
        Self(users.into_iter().map(hash).collect())
    }

    /// Returns whether a request has the credentials of a user.
    pub(crate) fn authenticate(&self, fields: FieldLines<'_>) -> bool {
        let Some(encoded) = fields.single("authorization").and_then(credentials) else { return false };
        let Ok(decoded) = BASE64_STANDARD.decode(encoded).map(Secret::new) else { return false };
        let hash = sha256(decoded.expose());
        // All are compared, so that the time does not depend on which one is right.
        self.0.iter().fold(false, |found, known| found | verify_slices_are_equal(known, &hash).is_ok())
    }
}

/// Credentials after the scheme, which is case-insensitive.
fn credentials(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"Basic ".len())?;
    scheme.eq_ignore_ascii_case(b"Basic ").then(|| rest.trim_ascii_start())
}

#[cfg(test)]
mod tests {
    use super::{BasicUsers, FieldLines};
    use crate::mac::Secret;

    #[test]
    fn only_the_credentials_of_a_user_are_accepted() {
        let (open, other) = (Secret::new(b"open:sesame".to_vec()), Secret::new(b"x".to_vec()));
        let users = BasicUsers::new([("Aladdin", &open), ("tim", &other)]);
        let accepts =
            |value: &str| users.authenticate(FieldLines::new(format!("Authorization: {value}\r\n\r\n").as_bytes()));
        assert!(accepts("Basic QWxhZGRpbjpvcGVuOnNlc2FtZQ==") && accepts("basic  dGltOng="));
        for wrong in [
            "",
            "Basic",
            "Basic ",
            "Bearer dGltOng=",
            "Basic dGltOnk=",
            "Basic dGlt",
            "Basic dGltOng",
            "Basic dGltOng=!",
            "Basic dGltOng=\r\nAuthorization: Basic dGltOng=",
        ] {
            assert!(!accepts(wrong), "{wrong}");
        }
    }
}
