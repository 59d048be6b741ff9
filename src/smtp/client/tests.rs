//! The dialogue against scripted servers: every row of the hostile transcripts that needs no socket.

use super::{Client, Fact};
use crate::conversation::{Action, Actions, CloseReason, StreamProtocol};
use crate::error::Error;
use crate::exit::Exit;
use crate::smtp::plan::{Credentials, Done, Envelope, Outcome, Plan, Security, Stage, Wishes};
use crate::smtp::secret::Secret;
use crate::time::Moment;
use std::time::Duration;

mod ends;
mod login;
mod many;

const START: Moment = Moment::new(Duration::from_secs(5), Duration::from_secs(1_764_000_000));
const OFFERS: &str = "250-mx.test\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n";

/// A mail for these, in clear and without a login.
pub fn plan(recipients: &[&str]) -> Plan {
    let envelope = Envelope {
        from: Some("me@x.test".parse().expect("an address")),
        recipients: recipients.iter().map(|to| to.parse().expect("an address")).collect(),
        message: (*b"Subject: hi\r\n\r\n.dot\r\n").into(),
        ascii: None,
    };
    Plan {
        server: "mx.test".into(),
        name: "lab.test".into(),
        security: Security::Plain,
        is_verified: true,
        login: None,
        envelope: Some(envelope),
        all_or_nothing: false,
        stop_after: None,
        patience: None,
        wishes: Wishes::default(),
        mails: 1,
        apart: Duration::ZERO,
    }
}

fn with_login(plan: Plan) -> Plan {
    let secret = Secret::new(b"sesame".to_vec());
    let login = Credentials { user: "tim".into(), secret, mechanism: None, in_clear: false, nonce: "nonce".into() };
    Plan { login: Some(login), ..plan }
}

struct Bench {
    client: Client,
    out: Actions<Fact>,
    now: Moment,
    shown: Vec<String>,
}

/// What the client did in answer.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    Said(String),
    StartTls,
    Closed,
    Reset,
}

impl Bench {
    fn new(plan: Plan) -> Self {
        let mut bench =
            Self { client: Client::new(plan, START), out: Actions::default(), now: START, shown: Vec::new() };
        bench.client.opened(None, START, &mut bench.out);
        assert_eq!(bench.did(), []);
        bench
    }

    fn did(&mut self) -> Vec<Did> {
        self.shown
            .extend(self.out.events().filter_map(|fact| if let Fact::Sent(line) = fact { Some(line) } else { None }));
        let (steps, bytes) = self.out.queued();
        let mut at = 0;
        let mut did = Vec::new();
        for step in steps.drain(..) {
            match step {
                Action::Bytes(length) => {
                    did.push(Did::Said(String::from_utf8_lossy(&bytes[at..at + length]).into_owned()));
                    at += length;
                }
                Action::StartTls => did.push(Did::StartTls),
                Action::Close => did.push(Did::Closed),
                Action::Reset => did.push(Did::Reset),
                Action::File { .. } => unreachable!("no files"),
            }
        }
        bytes.clear();
        did
    }

    /// The server says this in one breath; what the client does.
    fn hear(&mut self, text: &str) -> Vec<Did> {
        self.now = self.now + Duration::from_millis(1);
        let mut rest = text.as_bytes();
        let mut did = Vec::new();
        loop {
            let taken = self.client.received(rest, self.now, &mut self.out);
            rest = &rest[taken..];
            did.extend(self.did());
            if rest.is_empty() || taken == 0 {
                break;
            }
        }
        self.client.sent(self.now, &mut self.out);
        did.extend(self.did());
        did
    }

    fn done(mut self) -> (Done, Vec<String>) {
        self.did();
        (self.client.done(), self.shown)
    }
}

fn said(text: &str) -> Vec<Did> {
    vec![Did::Said(text.to_owned())]
}

fn outcomes(done: &Done) -> Vec<Option<Outcome>> {
    done.recipients.iter().map(|recipient| recipient.outcome).collect()
}

fn exit(done: &Done) -> Option<Exit> {
    done.failure.as_ref().map(Error::exit)
}

#[test]
fn a_mail_goes_through_with_pipelining() {
    let mut bench = Bench::new(plan(&["a@x.test", "b@x.test"]));
    assert_eq!(bench.hear("220 mx.test\r\n"), said("EHLO lab.test\r\n"));
    assert_eq!(
        bench.hear(OFFERS),
        said("MAIL FROM:<me@x.test> SIZE=21\r\nRCPT TO:<a@x.test>\r\nRCPT TO:<b@x.test>\r\n")
    );
    assert_eq!(bench.hear("250 ok\r\n250 ok\r\n550 5.1.1 nobody\r\n"), said("DATA\r\n"));
    assert_eq!(bench.hear("354 go\r\n"), said("Subject: hi\r\n\r\n..dot\r\n.\r\n"));
    assert_eq!(bench.hear("250 2.0.0 queued\r\n"), said("QUIT\r\n"));
    assert_eq!(bench.hear("221 bye\r\n"), [Did::Closed]);
    let (done, _) = bench.done();
    assert_eq!(outcomes(&done), [Some(Outcome::Accepted), Some(Outcome::Refused)]);
    assert!(done.failure.is_none());
    assert_eq!(done.recipients[1].reply.as_ref().and_then(crate::smtp::Reply::enhanced), Some((5, 1, 1)));
}

