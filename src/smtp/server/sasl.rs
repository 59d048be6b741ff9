//! Server side of SASL: PLAIN (RFC 4616), LOGIN and SCRAM-SHA-256 (RFC 5802, 7677).
//!
//! Owns the challenges and the verification of responses. It must not decide which mechanisms are offered
//! without TLS; `dialogue` does.
//!
//! ```text
//!   PLAIN          334 (empty) ◀ 0 user 0 password
//!   LOGIN          334 Username: ◀ user   334 Password: ◀ password
//!   SCRAM-SHA-256  334 (empty) ◀ n,,n=user,r=…   334 r=…,s=…,i=… ◀ c=biws,r=…,p=…   334 v=… ◀ (empty)
//! ```

use crate::mac::{hmac_sha256, sha256};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::auth::Mechanism;
use super::users::{PBKDF2_ITERATIONS, Users};

/// State of one authentication exchange.
pub(super) struct SaslServer {
    users: Arc<Users>,
    pub mechanism: Mechanism,
    /// User name; empty until the client has sent it.
    pub user: String,
    nonce: String,
    state: SaslState,
}

enum SaslState {
    Initial,
    /// LOGIN: the next response is the password.
    AwaitingPassword,
    /// SCRAM: client-first was received; the salted password is not derived yet.
    DerivingKey {
        gs2_header: String,
        client_first_bare: String,
    },
    /// SCRAM: the next response is client-final.
    AwaitingProof {
        gs2_header: String,
        client_first_bare: String,
        server_first: String,
    },
    /// SCRAM: authenticated; the client acknowledges server-final with an empty response.
    AwaitingEmptyResponse,
}

/// Next step after a response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SaslStep {
    /// Base64 of the next challenge.
    Challenge(String),
    /// The salted password must be derived by a job, followed by [`SaslServer::key_derived`].
    DeriveKey,
    /// Final result: authenticated or not.
    Finished(bool),
    /// The response does not follow the mechanism's syntax.
    Malformed,
}

impl SaslServer {
    /// Begins an exchange; `nonce` is fresh, printable and without a comma.
    pub(super) fn new(mechanism: Mechanism, users: Arc<Users>, nonce: String) -> Self {
        Self { users, mechanism, user: String::new(), nonce, state: SaslState::Initial }
    }

    /// Returns the first challenge.
    pub(super) fn initial_challenge(&self) -> String {
        if self.mechanism == Mechanism::Login { STANDARD.encode("Username:") } else { String::new() }
    }

    /// Processes a decoded response.
    pub(super) fn respond(&mut self, response: &[u8]) -> SaslStep {
        let Ok(text) = std::str::from_utf8(response) else { return SaslStep::Malformed };
        match (self.mechanism, std::mem::replace(&mut self.state, SaslState::Initial)) {
            (Mechanism::Plain, SaslState::Initial) => self.plain(text),
            (Mechanism::Login, SaslState::Initial) => {
                text.clone_into(&mut self.user);
                self.state = SaslState::AwaitingPassword;
                SaslStep::Challenge(STANDARD.encode("Password:"))
            }
            (Mechanism::Login, SaslState::AwaitingPassword) => {
                SaslStep::Finished(self.users.verify_password(&self.user, response))
            }
            (Mechanism::ScramSha256, SaslState::Initial) => self.scram_first(text).unwrap_or(SaslStep::Malformed),
            (
                Mechanism::ScramSha256,
                SaslState::AwaitingProof { gs2_header: header, client_first_bare: bare, server_first },
            ) => self.scram_final(text, &header, &bare, &server_first).unwrap_or(SaslStep::Malformed),
            (Mechanism::ScramSha256, SaslState::AwaitingEmptyResponse) if text.is_empty() => SaslStep::Finished(true),
            _ => SaslStep::Malformed,
        }
    }

