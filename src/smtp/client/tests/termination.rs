//! Ends of a session and the outcomes known then.

use super::{
    ClientAction, EHLO_REPLY, Fixture, after_final_dot, client_config, failure_kind, outcomes, sends, with_credentials,
};
use crate::failure::{Failure, FailureKind};
use crate::protocol::{CloseReason, StreamProtocol as _, Turn};
use crate::smtp::client::config::{ClientConfig, DeliveryOutcome, Security, SessionResult};
use crate::smtp::stage::Stage;

/// Codes of the replies that decided the outcomes.
fn reply_codes(result: &SessionResult) -> Vec<Option<u16>> {
    result.recipients.iter().map(|recipient| recipient.reply.as_ref().map(|reply| reply.code)).collect()
}

/// Offers received bytes to the client and keeps the rest, as a connection does.
fn feed(harness: &mut Fixture, received: &mut Vec<u8>) {
    loop {
        let taken = harness.client.received(received, harness.now, &mut harness.actions);
        received.drain(..taken);
        if taken == 0 || received.is_empty() {
            break;
        }
    }
    harness.client.sent(harness.now, &mut harness.actions);
    harness.take_actions();
}

#[test]
fn all_or_nothing_sends_no_message_if_a_recipient_is_rejected() {
    for (reply, outcome) in [("550", DeliveryOutcome::Rejected), ("451", DeliveryOutcome::Deferred)] {
        let mut harness =
            Fixture::new(ClientConfig { all_or_nothing: true, ..client_config(&["a@x.test", "b@x.test"]) });
        harness.server_sends("220 mx\r\n");
        harness.server_sends(EHLO_REPLY);
        assert_eq!(harness.server_sends(&format!("250\r\n250\r\n{reply}\r\n")), sends("QUIT\r\n"));
        assert_eq!(outcomes(&harness.finish().0), [None, Some(outcome)], "an accepted recipient receives nothing");
    }
}

#[test]
fn a_rejected_sender_decides_all_recipients() {
    let rejected = |tail: &str| {
        let mut harness = Fixture::new(client_config(&["a@x.test", "b@x.test"]));
        harness.server_sends("220 mx\r\n");
        harness.server_sends(EHLO_REPLY);
        let actions = harness.server_sends(&format!("550 5.1.8 no\r\n{tail}"));
        (harness, actions)
    };
    let (harness, actions) = rejected("503 bad sequence\r\n503 bad sequence\r\n");
    assert_eq!(actions, sends("QUIT\r\n"));
    let (mut closed, _) = rejected("503 bad sequence\r\n");
    closed.client.ended(&CloseReason::Finished, closed.now, &mut closed.actions);
    for harness in [harness, closed] {
        let (result, _) = harness.finish();
        assert_eq!(
            (failure_kind(&result), outcomes(&result)),
            (Some(FailureKind::Rejected), vec![Some(DeliveryOutcome::Rejected); 2])
        );
        assert_eq!((result.stage, reply_codes(&result)), (Stage::Mail, vec![Some(550); 2]));
    }
}

#[test]
fn a_rejection_in_the_middle_of_the_message_counts() {
    for (reply, outcome) in
        [("552 5.3.4 enough", DeliveryOutcome::Rejected), ("452 4.3.1 full", DeliveryOutcome::Deferred)]
    {
        let mut harness = Fixture::new(client_config(&["a@x.test"]));
        for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n", "250\r\n"] {
            harness.server_sends(reply);
        }
        harness.client.received(b"354\r\n", harness.now, &mut harness.actions);
        harness.take_actions();
        harness.client.received(format!("{reply}\r\n").as_bytes(), harness.now, &mut harness.actions);
        assert_eq!(harness.take_actions(), [ClientAction::Reset]);
        let (result, _) = harness.finish();
        assert_eq!((outcomes(&result), result.stage), (vec![Some(outcome)], Stage::Body), "{reply}");
        assert!(result.failure.is_some_and(|error| error.message().contains(reply)));
    }
}

