//! Logging in.
//!
//! Owns the mechanisms: what is said first, and what to each challenge. It must not decide whether the
//! line is safe enough; the dialogue does.
//!
//! ```text
//!   PLAIN         AUTH PLAIN <0 user 0 password>                     235   RFC 4616
//!   LOGIN         AUTH LOGIN   334 ▶ user   334 ▶ password           235   no standard
//!   XOAUTH2       AUTH XOAUTH2 <user= auth=Bearer>                   235, or 334 ▶ (empty line) 535
//!   SCRAM-SHA-256 AUTH … <client first> 334 ▶ <client final> 334 ▶ (empty line) 235   RFC 5802, 7677
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::scram::Scram;
use super::secret::Secret;
use crate::error::Error;
use crate::exit::Exit;

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// The password is never sent, and the server must know it too.
    ScramSha256,
    /// User and password in one line.
    Plain,
    /// User and password, asked one after the other.
    Login,
    /// An OAuth 2.0 access token in place of the password.
    Xoauth2,
}

impl std::str::FromStr for Mechanism {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let all = [Self::ScramSha256, Self::Plain, Self::Login, Self::Xoauth2];
        all.into_iter().find(|mechanism| mechanism.word().eq_ignore_ascii_case(text)).ok_or_else(|| {
            Error::new(Exit::Usage, format!("{text} is no way to log in that netlab knows"))
                .expected("SCRAM-SHA-256, PLAIN, LOGIN or XOAUTH2")
        })
    }
}

impl Mechanism {
    /// Those that take a password, the strongest first.
    const BY_STRENGTH: [Self; 3] = [Self::ScramSha256, Self::Plain, Self::Login];

    /// Its name in EHLO and AUTH.
    pub fn word(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::Xoauth2 => "XOAUTH2",
        }
    }

    /// The strongest of those a server offers that takes a password.
    pub fn strongest(offered: &[String]) -> Option<Self> {
        Self::BY_STRENGTH.into_iter().find(|mechanism| mechanism.is_offered(offered))
    }

    /// Whether a server offers it; names are compared without case (RFC 4954 §4).
    pub fn is_offered(self, offered: &[String]) -> bool {
        offered.iter().any(|word| word.eq_ignore_ascii_case(self.word()))
    }
}

/// What a challenge is answered with.
pub enum Answer {
    /// These octets, in base64: they may be the password.
    Line(Secret),
    /// Nothing more: the server asks for what nobody has.
    Cancel(&'static str),
}

/// A login under way.
pub struct Login {
    mechanism: Mechanism,
    user: String,
    secret: Secret,
    scram: Option<Scram>,
    round: u8,
    /// Whether the initial response is still to be sent, in answer to an empty challenge.
    is_first_due: bool,
}

impl Login {
    /// Begins one; `nonce` is fresh chance.
    pub fn new(mechanism: Mechanism, user: &str, secret: &Secret, nonce: &str) -> Self {
        let scram = (mechanism == Mechanism::ScramSha256).then(|| Scram::new(user, secret, nonce));
        Self { mechanism, user: user.to_owned(), secret: secret.clone(), scram, round: 0, is_first_due: false }
    }

    /// The initial response for the AUTH command, if the mechanism begins with the client and it has at most
    /// so many octets; a longer one answers the empty challenge that follows (RFC 4954 §4).
    pub fn opening(&mut self, room: usize) -> Option<Secret> {
        let first = self.first()?;
        self.is_first_due = first.expose().len() > room;
        (!self.is_first_due).then_some(first)
    }

    /// The initial response, in base64.
    fn first(&self) -> Option<Secret> {
        let octets = match self.mechanism {
            Mechanism::Plain => [b"\0", self.user.as_bytes(), b"\0", self.secret.expose()].concat(),
            Mechanism::Login => return None,
            Mechanism::Xoauth2 => {
                [b"user=", self.user.as_bytes(), b"\x01auth=Bearer ", self.secret.expose(), b"\x01\x01"].concat()
            }
            Mechanism::ScramSha256 => self.scram.as_ref()?.first().into_bytes(),
        };
        let octets = Secret::new(octets);
        Some(Secret::new(STANDARD.encode(octets.expose()).into_bytes()))
    }

    /// What a challenge, the text of a 334, is answered with.
    pub fn answer(&mut self, challenge: &str) -> Answer {
        let Ok(challenge) = STANDARD.decode(challenge.trim()) else {
            return Answer::Cancel("a challenge that is not base64");
        };
        if std::mem::take(&mut self.is_first_due) {
            return self.first().map_or(Answer::Cancel("no login is under way"), Answer::Line);
        }
        self.round += 1;
        match (self.mechanism, self.round) {
            (Mechanism::Login, 1) => said(self.user.as_bytes()),
            (Mechanism::Login, 2) => said(self.secret.expose()),
            // The challenge holds the reason as JSON; an empty line asks for the 535.
            (Mechanism::Xoauth2, 1) => said(b""),
            (Mechanism::ScramSha256, round) => self.scrammed(&challenge, round),
            _ => Answer::Cancel("more challenges than the mechanism has"),
        }
    }