    /// Returns the job that derives the salted password.
    pub(super) fn key_derivation_job(&self) -> impl FnOnce() + Send + 'static {
        let (users, name) = (Arc::clone(&self.users), self.user.clone());
        move || users.find(&name).derive_salted_password(&users.salt(&name))
    }

    /// Continues after the key derivation job.
    pub(super) fn key_derived(&mut self) -> SaslStep {
        let SaslState::DerivingKey { gs2_header: header, client_first_bare: bare } =
            std::mem::replace(&mut self.state, SaslState::Initial)
        else {
            return SaslStep::Malformed;
        };
        self.scram_challenge(header, bare)
    }

    fn plain(&mut self, text: &str) -> SaslStep {
        let mut parts = text.split('\0');
        let (Some(authority), Some(user), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return SaslStep::Malformed;
        };
        user.clone_into(&mut self.user);
        let is_self = authority.is_empty() || authority == user;
        SaslStep::Finished(self.users.verify_password(user, password.as_bytes()) && is_self)
    }

    fn scram_first(&mut self, text: &str) -> Option<SaslStep> {
        // `n` and `y`: no channel binding. `p=` would require it, and it is not offered.
        let (flag, rest) = text.split_once(',')?;
        let (authority, bare) = rest.split_once(',')?;
        let mut fields = bare.split(',');
        let (name, nonce) = (fields.next()?.strip_prefix("n=")?, fields.next()?.strip_prefix("r=")?);
        let is_printable = !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic());
        if !matches!(flag, "n" | "y") || !is_printable {
            return None;
        }
        let user = decode_saslname(name)?;
        let authzid = if authority.is_empty() { user.clone() } else { decode_saslname(authority.strip_prefix("a=")?)? };
        self.user = user;
        if authzid != self.user {
            // A different authorization identity is never permitted, as with PLAIN.
            return Some(SaslStep::Finished(false));
        }
        let (header, bare) = (format!("{flag},{authority},"), bare.to_owned());
        if self.users.find(&self.user).salted_password().is_none() {
            self.state = SaslState::DerivingKey { gs2_header: header, client_first_bare: bare };
            return Some(SaslStep::DeriveKey);
        }
        Some(self.scram_challenge(header, bare))
    }

    fn scram_challenge(&mut self, gs2_header: String, client_first_bare: String) -> SaslStep {
        let Some(client_nonce) =
            client_first_bare.split(',').nth(1).and_then(|field| field.strip_prefix("r=")).map(str::to_owned)
        else {
            return SaslStep::Malformed;
        };
        let salt = STANDARD.encode(self.users.salt(&self.user));
        let server_first = format!("r={client_nonce}{},s={salt},i={PBKDF2_ITERATIONS}", self.nonce);
        let challenge = STANDARD.encode(&server_first);
        self.state = SaslState::AwaitingProof { gs2_header, client_first_bare, server_first };
        SaslStep::Challenge(challenge)
    }

    fn scram_final(
        &mut self,
        text: &str,
        gs2_header: &str,
        client_first_bare: &str,
        server_first: &str,
    ) -> Option<SaslStep> {
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let nonce = server_first.split(',').next()?;
        if without_proof != format!("c={},{nonce}", STANDARD.encode(gs2_header)) {
            return None;
        }
        let proof = STANDARD.decode(proof).ok()?;
        let user = self.users.find(&self.user);
        let salted = user.salted_password()?;
        let stored = sha256(&hmac_sha256(salted, b"Client Key"));
        let message = format!("{client_first_bare},{server_first},{without_proof}");
        let signature = hmac_sha256(&stored, message.as_bytes());
        let key: Vec<u8> = proof.iter().zip(signature).map(|(proof, signature)| proof ^ signature).collect();
        if proof.len() != signature.len() || sha256(&key) != stored || !user.is_known() {
            return Some(SaslStep::Finished(false));
        }
        self.state = SaslState::AwaitingEmptyResponse;
        let ours = hmac_sha256(&hmac_sha256(salted, b"Server Key"), message.as_bytes());
        Some(SaslStep::Challenge(STANDARD.encode(format!("v={}", STANDARD.encode(ours)))))
    }
}

