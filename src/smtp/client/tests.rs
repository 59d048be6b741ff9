//! The dialogue against scripted servers: every row of the hostile transcripts that needs no socket.

use super::{ClientEvent, ClientSession};
use crate::error::Error;
use crate::exit::Exit;
use crate::mac::Secret;
use crate::protocol::{Action, Actions, CloseReason, StreamProtocol};
use crate::smtp::client::config::{
    ClientConfig, Credentials, DeliveryOutcome, Envelope, RequestedExtensions, Security, SessionResult,
};
use crate::smtp::stage::Stage;
use crate::time::Moment;
use std::time::Duration;

mod ends;
mod login;
mod many;

const START: Moment = Moment::new(Duration::from_secs(5), Duration::from_secs(1_764_000_000));
const EHLO_REPLY: &str = "250-mx.test\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n";

/// A mail for these, in clear and without a login.
pub(crate) fn client_config(recipients: &[&str]) -> ClientConfig {
    let envelope = Envelope {
        from: Some("me@x.test".parse().expect("an address")),
        recipients: recipients.iter().map(|to| to.parse().expect("an address")).collect(),
        message: (*b"Subject: hi\r\n\r\n.dot\r\n").into(),
        ascii_message: None,
    };
    ClientConfig {
        server_name: "mx.test".into(),
        helo_name: "lab.test".into(),
        security: Security::Plain,
        verify_certificate: true,
        credentials: None,
        envelope: Some(envelope),
        all_or_nothing: false,
        stop_after: None,
        reply_timeout: None,
        requested_extensions: RequestedExtensions::default(),
        transaction_count: 1,
        min_interval: Duration::ZERO,
    }
}

fn with_credentials(config: ClientConfig) -> ClientConfig {
    let secret = Secret::new(b"sesame".to_vec());
    let login =
        Credentials { user: "tim".into(), secret, mechanism: None, allow_cleartext: false, nonce: "nonce".into() };
    ClientConfig { credentials: Some(login), ..config }
}

struct Harness {
    client: ClientSession,
    actions: Actions<ClientEvent>,
    now: Moment,
    sent_lines: Vec<String>,
}

/// What the client did in answer.
#[derive(Debug, PartialEq, Eq)]
enum ClientAction {
    Sent(String),
    StartTls,
    Closed,
    Reset,
}

impl Harness {
    fn new(config: ClientConfig) -> Self {
        let mut bench = Self {
            client: ClientSession::new(config, START),
            actions: Actions::default(),
            now: START,
            sent_lines: Vec::new(),
        };
        bench.client.opened(None, START, &mut bench.actions);
        assert_eq!(bench.take_actions(), []);
        bench
    }

    fn take_actions(&mut self) -> Vec<ClientAction> {
        self.sent_lines.extend(
            self.actions
                .events()
                .filter_map(|fact| if let ClientEvent::CommandSent(line) = fact { Some(line) } else { None }),
        );
        let (steps, bytes) = self.actions.queued();
        let mut at = 0;
        let mut did = Vec::new();
        for step in steps.drain(..) {
            match step {
                Action::Bytes(length) => {
                    did.push(ClientAction::Sent(String::from_utf8_lossy(&bytes[at..at + length]).into_owned()));
                    at += length;
                }
                Action::StartTls => did.push(ClientAction::StartTls),
                Action::Close => did.push(ClientAction::Closed),
                Action::Reset => did.push(ClientAction::Reset),
                Action::File { .. } => unreachable!("no files"),
            }
        }
        bytes.clear();
        did
    }

    /// The server says this in one breath; what the client does.
    fn server_sends(&mut self, text: &str) -> Vec<ClientAction> {
        self.now = self.now + Duration::from_millis(1);
        let mut rest = text.as_bytes();
        let mut did = Vec::new();
        loop {
            let taken = self.client.received(rest, self.now, &mut self.actions);
            rest = &rest[taken..];
            did.extend(self.take_actions());
            if rest.is_empty() || taken == 0 {
                break;
            }
        }
        self.client.sent(self.now, &mut self.actions);
        did.extend(self.take_actions());
        did
    }

