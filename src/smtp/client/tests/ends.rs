//! Where a dialogue ends, and what is known then.

use super::{Bench, Did, OFFERS, exit, outcomes, plan, said, up_to_the_dot, with_login};
use crate::conversation::{CloseReason, StreamProtocol as _};
use crate::error::Error;
use crate::exit::Exit;
use crate::smtp::plan::{Done, Outcome, Plan, Security, Stage};

/// The codes of the replies that decided.
fn codes(done: &Done) -> Vec<Option<u16>> {
    done.recipients.iter().map(|recipient| recipient.reply.as_ref().map(|reply| reply.code)).collect()
}

/// Lets the client take what it wants of what came; the rest is offered again, as a link does.
fn take(bench: &mut Bench, inbox: &mut Vec<u8>) {
    loop {
        let taken = bench.client.received(inbox, bench.now, &mut bench.out);
        inbox.drain(..taken);
        if taken == 0 || inbox.is_empty() {
            break;
        }
    }
    bench.client.sent(bench.now, &mut bench.out);
    bench.did();
}

#[test]
fn all_or_nothing_sends_to_nobody_if_one_is_refused() {
    for (reply, outcome) in [("550", Outcome::Refused), ("451", Outcome::Deferred)] {
        let mut bench = Bench::new(Plan { all_or_nothing: true, ..plan(&["a@x.test", "b@x.test"]) });
        bench.hear("220 mx\r\n");
        bench.hear(OFFERS);
        assert_eq!(bench.hear(&format!("250\r\n250\r\n{reply}\r\n")), said("QUIT\r\n"));
        assert_eq!(outcomes(&bench.done().0), [None, Some(outcome)], "who would have been accepted has not got it");
    }
}

#[test]
fn a_refused_sender_decides_about_the_recipients_whatever_is_said_of_them() {
    let refused = |tail: &str| {
        let mut bench = Bench::new(plan(&["a@x.test", "b@x.test"]));
        bench.hear("220 mx\r\n");
        bench.hear(OFFERS);
        let did = bench.hear(&format!("550 5.1.8 no\r\n{tail}"));
        (bench, did)
    };
    let (bench, did) = refused("503 bad sequence\r\n503 bad sequence\r\n");
    assert_eq!(did, said("QUIT\r\n"));
    let (mut gone, _) = refused("503 bad sequence\r\n");
    gone.client.ended(&CloseReason::Finished, gone.now, &mut gone.out);
    for bench in [bench, gone] {
        let (done, _) = bench.done();
        assert_eq!((exit(&done), outcomes(&done)), (Some(Exit::Unavailable), vec![Some(Outcome::Refused); 2]));
        assert_eq!((done.stage, codes(&done)), (Stage::Mail, vec![Some(550); 2]));
    }
}

#[test]
fn a_no_in_the_middle_of_the_message_is_a_no() {
    for (reply, outcome) in [("552 5.3.4 enough", Outcome::Refused), ("452 4.3.1 full", Outcome::Deferred)] {
        let mut bench = Bench::new(plan(&["a@x.test"]));
        for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n", "250\r\n"] {
            bench.hear(reply);
        }
        bench.client.received(b"354\r\n", bench.now, &mut bench.out);
        bench.did();
        bench.client.received(format!("{reply}\r\n").as_bytes(), bench.now, &mut bench.out);
        assert_eq!(bench.did(), [Did::Reset]);
        let (done, _) = bench.done();
        assert_eq!((outcomes(&done), done.stage), (vec![Some(outcome)], Stage::Body), "{reply}");
        assert!(done.failure.is_some_and(|error| error.message().contains(reply)));
    }
}

#[test]
fn the_reply_to_the_dot_counts_wherever_the_packets_split() {
    for reply in ["250 ok\r\n421 bye\r\n", "250 ok\r\n250 what?\r\n", "250 ok\r\nx\r\n", "250 ok\r\n4", "250 ok\r\n2"] {
        for split in 0..=reply.len() {
            let mut bench = up_to_the_dot();
            let mut inbox = Vec::new();
            for piece in [&reply[..split], &reply[split..]] {
                inbox.extend_from_slice(piece.as_bytes());
                take(&mut bench, &mut inbox);
            }
            bench.client.ended(&CloseReason::Finished, bench.now, &mut bench.out);
            let (done, _) = bench.done();
            assert_eq!((exit(&done), outcomes(&done)), (None, vec![Some(Outcome::Accepted)]), "{reply:?} {split}");
        }
    }
    let strict = |plan: Plan| {
        let mut plan = plan;
        plan.wishes.strict = true;
        plan
    };
    let mut bench = Bench::new(strict(plan(&["a@x.test"])));
    for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n", "250\r\n", "354\r\n", "250 ok\r\n250 what?\r\n"] {
        bench.hear(reply);
    }
    let (done, _) = bench.done();
    assert_eq!((exit(&done), outcomes(&done)), (Some(Exit::Protocol), vec![Some(Outcome::Accepted)]));
}

#[test]
fn who_gives_up_keeps_what_is_known() {
    let given_up = |mut bench: Bench, code: Exit| {
        bench.client.give_up(Error::new(code, "enough"), bench.now, &mut bench.out);
        let (done, _) = bench.done();
        (exit(&done), outcomes(&done), codes(&done))
    };
    for code in [Exit::Interrupted, Exit::TemporaryFailure] {
        let unknown = (Some(Exit::OutcomeUnknown), vec![Some(Outcome::Unknown)], vec![None]);
        assert_eq!(given_up(up_to_the_dot(), code), unknown, "the dot is out");
        let mut bench = up_to_the_dot();
        bench.hear("250 ok\r\n");
        assert_eq!(given_up(bench, code), (None, vec![Some(Outcome::Accepted)], vec![Some(250)]), "only QUIT is left");
    }
    let mut bench = Bench::new(plan(&["a@x.test"]));
    bench.hear("220 mx\r\n");
    assert_eq!(given_up(bench, Exit::Interrupted), (Some(Exit::Interrupted), vec![None], vec![None]));
}

