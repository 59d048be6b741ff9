//! A login, as the server sees it.
//!
//! Owns the mechanisms PLAIN (RFC 4616), LOGIN and SCRAM-SHA-256 (RFC 5802, 7677): what is asked next and
//! whether it was right. It must not decide what may be offered on a clear line; the dialogue does.
//!
//! ```text
//!   PLAIN          334 (empty) ◀ 0 user 0 password
//!   LOGIN          334 Username: ◀ user   334 Password: ◀ password
//!   SCRAM-SHA-256  334 (empty) ◀ n,,n=user,r=…   334 r=…,s=…,i=… ◀ c=biws,r=…,p=…   334 v=… ◀ (empty)
//! ```

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::super::auth::Mechanism;
use super::super::scram::mac;
use super::users::{ITERATIONS, Users};

/// A login under way.
pub struct Login {
    users: Arc<Users>,
    /// How.
    pub mechanism: Mechanism,
    /// As whom, once it was said.
    pub user: String,
    nonce: String,
    stage: Step,
}

enum Step {
    Begun,
    /// LOGIN: the password is next.
    Named,
    /// SCRAM: the client's first message came, and the password is not derived yet.
    Underived {
        header: String,
        bare: String,
    },
    /// SCRAM: the proof is next.
    Challenged {
        header: String,
        bare: String,
        server_first: String,
    },
    /// SCRAM: it was right; the client only has to say that it heard so.
    Proved,
}

/// What follows a response.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A challenge, in base64.
    Challenge(String),
    /// The password has to be derived, which is a job; then [`Login::derived`].
    Derive,
    /// It was right, or not.
    Verdict(bool),
    /// It was nothing that the mechanism knows.
    Malformed,
}

impl Login {
    /// Begins one; `nonce` is fresh chance, printable and without a comma.
    pub fn new(mechanism: Mechanism, users: Arc<Users>, nonce: String) -> Self {
        Self { users, mechanism, user: String::new(), nonce, stage: Step::Begun }
    }

    /// What is asked first.
    pub fn prompt(&self) -> String {
        if self.mechanism == Mechanism::Login { STANDARD.encode("Username:") } else { String::new() }
    }

    /// A response came, decoded.
    pub fn respond(&mut self, response: &[u8]) -> Next {
        let Ok(text) = std::str::from_utf8(response) else { return Next::Malformed };
        match (self.mechanism, std::mem::replace(&mut self.stage, Step::Begun)) {
            (Mechanism::Plain, Step::Begun) => self.plain(text),
            (Mechanism::Login, Step::Begun) => {
                text.clone_into(&mut self.user);
                self.stage = Step::Named;
                Next::Challenge(STANDARD.encode("Password:"))
            }
            (Mechanism::Login, Step::Named) => Next::Verdict(self.users.admits(&self.user, response)),
            (Mechanism::ScramSha256, Step::Begun) => self.scram_first(text).unwrap_or(Next::Malformed),
            (Mechanism::ScramSha256, Step::Challenged { header, bare, server_first }) => {
                self.scram_final(text, &header, &bare, &server_first).unwrap_or(Next::Malformed)
            }
            (Mechanism::ScramSha256, Step::Proved) if text.is_empty() => Next::Verdict(true),
            _ => Next::Malformed,
        }
    }

    /// The job that derives the password's key.
    pub fn derivation(&self) -> impl FnOnce() + Send + 'static {
        let (users, name) = (Arc::clone(&self.users), self.user.clone());
        move || users.find(&name).derive(&users.salt(&name))
    }

    /// It is derived.
    pub fn derived(&mut self) -> Next {
        let Step::Underived { header, bare } = std::mem::replace(&mut self.stage, Step::Begun) else {
            return Next::Malformed;
        };
        self.challenge(header, bare)
    }

    fn plain(&mut self, text: &str) -> Next {
        let mut parts = text.split('\0');
        let (Some(authority), Some(user), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Next::Malformed;
        };
        user.clone_into(&mut self.user);
        let is_own = authority.is_empty() || authority == user;
        Next::Verdict(self.users.admits(user, password.as_bytes()) && is_own)
    }

    fn scram_first(&mut self, text: &str) -> Option<Next> {
        // `n` and `y`: the client binds no channel. `p=` would want one, which is not offered.
        let (flag, rest) = text.split_once(',')?;
        let (authority, bare) = rest.split_once(',')?;
        let mut fields = bare.split(',');
        let (name, nonce) = (fields.next()?.strip_prefix("n=")?, fields.next()?.strip_prefix("r=")?);
        let is_printable = !nonce.is_empty() && nonce.bytes().all(|octet| octet.is_ascii_graphic());
        if !matches!(flag, "n" | "y") || !is_printable {
            return None;
        }
        let user = name_of(name)?;
        let acts_as = if authority.is_empty() { user.clone() } else { name_of(authority.strip_prefix("a=")?)? };
        self.user = user;
        if acts_as != self.user {
            // For another nobody acts here, as with PLAIN.
            return Some(Next::Verdict(false));
        }
        let (header, bare) = (format!("{flag},{authority},"), bare.to_owned());
        if self.users.find(&self.user).salted().is_none() {
            self.stage = Step::Underived { header, bare };
            return Some(Next::Derive);
        }
        Some(self.challenge(header, bare))
    }

    fn challenge(&mut self, header: String, bare: String) -> Next {
        let Some(client) = bare.split(',').nth(1).and_then(|field| field.strip_prefix("r=")).map(str::to_owned) else {
            return Next::Malformed;
        };
        let salt = STANDARD.encode(self.users.salt(&self.user));
        let server_first = format!("r={client}{},s={salt},i={ITERATIONS}", self.nonce);
        let challenge = STANDARD.encode(&server_first);
        self.stage = Step::Challenged { header, bare, server_first };
        Next::Challenge(challenge)
    }

    fn scram_final(&mut self, text: &str, header: &str, bare: &str, server_first: &str) -> Option<Next> {
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let nonce = server_first.split(',').next()?;
        if without_proof != format!("c={},{nonce}", STANDARD.encode(header)) {
            return None;
        }
        let proof = STANDARD.decode(proof).ok()?;
        let user = self.users.find(&self.user);
        let salted = user.salted()?;
        let stored = Sha256::digest(mac(salted, b"Client Key"));
        let message = format!("{bare},{server_first},{without_proof}");
        let signature = mac(&stored, message.as_bytes());
        let key: Vec<u8> = proof.iter().zip(signature).map(|(proof, signature)| proof ^ signature).collect();
        if proof.len() != signature.len() || Sha256::digest(key) != stored || !user.is_known() {
            return Some(Next::Verdict(false));
        }
        self.stage = Step::Proved;
        let ours = mac(&mac(salted, b"Server Key"), message.as_bytes());
        Some(Next::Challenge(STANDARD.encode(format!("v={}", STANDARD.encode(ours)))))
    }
}