    fn finish(mut self) -> (SessionResult, Vec<String>) {
        self.take_actions();
        (self.client.into_result(), self.sent_lines)
    }
}

fn sends(text: &str) -> Vec<ClientAction> {
    vec![ClientAction::Sent(text.to_owned())]
}

fn outcomes(result: &SessionResult) -> Vec<Option<DeliveryOutcome>> {
    result.recipients.iter().map(|recipient| recipient.outcome).collect()
}

fn failure_exit(result: &SessionResult) -> Option<Exit> {
    result.failure.as_ref().map(Error::exit)
}

#[test]
fn a_mail_goes_through_with_pipelining() {
    let mut bench = Harness::new(client_config(&["a@x.test", "b@x.test"]));
    assert_eq!(bench.server_sends("220 mx.test\r\n"), sends("EHLO lab.test\r\n"));
    assert_eq!(
        bench.server_sends(EHLO_REPLY),
        sends("MAIL FROM:<me@x.test> SIZE=21\r\nRCPT TO:<a@x.test>\r\nRCPT TO:<b@x.test>\r\n")
    );
    assert_eq!(bench.server_sends("250 ok\r\n250 ok\r\n550 5.1.1 nobody\r\n"), sends("DATA\r\n"));
    assert_eq!(bench.server_sends("354 go\r\n"), sends("Subject: hi\r\n\r\n..dot\r\n.\r\n"));
    assert_eq!(bench.server_sends("250 2.0.0 queued\r\n"), sends("QUIT\r\n"));
    assert_eq!(bench.server_sends("221 bye\r\n"), [ClientAction::Closed]);
    let (done, _) = bench.finish();
    assert_eq!(outcomes(&done), [Some(DeliveryOutcome::Accepted), Some(DeliveryOutcome::Refused)]);
    assert!(done.failure.is_none());
    assert_eq!(done.recipients[1].reply.as_ref().and_then(crate::smtp::Reply::enhanced_status), Some((5, 1, 1)));
}

#[test]
fn without_pipelining_each_command_waits_for_its_reply() {
    let mut bench = Harness::new(client_config(&["a@x.test", "b@x.test"]));
    bench.server_sends("220\r\n");
    assert_eq!(bench.server_sends("250\r\n"), sends("MAIL FROM:<me@x.test>\r\n"));
    assert_eq!(bench.server_sends("250\r\n"), sends("RCPT TO:<a@x.test>\r\n"));
    assert_eq!(bench.server_sends("250\r\n"), sends("RCPT TO:<b@x.test>\r\n"));
    assert_eq!(bench.server_sends("451 4.7.1 greylisted\r\n"), sends("DATA\r\n"));
    bench.server_sends("354\r\n");
    bench.server_sends("250\r\n");
    let (done, _) = bench.finish();
    assert_eq!(outcomes(&done), [Some(DeliveryOutcome::Accepted), Some(DeliveryOutcome::Deferred)]);
}

#[test]
fn h1_and_h2_octets_behind_the_220_to_starttls_end_it() {
    for glued in ["250-mx.test\r\n250 AUTH PLAIN\r\n", "250-AUTH PLAIN "] {
        let mut bench = Harness::new(with_credentials(ClientConfig {
            security: Security::Starttls,
            ..client_config(&["a@x.test"])
        }));
        bench.server_sends("220 mx\r\n");
        assert_eq!(bench.server_sends("250-mx.test\r\n250 STARTTLS\r\n"), sends("STARTTLS\r\n"));
        assert_eq!(bench.server_sends(&format!("220 go\r\n{glued}")), [ClientAction::Reset]);
        let (done, shown) = bench.finish();
        assert_eq!((failure_exit(&done), done.stage), (Some(Exit::Protocol), Stage::Starttls));
        assert!(!shown.iter().any(|line| line.starts_with("AUTH")), "{shown:?}");
    }
}

