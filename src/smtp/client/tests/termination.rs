//! Where a dialogue ends, and what is known then.

use super::{
    ClientAction, EHLO_REPLY, Harness, after_final_dot, client_config, failure_exit, outcomes, sends, with_credentials,
};
use crate::error::Error;
use crate::exit::Exit;
use crate::protocol::{CloseReason, StreamProtocol as _};
use crate::smtp::client::config::{ClientConfig, DeliveryOutcome, Security, SessionResult};
use crate::smtp::stage::Stage;

/// The codes of the replies that decided.
fn reply_codes(result: &SessionResult) -> Vec<Option<u16>> {
    result.recipients.iter().map(|recipient| recipient.reply.as_ref().map(|reply| reply.code)).collect()
}

/// Lets the client take what it wants of what came; the rest is offered again, as a link does.
fn feed(harness: &mut Harness, received: &mut Vec<u8>) {
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
fn all_or_nothing_sends_to_nobody_if_one_is_refused() {
    for (reply, outcome) in [("550", DeliveryOutcome::Refused), ("451", DeliveryOutcome::Deferred)] {
        let mut bench = Harness::new(ClientConfig { all_or_nothing: true, ..client_config(&["a@x.test", "b@x.test"]) });
        bench.server_sends("220 mx\r\n");
        bench.server_sends(EHLO_REPLY);
        assert_eq!(bench.server_sends(&format!("250\r\n250\r\n{reply}\r\n")), sends("QUIT\r\n"));
        assert_eq!(outcomes(&bench.finish().0), [None, Some(outcome)], "who would have been accepted has not got it");
    }
}

#[test]
fn a_refused_sender_decides_about_the_recipients_whatever_is_said_of_them() {
    let refused = |tail: &str| {
        let mut bench = Harness::new(client_config(&["a@x.test", "b@x.test"]));
        bench.server_sends("220 mx\r\n");
        bench.server_sends(EHLO_REPLY);
        let did = bench.server_sends(&format!("550 5.1.8 no\r\n{tail}"));
        (bench, did)
    };
    let (bench, did) = refused("503 bad sequence\r\n503 bad sequence\r\n");
    assert_eq!(did, sends("QUIT\r\n"));
    let (mut gone, _) = refused("503 bad sequence\r\n");
    gone.client.ended(&CloseReason::Finished, gone.now, &mut gone.actions);
    for bench in [bench, gone] {
        let (done, _) = bench.finish();
        assert_eq!(
            (failure_exit(&done), outcomes(&done)),
            (Some(Exit::Unavailable), vec![Some(DeliveryOutcome::Refused); 2])
        );
        assert_eq!((done.stage, reply_codes(&done)), (Stage::Mail, vec![Some(550); 2]));
    }
}

#[test]
fn a_no_in_the_middle_of_the_message_is_a_no() {
    for (reply, outcome) in
        [("552 5.3.4 enough", DeliveryOutcome::Refused), ("452 4.3.1 full", DeliveryOutcome::Deferred)]
    {
        let mut bench = Harness::new(client_config(&["a@x.test"]));
        for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n", "250\r\n"] {
            bench.server_sends(reply);
        }
        bench.client.received(b"354\r\n", bench.now, &mut bench.actions);
        bench.take_actions();
        bench.client.received(format!("{reply}\r\n").as_bytes(), bench.now, &mut bench.actions);
        assert_eq!(bench.take_actions(), [ClientAction::Reset]);
        let (done, _) = bench.finish();
        assert_eq!((outcomes(&done), done.stage), (vec![Some(outcome)], Stage::Body), "{reply}");
        assert!(done.failure.is_some_and(|error| error.message().contains(reply)));
    }
}