    fn scrammed(&mut self, challenge: &[u8], round: u8) -> Answer {
        let Some(scram) = &mut self.scram else { return Answer::Cancel("no SCRAM is under way") };
        match round {
            1 => scram.last(challenge).map_or_else(Answer::Cancel, |line| said(line.as_bytes())),
            2 if scram.is_server(challenge) => said(b""),
            2 => Answer::Cancel("a server that does not know the password itself"),
            _ => Answer::Cancel("more challenges than the mechanism has"),
        }
    }

    /// Whether the server may say yes now: with SCRAM not before it has proved that it knows the
    /// password too.
    pub fn may_succeed(&self) -> bool {
        self.scram.as_ref().is_none_or(Scram::is_proved)
    }

    /// Lets SCRAM's last word come with the 235 itself, as RFC 4954 §4 allows. What was proved before is
    /// proved, whatever the text of the 235 looks like.
    pub fn succeeded_with(&mut self, text: &str) {
        let unproved = self.scram.as_mut().filter(|scram| !scram.is_proved());
        if let (Some(scram), Ok(last)) = (unproved, STANDARD.decode(text.trim())) {
            scram.is_server(&last);
        }
    }
}

fn said(octets: &[u8]) -> Answer {
    Answer::Line(Secret::new(STANDARD.encode(octets).into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{Answer, Login, Mechanism, STANDARD};
    use crate::smtp::secret::Secret;
    use base64::Engine as _;

    fn login(mechanism: Mechanism) -> Login {
        Login::new(mechanism, "tim", &Secret::new(b"tanstaaftanstaaf".to_vec()), "n")
    }

    fn text(secret: &Secret) -> &str {
        std::str::from_utf8(secret.expose()).expect("base64")
    }

    /// The line that answers a challenge; nothing if it is cancelled.
    fn line(answer: &Answer) -> Option<&str> {
        if let Answer::Line(line) = answer { Some(text(line)) } else { None }
    }

    #[test]
    fn plain_is_the_example_of_rfc_4616() {
        assert_eq!(login(Mechanism::Plain).opening(512).as_ref().map(text), Some("AHRpbQB0YW5zdGFhZnRhbnN0YWFm"));
    }

    #[test]
    fn login_answers_user_and_password_whatever_the_prompts_say() {
        let mut login = login(Mechanism::Login);
        assert!(login.opening(512).is_none());
        assert_eq!(line(&login.answer("VXNlcm5hbWU6")), Some("dGlt"));
        assert_eq!(line(&login.answer("")), Some("dGFuc3RhYWZ0YW5zdGFhZg=="));
        assert!(matches!(login.answer(""), Answer::Cancel(_)));
    }

    #[test]
    fn what_a_server_has_proved_is_proved_and_nothing_else_is() {
        let scram = || {
            let mut login =
                Login::new(Mechanism::ScramSha256, "user", &Secret::new(b"pencil".to_vec()), "rOprNGfwEbeRWgbNEkqO");
            let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
            assert!(line(&login.answer(&STANDARD.encode(first))).is_some());
            login
        };
        // The example of RFC 7677 §3.
        let last = STANDARD.encode("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let mut early = scram();
        early.succeeded_with("Accepted");
        assert!(!early.may_succeed(), "a word that looks like base64 proves nothing");
        early.succeeded_with(&last);
        assert!(early.may_succeed(), "it may come with the 235");
        let mut proved = scram();
        assert_eq!(line(&proved.answer(&last)), Some(""));
        proved.succeeded_with("Accepted");
        assert!(proved.may_succeed(), "the text of the 235 takes nothing back");
    }

    #[test]
    fn what_is_no_challenge_is_cancelled() {
        assert!(matches!(login(Mechanism::Login).answer("!!!"), Answer::Cancel(_)));
        assert!(matches!(login(Mechanism::Plain).answer(""), Answer::Cancel(_)));
    }

    #[test]
    fn the_strongest_offered_is_taken_in_any_case() {
        let offered = |words: &str| Mechanism::strongest(&words.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(offered("login plain scram-sha-256"), Some(Mechanism::ScramSha256));
        assert_eq!(offered("LOGIN PLAIN"), Some(Mechanism::Plain));
        assert_eq!(offered("XOAUTH2 CRAM-MD5"), None);
    }
}
