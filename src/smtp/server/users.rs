//! Who may log in.
//!
//! Owns the users of `--auth-file` and the question whether a password is theirs. What SCRAM needs of a
//! password is derived when it is first asked for: on purpose that takes long (RFC 5802 §2.2), so it
//! is a job.

use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

use super::super::scram;
use crate::mac::Secret;

/// The iterations of PBKDF2; RFC 7677 §4 wants at least so many.
pub(super) const PBKDF2_ITERATIONS: u32 = 4096;

/// A user.
pub(crate) struct User {
    name: String,
    secret: Secret,
    salted_password: OnceLock<[u8; 32]>,
    /// Whether there is such a user; for others the same is done, and nobody gets in.
    is_known: bool,
}

/// All users.
pub(crate) struct Users {
    users: Vec<User>,
    unknown_user: User,
    /// Makes the salts, so that a name which does not exist has one too and always the same.
    pepper: Secret,
}

impl Users {
    /// These users; `pepper` is fresh chance.
    pub(crate) fn new(users: impl IntoIterator<Item = (String, Secret)>, pepper: Secret) -> Self {
        let user = |name, secret, is_known| User { name, secret, salted_password: OnceLock::new(), is_known };
        Self {
            users: users.into_iter().map(|(name, secret)| user(name, secret, true)).collect(),
            unknown_user: user(String::new(), pepper.clone(), false),
            pepper,
        }
    }

    /// The user of this name, or nobody.
    pub(crate) fn find(&self, name: &str) -> &User {
        self.users.iter().find(|user| user.name == name).unwrap_or(&self.unknown_user)
    }

    /// The salt of a name.
    pub(crate) fn salt(&self, name: &str) -> [u8; 16] {
        let whole = scram::hmac_sha256(self.pepper.expose(), name.as_bytes());
        std::array::from_fn(|at| whole.get(at).copied().unwrap_or_default())
    }

    /// Whether the user has this password. How long it takes says nothing about how much of it is right.
    pub(crate) fn verify_password(&self, name: &str, password: &[u8]) -> bool {
        let user = self.find(name);
        let (ours, theirs) = (Sha256::digest(user.secret.expose()), Sha256::digest(password));
        let differing = ours.iter().zip(theirs.iter()).fold(0, |sum, (one, other)| sum | (one ^ other));
        differing == 0 && user.is_known
    }
}

impl User {
    /// Whether there is such a user.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known
    }

    /// The salted password, if it was derived already. Nobody's is nobody's business.
    pub(crate) fn salted_password(&self) -> Option<&[u8; 32]> {
        self.salted_password.get()
    }

    /// Derives it.
    pub(crate) fn derive_salted_password(&self, salt: &[u8]) {
        self.salted_password.get_or_init(|| scram::salt_password(self.secret.expose(), salt, PBKDF2_ITERATIONS));
    }
}

#[cfg(test)]
mod tests {
    use super::Users;
    use crate::mac::Secret;

    #[test]
    fn only_the_right_password_of_a_known_user_is_taken() {
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