#[test]
fn the_reply_to_the_dot_counts_wherever_the_packets_split() {
    for reply in ["250 ok\r\n421 bye\r\n", "250 ok\r\n250 what?\r\n", "250 ok\r\nx\r\n", "250 ok\r\n4", "250 ok\r\n2"] {
        for split in 0..=reply.len() {
            let mut bench = after_final_dot();
            let mut inbox = Vec::new();
            for piece in [&reply[..split], &reply[split..]] {
                inbox.extend_from_slice(piece.as_bytes());
                feed(&mut bench, &mut inbox);
            }
            bench.client.ended(&CloseReason::Finished, bench.now, &mut bench.actions);
            let (done, _) = bench.finish();
            assert_eq!(
                (failure_exit(&done), outcomes(&done)),
                (None, vec![Some(DeliveryOutcome::Accepted)]),
                "{reply:?} {split}"
            );
        }
    }
    let strict = |plan: ClientConfig| {
        let mut plan = plan;
        plan.requested_extensions.strict = true;
        plan
    };
    let mut bench = Harness::new(strict(client_config(&["a@x.test"])));
    for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n", "250\r\n", "354\r\n", "250 ok\r\n250 what?\r\n"] {
        bench.server_sends(reply);
    }
    let (done, _) = bench.finish();
    assert_eq!((failure_exit(&done), outcomes(&done)), (Some(Exit::Protocol), vec![Some(DeliveryOutcome::Accepted)]));
}

#[test]
fn who_gives_up_keeps_what_is_known() {
    let given_up = |mut bench: Harness, code: Exit| {
        bench.client.abort(Error::new(code, "enough"), bench.now, &mut bench.actions);
        let (done, _) = bench.finish();
        (failure_exit(&done), outcomes(&done), reply_codes(&done))
    };
    for code in [Exit::Interrupted, Exit::TemporaryFailure] {
        let unknown = (Some(Exit::OutcomeUnknown), vec![Some(DeliveryOutcome::Unknown)], vec![None]);
        assert_eq!(given_up(after_final_dot(), code), unknown, "the dot is out");
        let mut bench = after_final_dot();
        bench.server_sends("250 ok\r\n");
        assert_eq!(
            given_up(bench, code),
            (None, vec![Some(DeliveryOutcome::Accepted)], vec![Some(250)]),
            "only QUIT is left"
        );
    }
    let mut bench = Harness::new(client_config(&["a@x.test"]));
    bench.server_sends("220 mx\r\n");
    assert_eq!(given_up(bench, Exit::Interrupted), (Some(Exit::Interrupted), vec![None], vec![None]));
}

#[test]
fn a_plan_may_stop_after_a_stage_and_says_nothing_of_a_later_one() {
    let all = [Stage::Banner, Stage::Ehlo, Stage::Tls, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Data];
    let verbs = ["EHLO", "AUTH", "MAIL", "RCPT", "DATA", "Subject"];
    for (stage, said) in all.into_iter().zip([0, 1, 1, 2, 3, 4, 5]) {
        for logs_in in [false, true] {
            let mut plan = ClientConfig { stop_after: Some(stage), ..client_config(&["a@x.test"]) };
            if logs_in {
                plan = with_credentials(plan);
                plan.credentials = plan
                    .credentials
                    .map(|login| crate::smtp::client::config::Credentials { allow_cleartext: true, ..login });
            }
            let mut bench = Harness::new(plan);
            let mut did = bench.server_sends("220 mx\r\n");
            did.extend(bench.server_sends("250-mx\r\n250 AUTH PLAIN\r\n"));
            if logs_in && said > 1 {
                did.extend(bench.server_sends("235 in\r\n"));
            }
            ["250\r\n", "250\r\n", "354\r\n", "250\r\n"]
                .iter()
                .take(said.max(2) - 2)
                .for_each(|reply| did.extend(bench.server_sends(reply)));
            let wire = format!("{did:?}");
            for (place, verb) in verbs.iter().enumerate() {
                let is_said = place < said && (*verb != "AUTH" || logs_in);
                assert_eq!(wire.contains(verb), is_said, "{stage} {logs_in} {verb}: {wire}");
            }
            assert!(matches!(did.last(), Some(ClientAction::Reset)) || wire.contains("QUIT"), "{stage}: {wire}");
            let (done, _) = bench.finish();
            assert_eq!((failure_exit(&done), outcomes(&done)), (None, vec![None]), "{stage}: nobody got anything");
        }
    }
    let mut bench = Harness::new(ClientConfig { envelope: None, ..client_config(&[]) });
    bench.server_sends("220 mx\r\n");
    assert_eq!(bench.server_sends(EHLO_REPLY), sends("QUIT\r\n"));
}

