//! Properties of the parsers and sessions for random input.

use proptest::prelude::*;

use super::client::ClientSession;
use super::client::tests::client_config;
use super::dot_stuffing::{canonical_size, canonicalize, dot_stuff};
use super::reply::Reply;
use super::server::data_decoder::{DataDecoder, DataStatus};
use super::server::tests::session;
use crate::protocol::script::{NOW, piece_sizes, run};

fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(&b"25034-. \r\n<>@:x\0\xff"[..]).prop_map(|byte| vec![byte]),
        prop::sample::select(
            &[
                "EHLO me\r\n",
                "MAIL FROM:<a@x>\r\n",
                "RCPT TO:<b@x>\r\n",
                "DATA\r\n",
                "\r\n.\r\n",
                "BDAT 3 LAST\r\n",
                "RSET\r\n",
                "250 ok\r\n"
            ][..]
        )
        .prop_map(|word| word.as_bytes().to_vec()),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Bytes of a message: line ends and dots are frequent.
fn message() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![3 => prop::sample::select(&b"\r\n."[..]), 1 => any::<u8>()], 0..60)
}

proptest! {
    #![proptest_config(crate::protocol::script::property_config())]

    #[test]
    fn a_server_answers_the_same_however_its_input_is_split(input in noise(), sizes in piece_sizes()) {
        let at_once = run(&mut session(), &[&input], &[input.len().max(1)]);
        prop_assert_eq!(run(&mut session(), &[&input], &sizes), at_once);
    }

    #[test]
    fn a_client_acts_the_same_however_the_replies_are_split(
        (code, text) in (200..600_u16, "[ -~]{0,30}"),
        (stop, cut) in (0..7_usize, 0..40_usize),
        sizes in piece_sizes(),
    ) {
        let replies: [&[u8]; 6] =
            [b"220 mx\r\n", b"250-mx\r\n250 SIZE 1000\r\n", b"250 a\r\n", b"250 b\r\n", b"354\r\n", b"250 ok\r\n"];
        // Then any reply, which may be cut off.
        let last = format!("{code} {text}\r\n");
        let last = &last.as_bytes()[..last.len().saturating_sub(cut).max(1)];
        let script: Vec<&[u8]> = replies.iter().copied().take(stop).chain([last]).collect();
        let outcome = |sizes: &[usize]| {
            let mut client = ClientSession::new(client_config(&["a@x.test"]), NOW);
            let transcript = run(&mut client, &script, sizes);
            let result = client.into_result();
            (transcript, result.failure.map(|failure| failure.kind()), result.recipients[0].outcome)
        };
        prop_assert_eq!(outcome(&sizes), outcome(&[1_000]));
    }

    #[test]
    fn a_reply_is_parsed_to_what_was_written(
        code in 200..600_u16,
        lines in prop::collection::vec("[ -~äß]{0,40}", 1..6),
        rest in noise(),
    ) {
        let mark = |number: usize| if number + 1 < lines.len() { '-' } else { ' ' };
        let written = lines.iter().enumerate().map(|(number, line)| format!("{code}{}{line}\r\n", mark(number)));
        let wire: String = written.collect();
        let bytes = [wire.as_bytes(), &rest[..]].concat();
        let (consumed, reply) = Reply::parse(&bytes).expect("well-formed").expect("complete");
        prop_assert_eq!((consumed, reply.code, reply.lines), (wire.len(), code, lines));
        for end in 0..wire.len() {
            prop_assert!(matches!(Reply::parse(&wire.as_bytes()[..end]), Ok(None)), "a prefix is incomplete");
        }
        let _ = Reply::parse(&rest);
    }

    #[test]
    fn a_message_survives_dot_stuffing(message in message(), sizes in piece_sizes()) {
        let (mut canonical, mut wire) = (Vec::new(), Vec::new());
        canonicalize(&message, &mut canonical);
        dot_stuff(&message, &mut wire);
        prop_assert_eq!(canonical.len(), canonical_size(&message));
        let mut decoder = DataDecoder::new(1_000);
        let (mut rest, mut sizes) = (&wire[..], sizes.into_iter().cycle());
        loop {
            let (piece, later) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
            let (taken, status) = decoder.receive(piece);
            if status == DataStatus::Complete {
                prop_assert_eq!(taken + (wire.len() - piece.len() - later.len()), wire.len(), "it ends at its end");
                break;
            }
            prop_assert!(!later.is_empty(), "it ends");
            rest = later;
        }
        prop_assert_eq!(decoder.finish(), Some(canonical));
    }
}
