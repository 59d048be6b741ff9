//! SASL mechanisms of the client (RFC 4954).
//!
//! Owns the initial response and the response to each challenge. Whether the connection is safe enough for a
//! password is decided in `client::login`.
//!
//! ```text
//!   PLAIN         AUTH PLAIN <0 user 0 password>                     235   RFC 4616
//!   LOGIN         AUTH LOGIN   334 ▶ user   334 ▶ password           235   no standard
//!   XOAUTH2       AUTH XOAUTH2 <user= auth=Bearer>                   235, or 334 ▶ (empty line) 535
//!   SCRAM-SHA-256 AUTH … <client first> 334 ▶ <client final> 334 ▶ (empty line) 235   RFC 5802, 7677
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::scram::ScramClient;
use crate::failure::{Failure, FailureKind};
use crate::mac::Secret;

/// SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// Never sends the password; the server must prove knowledge of it as well.
    ScramSha256,
    /// User and password in one response.
    Plain,
    /// User and password, each in reply to a prompt.
    Login,
    /// OAuth 2.0 access token instead of a password.
    Xoauth2,
}

impl std::str::FromStr for Mechanism {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let all = [Self::ScramSha256, Self::Plain, Self::Login, Self::Xoauth2];
        all.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            Failure::new(FailureKind::InvalidValue, format!("unknown AUTH mechanism '{text}'"))
                .expected("SCRAM-SHA-256, PLAIN, LOGIN or XOAUTH2")
        })
    }
}

impl Mechanism {
    /// Mechanisms with a password, the strongest first.
    const BY_STRENGTH: [Self; 3] = [Self::ScramSha256, Self::Plain, Self::Login];

    /// Returns the name in EHLO and AUTH.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::Xoauth2 => "XOAUTH2",
        }
    }

    /// Returns the strongest offered mechanism that uses a password.
    pub(crate) fn strongest(offered: &[String]) -> Option<Self> {
        Self::BY_STRENGTH.into_iter().find(|mechanism| mechanism.is_offered(offered))
    }

    /// Returns true if the server offers this mechanism; names are case-insensitive (RFC 4954 §4).
    pub(crate) fn is_offered(self, offered: &[String]) -> bool {
        offered.iter().any(|name| name.eq_ignore_ascii_case(self.name()))
    }
}

/// Reply of the client to a challenge.
pub(super) enum ChallengeResponse {
    /// Response in base64; it may be the password.
    Line(Secret),
    /// `*`: the challenge is invalid, for this reason.
    Cancel(&'static str),
}

/// State of one login.
pub(super) struct SaslClient {
    mechanism: Mechanism,
    user: String,
    secret: Secret,
    scram: Option<ScramClient>,
    step: u8,
    /// The initial response is still to be sent, in reply to an empty challenge.
    is_initial_response_due: bool,
}

impl SaslClient {
    /// Starts a login; `nonce` must be random.
    pub(super) fn new(mechanism: Mechanism, user: &str, secret: &Secret, nonce: &str) -> Self {
        let scram = (mechanism == Mechanism::ScramSha256).then(|| ScramClient::new(user, secret, nonce));
        Self {
            mechanism,
            user: user.to_owned(),
            secret: secret.clone(),
            scram,
            step: 0,
            is_initial_response_due: false,
        }
    }

    /// Returns the initial response for the AUTH command, if the mechanism has one of at most `max_len` bytes;
    /// a longer one is sent in reply to the empty challenge that follows (RFC 4954 §4).
    pub(super) fn initial_response(&mut self, max_len: usize) -> Option<Secret> {
        let first = self.encode_initial_response()?;
        self.is_initial_response_due = first.expose().len() > max_len;
        (!self.is_initial_response_due).then_some(first)
    }

    fn encode_initial_response(&self) -> Option<Secret> {
        let bytes = match self.mechanism {
            Mechanism::Plain => [b"\0", self.user.as_bytes(), b"\0", self.secret.expose()].concat(),
            Mechanism::Login => return None,
            Mechanism::Xoauth2 => {
                [b"user=", self.user.as_bytes(), b"\x01auth=Bearer ", self.secret.expose(), b"\x01\x01"].concat()
            }
            Mechanism::ScramSha256 => self.scram.as_ref()?.client_first().into_bytes(),
        };
        let bytes = Secret::new(bytes);
        Some(Secret::new(STANDARD.encode(bytes.expose()).into_bytes()))
    }

    /// Returns the response to a challenge, the text of a 334.
    pub(super) fn evaluate_challenge(&mut self, challenge: &str) -> ChallengeResponse {
        let Ok(challenge) = STANDARD.decode(challenge.trim()) else {
            return ChallengeResponse::Cancel("the challenge is not base64");
        };
        if std::mem::take(&mut self.is_initial_response_due) {
            return self
                .encode_initial_response()
                .map_or(ChallengeResponse::Cancel("no login in progress"), ChallengeResponse::Line);
        }
        self.step += 1;
        match (self.mechanism, self.step) {
            (Mechanism::Login, 1) => encode_response(self.user.as_bytes()),
            (Mechanism::Login, 2) => encode_response(self.secret.expose()),
            // The challenge contains the reason as JSON; an empty line requests the 535.
            (Mechanism::Xoauth2, 1) => encode_response(b""),
            (Mechanism::ScramSha256, step) => self.evaluate_scram_challenge(&challenge, step),
            _ => ChallengeResponse::Cancel("more challenges than the mechanism defines"),
        }
    }