#[test]
fn h3_and_h4_without_starttls_nothing_is_said() {
    for (offers, code) in
        [("250 AUTH PLAIN\r\n", Exit::Unavailable), ("250-mx\r\n250 starttls\r\n", Exit::TemporaryFailure)]
    {
        let mut bench = Harness::new(with_credentials(ClientConfig {
            security: Security::Starttls,
            ..client_config(&["a@x.test"])
        }));
        bench.server_sends("220 mx\r\n");
        if bench.server_sends(&format!("250-mx\r\n{offers}")) == sends("STARTTLS\r\n") {
            assert_eq!(bench.server_sends("454 4.7.0 not now\r\n"), sends("QUIT\r\n"));
        }
        let (done, shown) = bench.finish();
        assert_eq!(failure_exit(&done), Some(code));
        assert!(shown.iter().all(|line| !line.contains("AUTH") && !line.contains("MAIL")), "{shown:?}");
    }
}

#[test]
fn h6_after_tls_only_the_second_ehlo_counts() {
    let mut bench =
        Harness::new(with_credentials(ClientConfig { security: Security::Starttls, ..client_config(&["a@x.test"]) }));
    bench.server_sends("220 mx\r\n");
    bench.server_sends("250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n");
    assert_eq!(bench.server_sends("220 go\r\n"), [ClientAction::StartTls]);
    bench.client.opened(Some("1.3"), bench.now, &mut bench.actions);
    assert_eq!(bench.take_actions(), sends("EHLO lab.test\r\n"));
    assert_eq!(bench.server_sends("250-mx\r\n250 8BITMIME\r\n"), sends("QUIT\r\n"));
    let (done, _) = bench.finish();
    assert_eq!(failure_exit(&done), Some(Exit::Unavailable));
    assert!(done.extensions_before_tls.is_some_and(|offers| offers.auth_mechanisms == ["PLAIN"]));
}

#[test]
fn h9_h11_and_h20_what_breaks_the_protocol_is_76() {
    for text in ["250-a\r\n550 b\r\n", "250 a\r\n250 b\r\n", "what?\r\n", "999 x\r\n", &"x".repeat(5_000)] {
        let mut bench = Harness::new(client_config(&["a@x.test"]));
        bench.server_sends("220 mx\r\n");
        assert_eq!(bench.server_sends(text), [ClientAction::Reset], "{text}");
        assert_eq!(failure_exit(&bench.finish().0), Some(Exit::Protocol), "{text}");
    }
}

#[test]
fn a_password_never_leaves_on_a_line_that_is_not_safe() {
    for (security, is_verified) in [(Security::Plain, true), (Security::Starttls, false)] {
        let mut bench = Harness::new(with_credentials(ClientConfig {
            security,
            verify_certificate: is_verified,
            ..client_config(&["a@x.test"])
        }));
        bench.server_sends("220 mx\r\n");
        let mut did = bench.server_sends("250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n");
        if security == Security::Starttls {
            bench.server_sends("220 go\r\n");
            bench.client.opened(Some("1.3"), bench.now, &mut bench.actions);
            bench.take_actions();
            did = bench.server_sends("250-mx\r\n250 AUTH PLAIN LOGIN\r\n");
        }
        assert_eq!(did, sends("QUIT\r\n"));
        assert_eq!(failure_exit(&bench.finish().0), Some(Exit::InvalidInput));
    }
}

/// A dialogue up to the reply to the dot.
fn after_final_dot() -> Harness {
    let mut bench = Harness::new(client_config(&["a@x.test"]));
    for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n", "250\r\n", "354\r\n"] {
        bench.server_sends(reply);
    }
    bench
}

#[test]
fn h13_to_h16_refusals_for_now_and_for_good() {
    for (reply, exit_code, outcome) in [
        ("552 5.3.4 too big\r\n", Exit::Unavailable, DeliveryOutcome::Refused),
        ("452 4.3.1 full\r\n", Exit::TemporaryFailure, DeliveryOutcome::Deferred),
        ("421 4.3.2 closing\r\n", Exit::TemporaryFailure, DeliveryOutcome::Deferred),
    ] {
        let mut bench = after_final_dot();
        bench.server_sends(reply);
        let (done, _) = bench.finish();
        assert_eq!((failure_exit(&done), outcomes(&done)), (Some(exit_code), vec![Some(outcome)]), "{reply}");
    }
    let mut bench = Harness::new(client_config(&["a@x.test", "b@x.test"]));
    for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n", "250\r\n"] {
        bench.server_sends(reply);
    }
    assert_eq!(bench.server_sends("421 4.3.2 closing\r\n"), [ClientAction::Reset]);
    assert_eq!(outcomes(&bench.finish().0), [Some(DeliveryOutcome::Deferred); 2]);
}

