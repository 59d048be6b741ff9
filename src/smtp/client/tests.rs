//! Client session against scripted servers; h1 to h24 are the hostile transcripts that need no socket.

use super::{ClientEvent, ClientSession};
use crate::failure::{Failure, FailureKind};
use crate::mac::Secret;
use crate::protocol::{Action, Actions, CloseReason, StreamProtocol};
use crate::smtp::client::config::{
    ClientConfig, Credentials, DeliveryOutcome, Envelope, RequestedExtensions, Security, SessionResult,
};
use crate::smtp::stage::Stage;
use crate::time::Moment;
use std::time::Duration;

mod login;
mod termination;
mod transactions;

const START: Moment = Moment::new(Duration::from_secs(5), Duration::from_secs(1_764_000_000));
const EHLO_REPLY: &str = "250-mx.test\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n";

/// Configuration with these recipients, without TLS and login.
pub(crate) fn client_config(recipients: &[&str]) -> ClientConfig {
    let envelope = Envelope {
        from: Some("me@x.test".parse().expect("an address")),
        recipients: recipients.iter().map(|to| to.parse().expect("an address")).collect(),
        message: (*b"Subject: hi\r\n\r\n.dot\r\n").into(),
        ascii_message: None,
    };
    ClientConfig {
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

struct Fixture {
    client: ClientSession,
    actions: Actions<ClientEvent>,
    now: Moment,
    sent_lines: Vec<String>,
}

/// Action of the client in response.
#[derive(Debug, PartialEq, Eq)]
enum ClientAction {
    Sent(String),
    StartTls,
    Closed,
    Reset,
}

impl Fixture {
    fn new(config: ClientConfig) -> Self {
        let mut harness = Self {
            client: ClientSession::new(config, START),
            actions: Actions::default(),
            now: START,
            sent_lines: Vec::new(),
        };
        harness.client.opened(None, START, &mut harness.actions);
        assert_eq!(harness.take_actions(), []);
        harness
    }

    fn take_actions(&mut self) -> Vec<ClientAction> {
        self.sent_lines.extend(
            self.actions
                .events()
                .filter_map(|event| if let ClientEvent::CommandSent(line) = event { Some(line) } else { None }),
        );
        let (queued, bytes) = self.actions.queued();
        let mut at = 0;
        let mut actions = Vec::new();
        for action in queued.drain(..) {
            match action {
                Action::Bytes(length) => {
                    actions.push(ClientAction::Sent(String::from_utf8_lossy(&bytes[at..at + length]).into_owned()));
                    at += length;
                }
                Action::StartTls => actions.push(ClientAction::StartTls),
                Action::Close => actions.push(ClientAction::Closed),
                Action::Reset => actions.push(ClientAction::Reset),
                Action::File { .. } => unreachable!("no files"),
            }
        }
        bytes.clear();
        actions
    }

    /// Delivers bytes of the server at once and returns the actions of the client.
    fn server_sends(&mut self, text: &str) -> Vec<ClientAction> {
        self.now = self.now + Duration::from_millis(1);
        let mut rest = text.as_bytes();
        let mut actions = Vec::new();
        loop {
            let taken = self.client.received(rest, self.now, &mut self.actions);
            rest = &rest[taken..];
            actions.extend(self.take_actions());
            if rest.is_empty() || taken == 0 {
                break;
            }
        }
        self.client.sent(self.now, &mut self.actions);
        actions.extend(self.take_actions());
        actions
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

fn failure_kind(result: &SessionResult) -> Option<FailureKind> {
    result.failure.as_ref().map(Failure::kind)
}

#[test]
fn a_message_is_delivered_with_pipelining() {
    let mut harness = Fixture::new(client_config(&["a@x.test", "b@x.test"]));
    assert_eq!(harness.server_sends("220 mx.test\r\n"), sends("EHLO lab.test\r\n"));
    assert_eq!(
        harness.server_sends(EHLO_REPLY),
        sends("MAIL FROM:<me@x.test> SIZE=21\r\nRCPT TO:<a@x.test>\r\nRCPT TO:<b@x.test>\r\n")
    );
    assert_eq!(harness.server_sends("250 ok\r\n250 ok\r\n550 5.1.1 no such user\r\n"), sends("DATA\r\n"));
    assert_eq!(harness.server_sends("354 go\r\n"), sends("Subject: hi\r\n\r\n..dot\r\n.\r\n"));
    assert_eq!(harness.server_sends("250 2.0.0 queued\r\n"), sends("QUIT\r\n"));
    assert_eq!(harness.server_sends("221 bye\r\n"), [ClientAction::Closed]);
    let (result, _) = harness.finish();
    assert_eq!(outcomes(&result), [Some(DeliveryOutcome::Accepted), Some(DeliveryOutcome::Rejected)]);
    assert!(result.failure.is_none());
    assert_eq!(result.recipients[1].reply.as_ref().and_then(crate::smtp::Reply::enhanced_status), Some((5, 1, 1)));
}

#[test]
fn without_pipelining_each_command_waits_for_its_reply() {
    let mut harness = Fixture::new(client_config(&["a@x.test", "b@x.test"]));
    harness.server_sends("220\r\n");
    assert_eq!(harness.server_sends("250\r\n"), sends("MAIL FROM:<me@x.test>\r\n"));
    assert_eq!(harness.server_sends("250\r\n"), sends("RCPT TO:<a@x.test>\r\n"));
    assert_eq!(harness.server_sends("250\r\n"), sends("RCPT TO:<b@x.test>\r\n"));
    assert_eq!(harness.server_sends("451 4.7.1 greylisted\r\n"), sends("DATA\r\n"));
    harness.server_sends("354\r\n");
    harness.server_sends("250\r\n");
    let (result, _) = harness.finish();
    assert_eq!(outcomes(&result), [Some(DeliveryOutcome::Accepted), Some(DeliveryOutcome::Deferred)]);
}

#[test]
fn h1_and_h2_bytes_after_the_220_to_starttls_end_the_session() {
    for extra in ["250-mx.test\r\n250 AUTH PLAIN\r\n", "250-AUTH PLAIN "] {
        let mut harness = Fixture::new(with_credentials(ClientConfig {
            security: Security::Starttls,
            ..client_config(&["a@x.test"])
        }));
        harness.server_sends("220 mx\r\n");
        assert_eq!(harness.server_sends("250-mx.test\r\n250 STARTTLS\r\n"), sends("STARTTLS\r\n"));
        assert_eq!(harness.server_sends(&format!("220 go\r\n{extra}")), [ClientAction::Reset]);
        let (result, shown) = harness.finish();
        assert_eq!((failure_kind(&result), result.stage), (Some(FailureKind::Protocol), Stage::Starttls));
        assert!(!shown.iter().any(|line| line.starts_with("AUTH")), "{shown:?}");
    }
}

#[test]
fn h3_and_h4_without_starttls_nothing_is_sent() {
    for (offers, code) in [
        ("250 AUTH PLAIN\r\n", FailureKind::StarttlsNotOffered),
        ("250-mx\r\n250 starttls\r\n", FailureKind::RejectedTemporarily),
    ] {
        let mut harness = Fixture::new(with_credentials(ClientConfig {
            security: Security::Starttls,
            ..client_config(&["a@x.test"])
        }));
        harness.server_sends("220 mx\r\n");
        if harness.server_sends(&format!("250-mx\r\n{offers}")) == sends("STARTTLS\r\n") {
            assert_eq!(harness.server_sends("454 4.7.0 not now\r\n"), sends("QUIT\r\n"));
        }
        let (result, shown) = harness.finish();
        assert_eq!(failure_kind(&result), Some(code));
        assert!(shown.iter().all(|line| !line.contains("AUTH") && !line.contains("MAIL")), "{shown:?}");
    }
}

#[test]
fn h6_after_tls_only_the_second_ehlo_counts() {
    let mut harness =
        Fixture::new(with_credentials(ClientConfig { security: Security::Starttls, ..client_config(&["a@x.test"]) }));
    harness.server_sends("220 mx\r\n");
    harness.server_sends("250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n");
    assert_eq!(harness.server_sends("220 go\r\n"), [ClientAction::StartTls]);
    harness.client.opened(Some("1.3"), harness.now, &mut harness.actions);
    assert_eq!(harness.take_actions(), sends("EHLO lab.test\r\n"));
    assert_eq!(harness.server_sends("250-mx\r\n250 8BITMIME\r\n"), sends("QUIT\r\n"));
    let (result, _) = harness.finish();
    assert_eq!(failure_kind(&result), Some(FailureKind::LoginNotOffered));
    assert!(result.extensions_before_tls.is_some_and(|offers| offers.auth_mechanisms == ["PLAIN"]));
}

#[test]
fn h9_h11_and_h20_protocol_violations_are_exit_76() {
    for text in ["250-a\r\n550 b\r\n", "250 a\r\n250 b\r\n", "what?\r\n", "999 x\r\n", &"x".repeat(5_000)] {
        let mut harness = Fixture::new(client_config(&["a@x.test"]));
        harness.server_sends("220 mx\r\n");
        assert_eq!(harness.server_sends(text), [ClientAction::Reset], "{text}");
        assert_eq!(failure_kind(&harness.finish().0), Some(FailureKind::Protocol), "{text}");
    }
}

#[test]
fn a_password_is_never_sent_on_an_insecure_connection() {
    for (security, is_verified) in [(Security::Plain, true), (Security::Starttls, false)] {
        let mut harness = Fixture::new(with_credentials(ClientConfig {
            security,
            verify_certificate: is_verified,
            ..client_config(&["a@x.test"])
        }));
        harness.server_sends("220 mx\r\n");
        let mut actions = harness.server_sends("250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n");
        if security == Security::Starttls {
            harness.server_sends("220 go\r\n");
            harness.client.opened(Some("1.3"), harness.now, &mut harness.actions);
            harness.take_actions();
            actions = harness.server_sends("250-mx\r\n250 AUTH PLAIN LOGIN\r\n");
        }
        assert_eq!(actions, sends("QUIT\r\n"));
        assert_eq!(failure_kind(&harness.finish().0), Some(FailureKind::UnsafeLogin));
    }
}

/// Session that waits for the reply to the final dot.
fn after_final_dot() -> Fixture {
    let mut harness = Fixture::new(client_config(&["a@x.test"]));
    for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n", "250\r\n", "354\r\n"] {
        harness.server_sends(reply);
    }
    harness
}

#[test]
fn h13_to_h16_temporary_and_permanent_rejections() {
    for (reply, exit_code, outcome) in [
        ("552 5.3.4 too big\r\n", FailureKind::Rejected, DeliveryOutcome::Rejected),
        ("452 4.3.1 full\r\n", FailureKind::RejectedTemporarily, DeliveryOutcome::Deferred),
        ("421 4.3.2 closing\r\n", FailureKind::RejectedTemporarily, DeliveryOutcome::Deferred),
    ] {
        let mut harness = after_final_dot();
        harness.server_sends(reply);
        let (result, _) = harness.finish();
        assert_eq!((failure_kind(&result), outcomes(&result)), (Some(exit_code), vec![Some(outcome)]), "{reply}");
    }
    let mut harness = Fixture::new(client_config(&["a@x.test", "b@x.test"]));
    for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n", "250\r\n"] {
        harness.server_sends(reply);
    }
    assert_eq!(harness.server_sends("421 4.3.2 closing\r\n"), [ClientAction::Reset]);
    assert_eq!(outcomes(&harness.finish().0), [Some(DeliveryOutcome::Deferred); 2]);
}

#[test]
fn h15_a_connection_lost_after_the_dot_leaves_the_outcome_unknown() {
    for is_broken in [false, true] {
        let mut harness = after_final_dot();
        let end = if is_broken {
            CloseReason::Broken(Failure::new(FailureKind::ReadWrite, "reset"))
        } else {
            CloseReason::Finished
        };
        harness.client.ended(&end, harness.now, &mut harness.actions);
        let (result, _) = harness.finish();
        assert_eq!(
            (failure_kind(&result), outcomes(&result)),
            (Some(FailureKind::OutcomeUnknown), vec![Some(DeliveryOutcome::Unknown)])
        );
    }
    let mut harness = Fixture::new(client_config(&["a@x.test"]));
    for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n", "250\r\n"] {
        harness.server_sends(reply);
    }
    harness.client.ended(&CloseReason::Finished, harness.now, &mut harness.actions);
    let (result, _) = harness.finish();
    assert_eq!(
        (failure_kind(&result), outcomes(&result)),
        (Some(FailureKind::ConnectionLost), vec![Some(DeliveryOutcome::Deferred)])
    );
}

#[test]
fn nothing_after_the_reply_to_the_dot_changes_an_acceptance() {
    let mut harness = after_final_dot();
    assert_eq!(harness.server_sends("250 2.0.0 queued\r\n"), sends("QUIT\r\n"));
    harness.client.ended(
        &CloseReason::Broken(Failure::new(FailureKind::ReadWrite, "reset")),
        harness.now,
        &mut harness.actions,
    );
    let (result, _) = harness.finish();
    assert!(result.failure.is_none() && outcomes(&result) == [Some(DeliveryOutcome::Accepted)]);
}

#[test]
fn h21_reply_timeouts_are_those_of_the_rfc() {
    let mut harness = Fixture::new(client_config(&["a@x.test"]));
    assert_eq!(harness.client.wake_at(), Some(START + Duration::from_secs(300)));
    harness.client.woken(START + Duration::from_secs(300), &mut harness.actions);
    assert_eq!(harness.take_actions(), [ClientAction::Reset]);
    assert_eq!(failure_kind(&harness.finish().0), Some(FailureKind::NoGreeting));

    let mut harness = after_final_dot();
    assert_eq!(harness.client.wake_at(), Some(harness.now + Duration::from_secs(600)));
    harness.client.woken(harness.now + Duration::from_secs(600), &mut harness.actions);
    assert_eq!(failure_kind(&harness.finish().0), Some(FailureKind::OutcomeUnknown));
}

#[test]
fn h24_a_message_over_the_size_limit_stops_before_mail() {
    for (offers, message) in [("250 SIZE 100\r\n", vec![b'x'; 3_000]), ("250 SIZE\r\n", "ü".as_bytes().to_vec())] {
        let mut config = client_config(&["a@x.test"]);
        config.envelope = config.envelope.map(|envelope| Envelope { message: message.into(), ..envelope });
        let mut harness = Fixture::new(config);
        harness.server_sends("220 mx\r\n");
        assert_eq!(harness.server_sends(&format!("250-mx\r\n{offers}")), sends("QUIT\r\n"));
        assert_eq!(failure_kind(&harness.finish().0), Some(FailureKind::InvalidMessage));
    }
}

#[test]
fn an_old_server_gets_helo_unless_tls_or_auth_is_required() {
    let mut harness = Fixture::new(client_config(&["a@x.test"]));
    harness.server_sends("220 mx\r\n");
    assert_eq!(harness.server_sends("502 what?\r\n"), sends("HELO lab.test\r\n"));
    assert_eq!(harness.server_sends("250 mx\r\n"), sends("MAIL FROM:<me@x.test>\r\n"));
    let mut harness = Fixture::new(with_credentials(client_config(&["a@x.test"])));
    harness.server_sends("220 mx\r\n");
    assert_eq!(harness.server_sends("502 what?\r\n"), sends("QUIT\r\n"));
}
