//! SCRAM-SHA-256.
//!
//! Owns the arithmetic of RFC 5802 and RFC 7677, and the dialogue of the client: the password stays here, and the server has to prove
//! that it knows it too. Without channel binding (`n,,`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::secret::Secret;

/// Fewer make a stolen answer cheap to try passwords on (RFC 7677 §4).
const LEAST: u32 = 4096;
/// More only keep us busy.
const MOST: u32 = 1_000_000;

/// One side's dialogue.
pub struct Scram {
    /// `n=user,r=nonce`.
    bare: String,
    nonce: String,
    secret: Secret,
    expected: Option<[u8; 32]>,
    proved: bool,
}

impl Scram {
    /// Begins it with fresh chance: printable ASCII without a comma.
    pub fn new(user: &str, secret: &Secret, nonce: &str) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={user},r={nonce}");
        Self { bare, nonce: nonce.to_owned(), secret: secret.clone(), expected: None, proved: false }
    }

    /// The client's first message.
    pub fn first(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// The client's last message, or why the server's first one is not answered.
    pub fn last(&mut self, server_first: &[u8]) -> Result<String, &'static str> {
        let text = std::str::from_utf8(server_first).map_err(|_| "a challenge that is not text")?;
        let field = |name: &str| text.split(',').find_map(|field| field.strip_prefix(name));
        let (nonce, salt, count) = (field("r="), field("s="), field("i="));
        let (Some(nonce), Some(salt), Some(count)) = (nonce, salt, count) else {
            return Err("a challenge without nonce, salt or count");
        };
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() || text.starts_with("m=") {
            return Err("a challenge that belongs to another login");
        }
        let salt = STANDARD.decode(salt).map_err(|_| "a salt that is not base64")?;
        let count = count.parse().ok().filter(|count| (LEAST..=MOST).contains(count));
        let count = count.ok_or("an iteration count below 4096 or above a million")?;
        let salted = salted(self.secret.expose(), &salt, count);
        // `biws` is `n,,`: no channel binding.
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{text},{without_proof}", self.bare);
        let client_key = mac(&salted, b"Client Key");
        let signature = mac(&Sha256::digest(client_key), message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
        self.expected = Some(mac(&mac(&salted, b"Server Key"), message.as_bytes()));
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    /// Whether the server's last message proves that it knows the password.
    pub fn is_server(&mut self, server_last: &[u8]) -> bool {
        let signature = server_last.strip_prefix(b"v=").and_then(|signature| STANDARD.decode(signature).ok());
        self.proved = signature.is_some_and(|signature| self.expected.is_some_and(|expected| signature == expected));
        self.proved
    }

    /// Whether it has.
    pub fn is_proved(&self) -> bool {
        self.proved
    }
}

/// `Hi(password, salt, i)` (RFC 5802 §2.2).
pub(super) fn salted(password: &[u8], salt: &[u8], count: u32) -> [u8; 32] {
    let mut salted = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, count, &mut salted);
    salted
}

/// HMAC-SHA-256.
pub(super) fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.chain_update(message).finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::Scram;
    use crate::smtp::secret::Secret;

    const FIRST: &[u8] = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn scram() -> Scram {
        Scram::new("user", &Secret::new(b"pencil".to_vec()), "rOprNGfwEbeRWgbNEkqO")
    }

    #[test]
    fn the_dialogue_is_the_example_of_rfc_7677() {
        let mut scram = scram();
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let last = scram.last(FIRST).expect("well-formed");
        assert_eq!(
            last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(!scram.is_server(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="));
        assert!(scram.is_server(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") && scram.is_proved());
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
            assert!(scram().last(wrong).is_err(), "{wrong:?}");
        }
    }
}