#[test]
fn the_reply_to_the_dot_counts_wherever_the_packets_split() {
    for reply in ["250 ok\r\n421 bye\r\n", "250 ok\r\n250 what?\r\n", "250 ok\r\nx\r\n", "250 ok\r\n4", "250 ok\r\n2"] {
        for split in 0..=reply.len() {
            let mut harness = after_final_dot();
            let mut received = Vec::new();
            for piece in [&reply[..split], &reply[split..]] {
                received.extend_from_slice(piece.as_bytes());
                feed(&mut harness, &mut received);
            }
            harness.client.ended(&CloseReason::Finished, harness.now, &mut harness.actions);
            let (result, _) = harness.finish();
            assert_eq!(
                (failure_kind(&result), outcomes(&result)),
                (None, vec![Some(DeliveryOutcome::Accepted)]),
                "{reply:?} {split}"
            );
        }
    }
    let strict = |config: ClientConfig| {
        let mut config = config;
        config.requested_extensions.strict = true;
        config
    };
    let mut harness = Fixture::new(strict(client_config(&["a@x.test"])));
    for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n", "250\r\n", "354\r\n", "250 ok\r\n250 what?\r\n"] {
        harness.server_sends(reply);
    }
    let (result, _) = harness.finish();
    assert_eq!(
        (failure_kind(&result), outcomes(&result)),
        (Some(FailureKind::Protocol), vec![Some(DeliveryOutcome::Accepted)])
    );
}

#[test]
fn an_abort_keeps_known_outcomes() {
    let abort = |mut harness: Fixture, code: FailureKind| {
        harness
            .client
            .abort(Failure::new(code, "enough"), &mut Turn { now: harness.now, actions: &mut harness.actions });
        let (result, _) = harness.finish();
        (failure_kind(&result), outcomes(&result), reply_codes(&result))
    };
    for code in [FailureKind::Interrupted, FailureKind::TimedOut] {
        let unknown = (Some(FailureKind::OutcomeUnknown), vec![Some(DeliveryOutcome::Unknown)], vec![None]);
        assert_eq!(abort(after_final_dot(), code), unknown, "the final dot was sent");
        let mut harness = after_final_dot();
        harness.server_sends("250 ok\r\n");
        assert_eq!(
            abort(harness, code),
            (None, vec![Some(DeliveryOutcome::Accepted)], vec![Some(250)]),
            "only QUIT is left"
        );
    }
    let mut harness = Fixture::new(client_config(&["a@x.test"]));
    harness.server_sends("220 mx\r\n");
    assert_eq!(abort(harness, FailureKind::Interrupted), (Some(FailureKind::Interrupted), vec![None], vec![None]));
}

#[test]
fn stop_after_ends_the_session_before_the_next_stage() {
    let all = [Stage::Banner, Stage::Ehlo, Stage::Tls, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Data];
    let verbs = ["EHLO", "AUTH", "MAIL", "RCPT", "DATA", "Subject"];
    for (stage, command_count) in all.into_iter().zip([0, 1, 1, 2, 3, 4, 5]) {
        for has_login in [false, true] {
            let mut config = ClientConfig { stop_after: Some(stage), ..client_config(&["a@x.test"]) };
            if has_login {
                config = with_credentials(config);
                config.credentials = config
                    .credentials
                    .map(|login| crate::smtp::client::config::Credentials { allow_cleartext: true, ..login });
            }
            let mut harness = Fixture::new(config);
            let mut actions = harness.server_sends("220 mx\r\n");
            actions.extend(harness.server_sends("250-mx\r\n250 AUTH PLAIN\r\n"));
            if has_login && command_count > 1 {
                actions.extend(harness.server_sends("235 in\r\n"));
            }
            ["250\r\n", "250\r\n", "354\r\n", "250\r\n"]
                .iter()
                .take(command_count.max(2) - 2)
                .for_each(|reply| actions.extend(harness.server_sends(reply)));
            let wire = format!("{actions:?}");
            for (index, verb) in verbs.iter().enumerate() {
                let is_sent = index < command_count && (*verb != "AUTH" || has_login);
                assert_eq!(wire.contains(verb), is_sent, "{stage} {has_login} {verb}: {wire}");
            }
            assert!(matches!(actions.last(), Some(ClientAction::Reset)) || wire.contains("QUIT"), "{stage}: {wire}");
            let (result, _) = harness.finish();
            assert_eq!(
                (failure_kind(&result), outcomes(&result)),
                (None, vec![None]),
                "{stage}: no recipient received the message"
            );
        }
    }
    let mut harness = Fixture::new(ClientConfig { envelope: None, ..client_config(&[]) });
    harness.server_sends("220 mx\r\n");
    assert_eq!(harness.server_sends(EHLO_REPLY), sends("QUIT\r\n"));
}