/// The name behind a saslname (RFC 5802 §7): a comma is `=2C` in it, an equals sign `=3D`, and nothing else
/// has a sign in front.
fn name_of(saslname: &str) -> Option<String> {
    let mut pieces = saslname.split('=');
    let mut name = pieces.next()?.to_owned();
    for piece in pieces {
        let (sign, rest) = piece.split_at_checked(2)?;
        name.push(match sign {
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
    use super::{Login, Next};
    use crate::smtp::auth::{Answer, Login as Client, Mechanism};
    use crate::smtp::secret::Secret;
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

    /// Our own client against this side.
    fn verdict(mechanism: Mechanism, user: &str, password: &str) -> bool {
        let mut client = Client::new(mechanism, user, &secret(password), "cnonce");
        let mut server = Login::new(mechanism, users(), "snonce".to_owned());
        let mut line = client.opening(usize::MAX);
        loop {
            let mut next = match line.take() {
                Some(line) => server.respond(&STANDARD.decode(line.expose()).expect("base64")),
                None => Next::Challenge(server.prompt()),
            };
            if next == Next::Derive {
                server.derivation()();
                next = server.derived();
            }
            match next {
                Next::Challenge(challenge) => match client.answer(&challenge) {
                    Answer::Line(answer) => line = Some(answer),
                    Answer::Cancel(why) => panic!("{why}"),
                },
                Next::Verdict(verdict) => return verdict && client.may_succeed(),
                Next::Derive | Next::Malformed => panic!("{next:?}"),
            }
        }
    }

    #[test]
    fn our_client_gets_in_with_the_right_password_and_with_no_other() {
        for mechanism in [Mechanism::Plain, Mechanism::Login, Mechanism::ScramSha256] {
            assert!(verdict(mechanism, "t=i,m", "tea"), "{mechanism:?}");
            assert!(!verdict(mechanism, "t=i,m", "coffee"), "{mechanism:?}");
            assert!(!verdict(mechanism, "tim", "tea"), "{mechanism:?}");
        }
    }

    #[test]
    fn what_is_no_response_is_malformed() {
        let respond = |mechanism, text: &[u8]| Login::new(mechanism, users(), "s".to_owned()).respond(text);
        for text in [&b""[..], b"a", b"\0a", b"\0a\0b\0c", b"\xff"] {
            assert_eq!(respond(Mechanism::Plain, text), Next::Malformed, "{text:?}");
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
            assert_eq!(respond(Mechanism::ScramSha256, text), Next::Malformed, "{text:?}");
        }
        assert_eq!(respond(Mechanism::ScramSha256, b"n,a=other,n=x,r=x"), Next::Verdict(false));
        assert_eq!(respond(Mechanism::ScramSha256, b"n,a=t=3Di=2Cm,n=t=3Di=2Cm,r=x"), Next::Derive);
    }

    #[test]
    fn a_proof_for_another_challenge_is_none() {
        let mut server = Login::new(Mechanism::ScramSha256, users(), "s".to_owned());
        assert_eq!(server.respond(b"n,,n=t=3Di=2Cm,r=c"), Next::Derive);
        server.derivation()();
        assert!(matches!(server.derived(), Next::Challenge(_)));
        assert_eq!(server.respond(b"c=biws,r=other,p=AAAA"), Next::Malformed);
    }
}