    fn evaluate_scram_challenge(&mut self, challenge: &[u8], step: u8) -> ChallengeResponse {
        let Some(scram) = &mut self.scram else { return ChallengeResponse::Cancel("no login in progress") };
        match step {
            1 => scram
                .client_final(challenge)
                .map_or_else(ChallengeResponse::Cancel, |line| encode_response(line.as_bytes())),
            2 if scram.verify_server(challenge) => encode_response(b""),
            2 => ChallengeResponse::Cancel("the server did not prove that it knows the password"),
            _ => ChallengeResponse::Cancel("more challenges than the mechanism defines"),
        }
    }

    /// Returns true if a 235 may be accepted; with SCRAM only after the server signature was verified.
    pub(super) fn may_accept_success(&self) -> bool {
        self.scram.as_ref().is_none_or(ScramClient::is_server_verified)
    }

    /// Accepts the final message of SCRAM in the text of the 235 (RFC 4954 §4). An earlier proof stays valid
    /// whatever the text is.
    pub(super) fn on_success(&mut self, text: &str) {
        let unverified = self.scram.as_mut().filter(|scram| !scram.is_server_verified());
        if let (Some(scram), Ok(last)) = (unverified, STANDARD.decode(text.trim())) {
            scram.verify_server(&last);
        }
    }
}

fn encode_response(bytes: &[u8]) -> ChallengeResponse {
    ChallengeResponse::Line(Secret::new(STANDARD.encode(bytes).into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{ChallengeResponse, Mechanism, STANDARD, SaslClient};
    use crate::mac::Secret;
    use base64::Engine as _;

    fn sasl_client(mechanism: Mechanism) -> SaslClient {
        SaslClient::new(mechanism, "tim", &Secret::new(b"tanstaaftanstaaf".to_vec()), "n")
    }

    fn text(secret: &Secret) -> &str {
        std::str::from_utf8(secret.expose()).expect("base64")
    }

    /// Returns the response line, or `None` for a cancelled login.
    fn response_line(response: &ChallengeResponse) -> Option<&str> {
        if let ChallengeResponse::Line(line) = response { Some(text(line)) } else { None }
    }

    #[test]
    fn plain_is_the_example_of_rfc_4616() {
        assert_eq!(
            sasl_client(Mechanism::Plain).initial_response(512).as_ref().map(text),
            Some("AHRpbQB0YW5zdGFhZnRhbnN0YWFm")
        );
    }

    #[test]
    fn login_sends_user_and_password_whatever_the_prompts_are() {
        let mut login = sasl_client(Mechanism::Login);
        assert!(login.initial_response(512).is_none());
        assert_eq!(response_line(&login.evaluate_challenge("VXNlcm5hbWU6")), Some("dGlt"));
        assert_eq!(response_line(&login.evaluate_challenge("")), Some("dGFuc3RhYWZ0YW5zdGFhZg=="));
        assert!(matches!(login.evaluate_challenge(""), ChallengeResponse::Cancel(_)));
    }

    #[test]
    fn a_server_proof_is_required_and_stays_valid() {
        let scram = || {
            let mut login = SaslClient::new(
                Mechanism::ScramSha256,
                "user",
                &Secret::new(b"pencil".to_vec()),
                "rOprNGfwEbeRWgbNEkqO",
            );
            let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
            assert!(response_line(&login.evaluate_challenge(&STANDARD.encode(first))).is_some());
            login
        };
        // The example of RFC 7677 §3.
        let last = STANDARD.encode("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let mut early = scram();
        early.on_success("Accepted");
        assert!(!early.may_accept_success(), "text that looks like base64 is not a proof");
        early.on_success(&last);
        assert!(early.may_accept_success(), "the proof may arrive with the 235");
        let mut proved = scram();
        assert_eq!(response_line(&proved.evaluate_challenge(&last)), Some(""));
        proved.on_success("Accepted");
        assert!(proved.may_accept_success(), "the text of the 235 does not undo a proof");
    }

    #[test]
    fn an_invalid_challenge_cancels_the_login() {
        assert!(matches!(sasl_client(Mechanism::Login).evaluate_challenge("!!!"), ChallengeResponse::Cancel(_)));
        assert!(matches!(sasl_client(Mechanism::Plain).evaluate_challenge(""), ChallengeResponse::Cancel(_)));
    }

    #[test]
    fn the_strongest_offered_mechanism_is_chosen_in_any_case() {
        let offered = |words: &str| Mechanism::strongest(&words.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(offered("login plain scram-sha-256"), Some(Mechanism::ScramSha256));
        assert_eq!(offered("LOGIN PLAIN"), Some(Mechanism::Plain));
        assert_eq!(offered("XOAUTH2 CRAM-MD5"), None);
    }
}