#[test]
fn a_plan_may_stop_after_a_stage_and_says_nothing_of_a_later_one() {
    let all = [Stage::Banner, Stage::Ehlo, Stage::Tls, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Data];
    let verbs = ["EHLO", "AUTH", "MAIL", "RCPT", "DATA", "Subject"];
    for (stage, said) in all.into_iter().zip([0, 1, 1, 2, 3, 4, 5]) {
        for logs_in in [false, true] {
            let mut plan = Plan { stop_after: Some(stage), ..plan(&["a@x.test"]) };
            if logs_in {
                plan = with_login(plan);
                plan.login = plan.login.map(|login| crate::smtp::plan::Credentials { in_clear: true, ..login });
            }
            let mut bench = Bench::new(plan);
            let mut did = bench.hear("220 mx\r\n");
            did.extend(bench.hear("250-mx\r\n250 AUTH PLAIN\r\n"));
            if logs_in && said > 1 {
                did.extend(bench.hear("235 in\r\n"));
            }
            ["250\r\n", "250\r\n", "354\r\n", "250\r\n"]
                .iter()
                .take(said.max(2) - 2)
                .for_each(|reply| did.extend(bench.hear(reply)));
            let wire = format!("{did:?}");
            for (place, verb) in verbs.iter().enumerate() {
                let is_said = place < said && (*verb != "AUTH" || logs_in);
                assert_eq!(wire.contains(verb), is_said, "{stage} {logs_in} {verb}: {wire}");
            }
            assert!(matches!(did.last(), Some(Did::Reset)) || wire.contains("QUIT"), "{stage}: {wire}");
            let (done, _) = bench.done();
            assert_eq!((exit(&done), outcomes(&done)), (None, vec![None]), "{stage}: nobody got anything");
        }
    }
    let mut bench = Bench::new(Plan { envelope: None, ..plan(&[]) });
    bench.hear("220 mx\r\n");
    assert_eq!(bench.hear(OFFERS), said("QUIT\r\n"));
}

#[test]
fn every_prefix_and_every_split_of_a_dialogue_leads_to_the_same_end() {
    // One reply comes at a time, as no server may say the next one before it was asked for it.
    let replies = ["220 mx\r\n", OFFERS, "250 a\r\n250 b\r\n", "354\r\n", "250 ok\r\n", "221\r\n"];
    let outcome = |stop: usize, pieces: usize| {
        let mut bench = Bench::new(plan(&["a@x.test"]));
        let mut left = stop;
        for reply in replies {
            let mut inbox = Vec::new();
            for piece in reply.as_bytes()[..reply.len().min(left)].chunks(pieces) {
                inbox.extend_from_slice(piece);
                take(&mut bench, &mut inbox);
            }
            left -= reply.len().min(left);
        }
        bench.client.ended(&CloseReason::Finished, bench.now, &mut bench.out);
        let (done, shown) = bench.done();
        (exit(&done), outcomes(&done), shown)
    };
    let whole: usize = replies.iter().map(|reply| reply.len()).sum();
    let dot = whole - "250 ok\r\n221\r\n".len();
    for stop in 0..=whole {
        let once = outcome(stop, whole);
        let expected = match stop {
            _ if stop < dot => (Some(Exit::TemporaryFailure), Some(Outcome::Deferred)),
            _ if stop < dot + "250 ok\r\n".len() => (Some(Exit::OutcomeUnknown), Some(Outcome::Unknown)),
            _ => (None, Some(Outcome::Accepted)),
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
        let mut bench = Bench::new(plan(&["a@x.test"]));
        for reply in ["220 mx\r\n", "250 mx\r\n", "250\r\n"] {
            bench.hear(reply);
        }
        assert_eq!(bench.hear(reply), said("QUIT\r\n"));
        assert_eq!(bench.hear("what?\r\n"), [Did::Closed]);
        let (done, _) = bench.done();
        assert_eq!((exit(&done), crate::smtp::verdict(&done.recipients)), (None, code));
    }
}

#[test]
fn where_we_go_no_further_nothing_is_decided_about_anybody() {
    let mut bench = Bench::new(Plan { security: Security::Starttls, ..plan(&["a@x.test"]) });
    bench.hear("220 mx\r\n");
    assert_eq!(bench.hear("250 mx\r\n"), said("QUIT\r\n"));
    let (done, _) = bench.done();
    assert_eq!((exit(&done), outcomes(&done)), (Some(Exit::Unavailable), vec![None]));
}

#[test]
fn a_stop_after_mixed_replies_is_judged_by_them() {
    let mut bench = Bench::new(Plan { stop_after: Some(Stage::Rcpt), ..plan(&["a@x.test", "b@x.test"]) });
    bench.hear("220 mx\r\n");
    bench.hear(OFFERS);
    assert_eq!(bench.hear("250\r\n250\r\n550\r\n"), said("QUIT\r\n"));
    let (done, _) = bench.done();
    assert_eq!(outcomes(&done), [None, Some(Outcome::Refused)]);
    assert_eq!(crate::smtp::verdict(&done.recipients), Exit::RecipientsRefused);
}