/// Decodes a saslname (RFC 5802 §7): `=2C` is a comma, `=3D` an equals sign, other escapes are invalid.
fn decode_saslname(saslname: &str) -> Option<String> {
    let mut pieces = saslname.split('=');
    let mut name = pieces.next()?.to_owned();
    for piece in pieces {
        let (escape, rest) = piece.split_at_checked(2)?;
        name.push(match escape {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        name.push_str(rest);
    }
    (!name.is_empty() && !name.contains('\0')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::{SaslServer, SaslStep};
    use crate::mac::Secret;
    use crate::smtp::auth::{ChallengeResponse, Mechanism, SaslClient as Client};
    use crate::smtp::server::users::Users;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use std::sync::Arc;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    fn users() -> Arc<Users> {
        Arc::new(Users::new([("t=i,m".to_owned(), secret("tea"))], secret("pepper")))
    }

    /// Authenticates our client against our server.
    fn log_in(mechanism: Mechanism, user: &str, password: &str) -> bool {
        let mut client = Client::new(mechanism, user, &secret(password), "cnonce");
        let mut server = SaslServer::new(mechanism, users(), "snonce".to_owned());
        let mut line = client.initial_response(usize::MAX);
        loop {
            let mut next = match line.take() {
                Some(line) => server.respond(&STANDARD.decode(line.expose()).expect("base64")),
                None => SaslStep::Challenge(server.initial_challenge()),
            };
            if next == SaslStep::DeriveKey {
                server.key_derivation_job()();
                next = server.key_derived();
            }
            match next {
                SaslStep::Challenge(challenge) => match client.evaluate_challenge(&challenge) {
                    ChallengeResponse::Line(response) => line = Some(response),
                    ChallengeResponse::Cancel(reason) => panic!("{reason}"),
                },
                SaslStep::Finished(is_authenticated) => return is_authenticated && client.may_accept_success(),
                SaslStep::DeriveKey | SaslStep::Malformed => panic!("{next:?}"),
            }
        }
    }

    #[test]
    fn our_client_authenticates_only_with_the_correct_password() {
        for mechanism in [Mechanism::Plain, Mechanism::Login, Mechanism::ScramSha256] {
            assert!(log_in(mechanism, "t=i,m", "tea"), "{mechanism:?}");
            assert!(!log_in(mechanism, "t=i,m", "coffee"), "{mechanism:?}");
            assert!(!log_in(mechanism, "tim", "tea"), "{mechanism:?}");
        }
    }

    #[test]
    fn invalid_responses_are_malformed() {
        let respond = |mechanism, text: &[u8]| SaslServer::new(mechanism, users(), "s".to_owned()).respond(text);
        for text in [&b""[..], b"a", b"\0a", b"\0a\0b\0c", b"\xff"] {
            assert_eq!(respond(Mechanism::Plain, text), SaslStep::Malformed, "{text:?}");
        }
        for text in [
            &b""[..],
            b"n",
            b"n,,",
            b"n,,r=x",
            b"p=tls-exporter,,n=x,r=x",
            b"n,,n=x,r=",
            b"n,,n=x,r=a b",
            b"n,,n=x,r=\xc3\xbc",
            b"n,,n=,r=x",
            b"n,,n=x=ZZ,r=x",
            b"n,,n=x=,r=x",
        ] {
            assert_eq!(respond(Mechanism::ScramSha256, text), SaslStep::Malformed, "{text:?}");
        }
        assert_eq!(respond(Mechanism::ScramSha256, b"n,a=other,n=x,r=x"), SaslStep::Finished(false));
        assert_eq!(respond(Mechanism::ScramSha256, b"n,a=t=3Di=2Cm,n=t=3Di=2Cm,r=x"), SaslStep::DeriveKey);
    }

    #[test]
    fn a_proof_for_another_challenge_is_malformed() {
        let mut server = SaslServer::new(Mechanism::ScramSha256, users(), "s".to_owned());
        assert_eq!(server.respond(b"n,,n=t=3Di=2Cm,r=c"), SaslStep::DeriveKey);
        server.key_derivation_job()();
        assert!(matches!(server.key_derived(), SaslStep::Challenge(_)));
        assert_eq!(server.respond(b"c=biws,r=other,p=AAAA"), SaslStep::Malformed);
    }
}