#[test]
fn h15_a_line_that_drops_after_the_dot_leaves_the_outcome_unknown() {
    for is_broken in [false, true] {
        let mut bench = after_final_dot();
        let end = if is_broken { CloseReason::Broken(Error::new(Exit::Io, "reset")) } else { CloseReason::Finished };
        bench.client.ended(&end, bench.now, &mut bench.actions);
        let (done, _) = bench.finish();
        assert_eq!(
            (failure_exit(&done), outcomes(&done)),
            (Some(Exit::OutcomeUnknown), vec![Some(DeliveryOutcome::Unknown)])
        );
    }
    let mut bench = Harness::new(client_config(&["a@x.test"]));
    for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n", "250\r\n"] {
        bench.server_sends(reply);
    }
    bench.client.ended(&CloseReason::Finished, bench.now, &mut bench.actions);
    let (done, _) = bench.finish();
    assert_eq!(
        (failure_exit(&done), outcomes(&done)),
        (Some(Exit::TemporaryFailure), vec![Some(DeliveryOutcome::Deferred)])
    );
}

#[test]
fn after_the_yes_to_the_dot_nothing_undoes_it() {
    let mut bench = after_final_dot();
    assert_eq!(bench.server_sends("250 2.0.0 queued\r\n"), sends("QUIT\r\n"));
    bench.client.ended(&CloseReason::Broken(Error::new(Exit::Io, "reset")), bench.now, &mut bench.actions);
    let (done, _) = bench.finish();
    assert!(done.failure.is_none() && outcomes(&done) == [Some(DeliveryOutcome::Accepted)]);
}

#[test]
fn h21_waits_have_the_limits_of_the_rfc() {
    let mut bench = Harness::new(client_config(&["a@x.test"]));
    assert_eq!(bench.client.wake_at(), Some(START + Duration::from_secs(300)));
    bench.client.woken(START + Duration::from_secs(300), &mut bench.actions);
    assert_eq!(bench.take_actions(), [ClientAction::Reset]);
    assert_eq!(failure_exit(&bench.finish().0), Some(Exit::TemporaryFailure));

    let mut bench = after_final_dot();
    assert_eq!(bench.client.wake_at(), Some(bench.now + Duration::from_secs(600)));
    bench.client.woken(bench.now + Duration::from_secs(600), &mut bench.actions);
    assert_eq!(failure_exit(&bench.finish().0), Some(Exit::OutcomeUnknown));
}

#[test]
fn h24_a_message_that_does_not_fit_stops_before_mail() {
    for (offers, message) in [("250 SIZE 100\r\n", vec![b'x'; 3_000]), ("250 SIZE\r\n", "ü".as_bytes().to_vec())] {
        let mut plan = client_config(&["a@x.test"]);
        plan.envelope = plan.envelope.map(|envelope| Envelope { message: message.into(), ..envelope });
        let mut bench = Harness::new(plan);
        bench.server_sends("220 mx\r\n");
        assert_eq!(bench.server_sends(&format!("250-mx\r\n{offers}")), sends("QUIT\r\n"));
        assert_eq!(failure_exit(&bench.finish().0), Some(Exit::InvalidInput));
    }
}

#[test]
fn an_old_server_is_greeted_with_helo_unless_more_is_wanted() {
    let mut bench = Harness::new(client_config(&["a@x.test"]));
    bench.server_sends("220 mx\r\n");
    assert_eq!(bench.server_sends("502 what?\r\n"), sends("HELO lab.test\r\n"));
    assert_eq!(bench.server_sends("250 mx\r\n"), sends("MAIL FROM:<me@x.test>\r\n"));
    let mut bench = Harness::new(with_credentials(client_config(&["a@x.test"])));
    bench.server_sends("220 mx\r\n");
    assert_eq!(bench.server_sends("502 what?\r\n"), sends("QUIT\r\n"));
}