#[test]
fn without_pipelining_each_command_waits_for_its_reply() {
    let mut bench = Bench::new(plan(&["a@x.test", "b@x.test"]));
    bench.hear("220\r\n");
    assert_eq!(bench.hear("250\r\n"), said("MAIL FROM:<me@x.test>\r\n"));
    assert_eq!(bench.hear("250\r\n"), said("RCPT TO:<a@x.test>\r\n"));
    assert_eq!(bench.hear("250\r\n"), said("RCPT TO:<b@x.test>\r\n"));
    assert_eq!(bench.hear("451 4.7.1 greylisted\r\n"), said("DATA\r\n"));
    bench.hear("354\r\n");
    bench.hear("250\r\n");
    let (done, _) = bench.done();
    assert_eq!(outcomes(&done), [Some(Outcome::Accepted), Some(Outcome::Deferred)]);
}

#[test]
fn h1_and_h2_octets_behind_the_220_to_starttls_end_it() {
    for glued in ["250-mx.test\r\n250 AUTH PLAIN\r\n", "250-AUTH PLAIN "] {
        let mut bench = Bench::new(with_login(Plan { security: Security::Starttls, ..plan(&["a@x.test"]) }));
        bench.hear("220 mx\r\n");
        assert_eq!(bench.hear("250-mx.test\r\n250 STARTTLS\r\n"), said("STARTTLS\r\n"));
        assert_eq!(bench.hear(&format!("220 go\r\n{glued}")), [Did::Reset]);
        let (done, shown) = bench.done();
        assert_eq!((exit(&done), done.stage), (Some(Exit::Protocol), Stage::Starttls));
        assert!(!shown.iter().any(|line| line.starts_with("AUTH")), "{shown:?}");
    }
}

#[test]
fn h3_and_h4_without_starttls_nothing_is_said() {
    for (offers, code) in
        [("250 AUTH PLAIN\r\n", Exit::Unavailable), ("250-mx\r\n250 starttls\r\n", Exit::TemporaryFailure)]
    {
        let mut bench = Bench::new(with_login(Plan { security: Security::Starttls, ..plan(&["a@x.test"]) }));
        bench.hear("220 mx\r\n");
        if bench.hear(&format!("250-mx\r\n{offers}")) == said("STARTTLS\r\n") {
            assert_eq!(bench.hear("454 4.7.0 not now\r\n"), said("QUIT\r\n"));
        }
        let (done, shown) = bench.done();
        assert_eq!(exit(&done), Some(code));
        assert!(shown.iter().all(|line| !line.contains("AUTH") && !line.contains("MAIL")), "{shown:?}");
    }
}

#[test]
fn h6_after_tls_only_the_second_ehlo_counts() {
    let mut bench = Bench::new(with_login(Plan { security: Security::Starttls, ..plan(&["a@x.test"]) }));
    bench.hear("220 mx\r\n");
    bench.hear("250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n");
    assert_eq!(bench.hear("220 go\r\n"), [Did::StartTls]);
    bench.client.opened(Some("1.3"), bench.now, &mut bench.out);
    assert_eq!(bench.did(), said("EHLO lab.test\r\n"));
    assert_eq!(bench.hear("250-mx\r\n250 8BITMIME\r\n"), said("QUIT\r\n"));
    let (done, _) = bench.done();
    assert_eq!(exit(&done), Some(Exit::Unavailable));
    assert!(done.offers_before_tls.is_some_and(|offers| offers.auth == ["PLAIN"]));
}

#[test]
fn h9_h11_and_h20_what_breaks_the_protocol_is_76() {
    for text in ["250-a\r\n550 b\r\n", "250 a\r\n250 b\r\n", "what?\r\n", "999 x\r\n", &"x".repeat(5_000)] {
        let mut bench = Bench::new(plan(&["a@x.test"]));
        bench.hear("220 mx\r\n");
        assert_eq!(bench.hear(text), [Did::Reset], "{text}");
        assert_eq!(exit(&bench.done().0), Some(Exit::Protocol), "{text}");
    }
}

#[test]
fn a_password_never_leaves_on_a_line_that_is_not_safe() {
    for (security, is_verified) in [(Security::Plain, true), (Security::Starttls, false)] {
        let mut bench = Bench::new(with_login(Plan { security, is_verified, ..plan(&["a@x.test"]) }));
        bench.hear("220 mx\r\n");
        let mut did = bench.hear("250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n");
        if security == Security::Starttls {
            bench.hear("220 go\r\n");
            bench.client.opened(Some("1.3"), bench.now, &mut bench.out);
            bench.did();
            did = bench.hear("250-mx\r\n250 AUTH PLAIN LOGIN\r\n");
        }
        assert_eq!(did, said("QUIT\r\n"));
        assert_eq!(exit(&bench.done().0), Some(Exit::InvalidInput));
    }
}

