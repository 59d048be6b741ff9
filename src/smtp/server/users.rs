//! User database of `--auth-file`.
//!
//! Owns password verification and the salted passwords for SCRAM. Key derivation is slow by design
//! (RFC 5802 §2.2), so it runs as a job at the first login of each user.

use std::sync::OnceLock;

use super::super::scram;
use crate::mac::{Secret, hmac_sha256, sha256};

/// PBKDF2 iteration count, the minimum of RFC 7677 §4.
pub(super) const PBKDF2_ITERATIONS: u32 = 4096;

pub(crate) struct User {
    name: String,
    secret: Secret,
    salted_password: OnceLock<[u8; 32]>,
    /// False for the placeholder that stands for every unknown name: it takes the same steps, but never
    /// authenticates, so that a client cannot probe for user names.
    is_known: bool,
}

pub(crate) struct Users {
    users: Vec<User>,
    unknown_user: User,
    /// Key of the salts: an unknown name gets a salt too, and always the same.
    pepper: Secret,
}

impl Users {
    /// Creates the database; `pepper` is fresh random data.
    pub(crate) fn new(users: impl IntoIterator<Item = (String, Secret)>, pepper: Secret) -> Self {
        let user = |name, secret, is_known| User { name, secret, salted_password: OnceLock::new(), is_known };
        Self {
            users: users.into_iter().map(|(name, secret)| user(name, secret, true)).collect(),
            unknown_user: user(String::new(), pepper.clone(), false),
            pepper,
        }
    }

    /// Returns the user, or a placeholder that never authenticates.
    pub(crate) fn find(&self, name: &str) -> &User {
        self.users.iter().find(|user| user.name == name).unwrap_or(&self.unknown_user)
    }

    pub(crate) fn salt(&self, name: &str) -> [u8; 16] {
        let whole = hmac_sha256(self.pepper.expose(), name.as_bytes());
        std::array::from_fn(|at| whole.get(at).copied().unwrap_or_default())
    }

    /// Verifies a password in constant time.
    pub(crate) fn verify_password(&self, name: &str, password: &[u8]) -> bool {
        let user = self.find(name);
        let (ours, theirs) = (sha256(user.secret.expose()), sha256(password));
        let differing = ours.iter().zip(theirs.iter()).fold(0, |sum, (one, other)| sum | (one ^ other));
        differing == 0 && user.is_known
    }
}

impl User {
    pub(crate) fn is_known(&self) -> bool {
        self.is_known
    }

    /// Returns the salted password if it is derived already.
    pub(crate) fn salted_password(&self) -> Option<&[u8; 32]> {
        self.salted_password.get()
    }

    pub(crate) fn derive_salted_password(&self, salt: &[u8]) {
        self.salted_password.get_or_init(|| scram::salt_password(self.secret.expose(), salt, PBKDF2_ITERATIONS));
    }
}

#[cfg(test)]
mod tests {
    use super::Users;
    use crate::mac::Secret;

    #[test]
    fn only_the_correct_password_of_a_known_user_is_accepted() {
        let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
        let users = Users::new([("tim".to_owned(), secret("tea"))], secret("pepper"));
        assert!(users.verify_password("tim", b"tea"));
        for (name, password) in [("tim", "te"), ("tim", ""), ("tim", "Tea"), ("Tim", "tea"), ("", "pepper"), ("x", "")]
        {
            assert!(!users.verify_password(name, password.as_bytes()), "{name} {password}");
        }
        assert_eq!(users.salt("x"), users.salt("x"));
        assert_ne!(users.salt("x"), users.salt("tim"));
    }
}
