//! SCRAM-SHA-256.
//!
//! Owns the arithmetic of RFC 5802 and RFC 7677, and the dialogue of the client: the password stays here, and the server has to prove
//! that it knows it too. Without channel binding (`n,,`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::mac::Secret;

/// Fewer make a stolen answer cheap to try passwords on (RFC 7677 §4).
const MIN_ITERATIONS: u32 = 4096;
/// More only keep us busy.
const MAX_ITERATIONS: u32 = 1_000_000;

/// One side's dialogue.
pub(super) struct ScramClient {
    /// `n=user,r=nonce`.
    client_first_bare: String,
    client_nonce: String,
    secret: Secret,
    server_signature: Option<[u8; 32]>,
    is_server_verified: bool,
}

impl ScramClient {
    /// Begins it with fresh chance: printable ASCII without a comma.
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

    /// The client's first message.
    pub(super) fn client_first(&self) -> String {
        format!("n,,{}", self.client_first_bare)
    }

    /// The client's last message, or why the server's first one is not answered.
    pub(super) fn client_final(&mut self, server_first: &[u8]) -> Result<String, &'static str> {
        let text = std::str::from_utf8(server_first).map_err(|_| "a challenge that is not text")?;
        let field = |name: &str| text.split(',').find_map(|field| field.strip_prefix(name));
        let (nonce, salt, count) = (field("r="), field("s="), field("i="));
        let (Some(nonce), Some(salt), Some(count)) = (nonce, salt, count) else {
            return Err("a challenge without nonce, salt or count");
        };
        if !nonce.starts_with(&self.client_nonce) || nonce.len() == self.client_nonce.len() || text.starts_with("m=") {
            return Err("a challenge that belongs to another login");
        }
        let salt = STANDARD.decode(salt).map_err(|_| "a salt that is not base64")?;
        let count = count.parse().ok().filter(|count| (MIN_ITERATIONS..=MAX_ITERATIONS).contains(count));
        let count = count.ok_or("an iteration count below 4096 or above a million")?;
        let salted = salt_password(self.secret.expose(), &salt, count);
        // `biws` is `n,,`: no channel binding.
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{text},{without_proof}", self.client_first_bare);
        let client_key = hmac_sha256(&salted, b"Client Key");
        let signature = hmac_sha256(&Sha256::digest(client_key), message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
        self.server_signature = Some(hmac_sha256(&hmac_sha256(&salted, b"Server Key"), message.as_bytes()));
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    /// Whether the server's last message proves that it knows the password.
    pub(super) fn verify_server(&mut self, server_final: &[u8]) -> bool {
        let signature = server_final.strip_prefix(b"v=").and_then(|signature| STANDARD.decode(signature).ok());
        self.is_server_verified =
            signature.is_some_and(|signature| self.server_signature.is_some_and(|expected| signature == expected));
        self.is_server_verified
    }

    /// Whether it has.
    pub(super) fn is_server_verified(&self) -> bool {
        self.is_server_verified
    }
}

/// `Hi(password, salt, i)` (RFC 5802 §2.2).
pub(super) fn salt_password(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut salted = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted);
    salted
}

/// HMAC-SHA-256.
pub(super) fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.chain_update(message).finalize().into_bytes().into()
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
    fn the_dialogue_is_the_example_of_rfc_7677() {
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
    fn a_server_that_asks_for_little_or_for_another_login_is_not_answered() {
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
