//! Properties of the parsers and sessions for random input.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::body::{BodyDecoder, BodyPart, Framing};
use super::client::RequestHead;
use super::client_session::tests::BufferSink;
use super::handler::{Handler, HttpTimeouts, Response, ResponseBody};
use super::request::Request;
use super::status::Status;
use super::{ClientExchange, ServerSession};
use crate::protocol::script::{NOW, piece_sizes, run};
use crate::time::Moment;

/// Bytes that occur in HTTP, so that random input reaches the deeper states.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(&b"GET /:HTP1.\r\n \t,;=0af\0\xff"[..]).prop_map(|byte| vec![byte]),
        prop::sample::select(&["\r\n", "HTTP/1.1", "Host: h\r\n", "Content-Length: ", "chunked", "200 OK"][..])
            .prop_map(|word| word.as_bytes().to_vec()),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

struct EchoHandler;

impl Handler for EchoHandler {
    fn timeouts(&self) -> HttpTimeouts {
        let limit = Duration::from_secs(1);
        HttpTimeouts { head: limit, idle: limit, stall: limit }
    }

    fn respond(&self, request: &Request<'_>, _: Option<SocketAddr>, _: Moment) -> Response {
        Response::new(Status::OK, ResponseBody::Page(request.target.to_owned()))
    }

    fn error_response(&self, status: Status, reason: &str) -> Response {
        Response::new(status, ResponseBody::Page(reason.to_owned()))
    }
}

/// Fetches with a response in pieces: the body, and whether the response was complete.
fn fetch(response: &[u8], sizes: &[usize]) -> (Vec<u8>, bool) {
    let mut sink = BufferSink::default();
    let head = RequestHead { method: "GET".into(), target: "/".into(), fields: vec![] };
    let mut exchange = ClientExchange::new(&head, None, Duration::from_secs(1), &mut sink);
    run(&mut exchange, &[response], sizes);
    let is_complete = exchange.into_result().is_ok();
    (sink.0, is_complete)
}

fn chunked(chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = Vec::new();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        wire.extend_from_slice(format!("{:x};a=b\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    [&wire[..], b"0\r\nT: x\r\n\r\n"].concat()
}

proptest! {
    #![proptest_config(crate::protocol::script::property_config())]

    #[test]
    fn a_server_answers_the_same_however_its_input_is_split(input in noise(), sizes in piece_sizes()) {
        let whole = [b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n", &input[..]].concat();
        let session = || ServerSession::new(Rc::new(EchoHandler), None, NOW);
        let at_once = run(&mut session(), &[&whole], &[whole.len()]);
        prop_assert_eq!(run(&mut session(), &[&whole], &sizes), at_once);
    }

    #[test]
    fn a_client_receives_the_same_however_its_input_is_split(input in noise(), sizes in piece_sizes()) {
        let whole = [b"HTTP/1.1 200 OK\r\n", &input[..]].concat();
        prop_assert_eq!(fetch(&whole, &sizes), fetch(&whole, &[whole.len()]));
        prop_assert_eq!(fetch(&input, &sizes).1, fetch(&input, &[input.len().max(1)]).1);
    }

    #[test]
    fn a_request_head_is_parsed_without_panics(input in noise()) {
        let _ = Request::parse(&input);
        let _ = Request::parse(&[b"GET / HTTP/1.1\r\nHost: h\r\n", &input[..], b"\r\n\r\n"].concat());
    }

    #[test]
    fn a_chunked_body_is_decoded_to_its_content(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8),
        sizes in piece_sizes(),
    ) {
        let wire = chunked(&chunks);
        let response = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &wire[..]].concat();
        prop_assert_eq!(fetch(&response, &sizes), (chunks.concat(), true));
        prop_assert!(!fetch(&response[..response.len() - 1], &sizes).1, "every prefix is incomplete");
    }

    #[test]
    fn a_decoder_consumes_no_more_than_it_is_given(input in noise()) {
        let mut body = BodyDecoder::new(Framing::Chunked);
        let mut taken = 0;
        while let Ok((more, part)) = body.decode(&input[taken..]) {
            taken += more;
            prop_assert!(taken <= input.len());
            if matches!(part, BodyPart::NeedMore | BodyPart::End) {
                break;
            }
        }
    }
}