#[test]
fn every_prefix_and_every_split_of_a_session_has_the_same_result() {
    // One reply arrives at a time, because a server may not send a reply before its command.
    let replies = ["220 mx\r\n", EHLO_REPLY, "250 a\r\n250 b\r\n", "354\r\n", "250 ok\r\n", "221\r\n"];
    let outcome = |stop: usize, pieces: usize| {
        let mut harness = Fixture::new(client_config(&["a@x.test"]));
        let mut left = stop;
        for reply in replies {
            let mut received = Vec::new();
            for piece in reply.as_bytes()[..reply.len().min(left)].chunks(pieces) {
                received.extend_from_slice(piece);
                feed(&mut harness, &mut received);
            }
            left -= reply.len().min(left);
        }
        harness.client.ended(&CloseReason::Finished, harness.now, &mut harness.actions);
        let (result, shown) = harness.finish();
        (failure_kind(&result), outcomes(&result), shown)
    };
    let whole: usize = replies.iter().map(|reply| reply.len()).sum();
    let dot = whole - "250 ok\r\n221\r\n".len();
    for stop in 0..=whole {
        let once = outcome(stop, whole);
        let expected = match stop {
            _ if stop < dot => (Some(FailureKind::ConnectionLost), Some(DeliveryOutcome::Deferred)),
            _ if stop < dot + "250 ok\r\n".len() => (Some(FailureKind::OutcomeUnknown), Some(DeliveryOutcome::Unknown)),
            _ => (None, Some(DeliveryOutcome::Accepted)),
        };
        assert_eq!((once.0, once.1.clone()), (expected.0, vec![expected.1]), "{stop}");
        for pieces in 1..8 {
            assert_eq!(outcome(stop, pieces), once, "{stop} in pieces of {pieces}");
        }
    }
}

#[test]
fn the_reply_to_quit_changes_no_outcome() {
    for (reply, outcome) in [("550 no\r\n", DeliveryOutcome::Rejected), ("451 later\r\n", DeliveryOutcome::Deferred)] {
        let mut harness = Fixture::new(client_config(&["a@x.test"]));
        for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n"] {
            harness.server_sends(reply);
        }
        assert_eq!(harness.server_sends(reply), sends("QUIT\r\n"));
        assert_eq!(harness.server_sends("what?\r\n"), [ClientAction::Closed]);
        let (result, _) = harness.finish();
        assert_eq!((failure_kind(&result), outcomes(&result)), (None, vec![Some(outcome)]));
    }
}

#[test]
fn a_client_that_stops_decides_no_outcome() {
    let mut harness = Fixture::new(ClientConfig { security: Security::Starttls, ..client_config(&["a@x.test"]) });
    harness.server_sends("220 mx\r\n");
    assert_eq!(harness.server_sends("250 mx\r\n"), sends("QUIT\r\n"));
    let (result, _) = harness.finish();
    assert_eq!((failure_kind(&result), outcomes(&result)), (Some(FailureKind::StarttlsNotOffered), vec![None]));
}

#[test]
fn a_stop_after_mixed_replies_keeps_their_outcomes() {
    let mut harness =
        Fixture::new(ClientConfig { stop_after: Some(Stage::Rcpt), ..client_config(&["a@x.test", "b@x.test"]) });
    harness.server_sends("220 mx\r\n");
    harness.server_sends(EHLO_REPLY);
    assert_eq!(harness.server_sends("250\r\n250\r\n550\r\n"), sends("QUIT\r\n"));
    let (result, _) = harness.finish();
    assert_eq!(outcomes(&result), [None, Some(DeliveryOutcome::Rejected)]);
}