/// A dialogue up to the reply to the dot.
fn up_to_the_dot() -> Bench {
    let mut bench = Bench::new(plan(&["a@x.test"]));
    for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n", "250\r\n", "354\r\n"] {
        bench.hear(reply);
    }
    bench
}

#[test]
fn h13_to_h16_refusals_for_now_and_for_good() {
    for (reply, exit_code, outcome) in [
        ("552 5.3.4 too big\r\n", Exit::Unavailable, Outcome::Refused),
        ("452 4.3.1 full\r\n", Exit::TemporaryFailure, Outcome::Deferred),
        ("421 4.3.2 closing\r\n", Exit::TemporaryFailure, Outcome::Deferred),
    ] {
        let mut bench = up_to_the_dot();
        bench.hear(reply);
        let (done, _) = bench.done();
        assert_eq!((exit(&done), outcomes(&done)), (Some(exit_code), vec![Some(outcome)]), "{reply}");
    }
    let mut bench = Bench::new(plan(&["a@x.test", "b@x.test"]));
    for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n", "250\r\n"] {
        bench.hear(reply);
    }
    assert_eq!(bench.hear("421 4.3.2 closing\r\n"), [Did::Reset]);
    assert_eq!(outcomes(&bench.done().0), [Some(Outcome::Deferred); 2]);
}

#[test]
fn h15_a_line_that_drops_after_the_dot_leaves_the_outcome_unknown() {
    for is_broken in [false, true] {
        let mut bench = up_to_the_dot();
        let end = if is_broken { CloseReason::Broken(Error::new(Exit::Io, "reset")) } else { CloseReason::Finished };
        bench.client.ended(&end, bench.now, &mut bench.out);
        let (done, _) = bench.done();
        assert_eq!((exit(&done), outcomes(&done)), (Some(Exit::OutcomeUnknown), vec![Some(Outcome::Unknown)]));
    }
    let mut bench = Bench::new(plan(&["a@x.test"]));
    for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n", "250\r\n"] {
        bench.hear(reply);
    }
    bench.client.ended(&CloseReason::Finished, bench.now, &mut bench.out);
    let (done, _) = bench.done();
    assert_eq!((exit(&done), outcomes(&done)), (Some(Exit::TemporaryFailure), vec![Some(Outcome::Deferred)]));
}

#[test]
fn after_the_yes_to_the_dot_nothing_undoes_it() {
    let mut bench = up_to_the_dot();
    assert_eq!(bench.hear("250 2.0.0 queued\r\n"), said("QUIT\r\n"));
    bench.client.ended(&CloseReason::Broken(Error::new(Exit::Io, "reset")), bench.now, &mut bench.out);
    let (done, _) = bench.done();
    assert!(done.failure.is_none() && outcomes(&done) == [Some(Outcome::Accepted)]);
}

#[test]
fn h21_waits_have_the_limits_of_the_rfc() {
    let mut bench = Bench::new(plan(&["a@x.test"]));
    assert_eq!(bench.client.wake_at(), Some(START + Duration::from_secs(300)));
    bench.client.woken(START + Duration::from_secs(300), &mut bench.out);
    assert_eq!(bench.did(), [Did::Reset]);
    assert_eq!(exit(&bench.done().0), Some(Exit::TemporaryFailure));

    let mut bench = up_to_the_dot();
    assert_eq!(bench.client.wake_at(), Some(bench.now + Duration::from_secs(600)));
    bench.client.woken(bench.now + Duration::from_secs(600), &mut bench.out);
    assert_eq!(exit(&bench.done().0), Some(Exit::OutcomeUnknown));
}

#[test]
fn h24_a_message_that_does_not_fit_stops_before_mail() {
    for (offers, message) in [("250 SIZE 100\r\n", vec![b'x'; 3_000]), ("250 SIZE\r\n", "ü".as_bytes().to_vec())] {
        let mut plan = plan(&["a@x.test"]);
        plan.envelope = plan.envelope.map(|envelope| Envelope { message: message.into(), ..envelope });
        let mut bench = Bench::new(plan);
        bench.hear("220 mx\r\n");
        assert_eq!(bench.hear(&format!("250-mx\r\n{offers}")), said("QUIT\r\n"));
        assert_eq!(exit(&bench.done().0), Some(Exit::InvalidInput));
    }
}

#[test]
fn an_old_server_is_greeted_with_helo_unless_more_is_wanted() {
    let mut bench = Bench::new(plan(&["a@x.test"]));
    bench.hear("220 mx\r\n");
    assert_eq!(bench.hear("502 what?\r\n"), said("HELO lab.test\r\n"));
    assert_eq!(bench.hear("250 mx\r\n"), said("MAIL FROM:<me@x.test>\r\n"));
    let mut bench = Bench::new(with_login(plan(&["a@x.test"])));
    bench.hear("220 mx\r\n");
    assert_eq!(bench.hear("502 what?\r\n"), said("QUIT\r\n"));
}
