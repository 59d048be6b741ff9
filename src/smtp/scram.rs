//! SCRAM-SHA-256 of the client (RFC 5802, RFC 7677), without channel binding (`n,,`).
//!
//! Owns the cryptography and the client's messages. The password is never sent, and the server must prove knowledge
//! of it.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::mac::{Secret, hmac_sha256, sha256};

/// Fewer iterations make an offline attack on a recorded proof cheap (RFC 7677 §4).
const MIN_ITERATIONS: u32 = 4096;
/// Limit on the work that a server can ask for.
const MAX_ITERATIONS: u32 = 1_000_000;

/// State of one login.
pub(super) struct ScramClient {
    client_first_bare: String,
    client_nonce: String,
    secret: Secret,
    server_signature: Option<[u8; 32]>,
    is_server_verified: bool,
}

impl ScramClient {
    /// Starts a login; `nonce` is random printable ASCII without a comma.
    pub(super) fn new(user: &str, secret: &Secret, nonce: &str) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={user},r={nonce}");
        Self {
            client_first_bare: bare,
            client_nonce: nonce.to_owned(),
            secret: secret.clone(),
            server_signature: None,
            is_server_verified: false,
        }
    }

    pub(super) fn client_first(&self) -> String {
        format!("n,,{}", self.client_first_bare)
    }

    /// Returns the client's final message, or the reason to reject the server's first one.
    pub(super) fn client_final(&mut self, server_first: &[u8]) -> Result<String, &'static str> {
        let text = std::str::from_utf8(server_first).map_err(|_| "the challenge is not UTF-8")?;
        let field = |name: &str| text.split(',').find_map(|field| field.strip_prefix(name));
        let (nonce, salt, count) = (field("r="), field("s="), field("i="));
        let (Some(nonce), Some(salt), Some(count)) = (nonce, salt, count) else {
            return Err("the challenge has no nonce, salt or iteration count");
        };
        if !nonce.starts_with(&self.client_nonce) || nonce.len() == self.client_nonce.len() || text.starts_with("m=") {
            return Err("the challenge has a foreign nonce or an unknown extension");
        }
        let salt = STANDARD.decode(salt).map_err(|_| "the salt is not base64")?;
        let count = count.parse().ok().filter(|count| (MIN_ITERATIONS..=MAX_ITERATIONS).contains(count));
        let count = count.ok_or("the iteration count is below 4096 or above 1000000")?;
        let salted = salt_password(self.secret.expose(), &salt, count);
        // `biws` is `n,,`: no channel binding.
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{text},{without_proof}", self.client_first_bare);
        let client_key = hmac_sha256(&salted, b"Client Key");
        let signature = hmac_sha256(&sha256(&client_key), message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
        self.server_signature = Some(hmac_sha256(&hmac_sha256(&salted, b"Server Key"), message.as_bytes()));
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    /// Checks the server's final message, which proves that it knows the password.
    pub(super) fn verify_server(&mut self, server_final: &[u8]) -> bool {
        let signature = server_final.strip_prefix(b"v=").and_then(|signature| STANDARD.decode(signature).ok());
        self.is_server_verified =
            signature.is_some_and(|signature| self.server_signature.is_some_and(|expected| signature == expected));
        self.is_server_verified
    }

    pub(super) fn is_server_verified(&self) -> bool {
        self.is_server_verified
    }
}

/// `Hi(password, salt, i)` (RFC 5802 §2.2).
pub(super) fn salt_password(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut salted = [0; 32];
    let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, &mut salted);
    salted
}

#[cfg(test)]
mod tests {
    use super::ScramClient;
    use crate::mac::Secret;

    const SERVER_FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn scram() -> ScramClient {
        ScramClient::new("user", &Secret::new(b"pencil".to_vec()), "rOprNGfwEbeRWgbNEkqO")
    }

    #[test]
    fn the_messages_match_the_example_of_rfc_7677() {
        let mut scram = scram();
        assert_eq!(scram.client_first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let last = scram.client_final(SERVER_FIRST).expect("well-formed");
        assert_eq!(
            last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(!scram.verify_server(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="));
        assert!(scram.verify_server(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") && scram.is_server_verified());
    }

    #[test]
    fn a_weak_or_foreign_challenge_is_rejected() {
        for wrong in [
            &b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"[..],
            b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=!,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4095",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1000001",
            b"r=rOprNGfwEbeRWgbNEkqOx,i=4096",
            b"\xff",
            b"",
        ] {
            assert!(scram().client_final(wrong).is_err(), "{wrong:?}");
        }
    }
}