#[test]
fn every_prefix_and_every_split_of_a_dialogue_leads_to_the_same_end() {
    // One reply comes at a time, as no server may say the next one before it was asked for it.
    let replies = ["220 mx\r\n", EHLO_REPLY, "250 a\r\n250 b\r\n", "354\r\n", "250 ok\r\n", "221\r\n"];
    let outcome = |stop: usize, pieces: usize| {
        let mut bench = Harness::new(client_config(&["a@x.test"]));
        let mut left = stop;
        for reply in replies {
            let mut inbox = Vec::new();
            for piece in reply.as_bytes()[..reply.len().min(left)].chunks(pieces) {
                inbox.extend_from_slice(piece);
                feed(&mut bench, &mut inbox);
            }
            left -= reply.len().min(left);
        }
        bench.client.ended(&CloseReason::Finished, bench.now, &mut bench.actions);
        let (done, shown) = bench.finish();
        (failure_exit(&done), outcomes(&done), shown)
    };
    let whole: usize = replies.iter().map(|reply| reply.len()).sum();
    let dot = whole - "250 ok\r\n221\r\n".len();
    for stop in 0..=whole {
        let once = outcome(stop, whole);
        let expected = match stop {
            _ if stop < dot => (Some(Exit::TemporaryFailure), Some(DeliveryOutcome::Deferred)),
            _ if stop < dot + "250 ok\r\n".len() => (Some(Exit::OutcomeUnknown), Some(DeliveryOutcome::Unknown)),
            _ => (None, Some(DeliveryOutcome::Accepted)),
        };
        assert_eq!((once.0, once.1.clone()), (expected.0, vec![expected.1]), "{stop}");
        for pieces in 1..8 {
            assert_eq!(outcome(stop, pieces), once, "{stop} in pieces of {pieces}");
        }
    }
}

#[test]
fn an_answer_to_quit_makes_nothing_worse() {
    for (reply, code) in [("550 no\r\n", Exit::Unavailable), ("451 later\r\n", Exit::TemporaryFailure)] {
        let mut bench = Harness::new(client_config(&["a@x.test"]));
        for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n"] {
            bench.server_sends(reply);
        }
        assert_eq!(bench.server_sends(reply), sends("QUIT\r\n"));
        assert_eq!(bench.server_sends("what?\r\n"), [ClientAction::Closed]);
        let (done, _) = bench.finish();
        assert_eq!((failure_exit(&done), crate::smtp::exit_for_recipients(&done.recipients)), (None, code));
    }
}

#[test]
fn where_we_go_no_further_nothing_is_decided_about_anybody() {
    let mut bench = Harness::new(ClientConfig { security: Security::Starttls, ..client_config(&["a@x.test"]) });
    bench.server_sends("220 mx\r\n");
    assert_eq!(bench.server_sends("250 mx\r\n"), sends("QUIT\r\n"));
    let (done, _) = bench.finish();
    assert_eq!((failure_exit(&done), outcomes(&done)), (Some(Exit::Unavailable), vec![None]));
}

#[test]
fn a_stop_after_mixed_replies_is_judged_by_them() {
    let mut bench =
        Harness::new(ClientConfig { stop_after: Some(Stage::Rcpt), ..client_config(&["a@x.test", "b@x.test"]) });
    bench.server_sends("220 mx\r\n");
    bench.server_sends(EHLO_REPLY);
    assert_eq!(bench.server_sends("250\r\n250\r\n550\r\n"), sends("QUIT\r\n"));
    let (done, _) = bench.finish();
    assert_eq!(outcomes(&done), [None, Some(DeliveryOutcome::Refused)]);
    assert_eq!(crate::smtp::exit_for_recipients(&done.recipients), Exit::RecipientsRefused);
}
