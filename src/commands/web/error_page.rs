//! Error page of all HTTP servers, and the response to methods other than GET and HEAD.

use crate::http::{Request, Response, ResponseBody, Status};
use crate::site;

const ERROR_PAGE: &str = include_str!("../../../assets/pages/error.html");

/// Creates a response with the error page.
pub(crate) fn error_page(status: Status, reason: &str) -> Response {
    let escape = |text: &str| site::escape_html(text).to_string();
    let page = ERROR_PAGE
        .replace("{{style}}", site::STYLE)
        .replace("{{status}}", &escape(&status.to_string()))
        .replace("{{reason}}", &escape(&sentence(reason)));
    Response::html(status, page)
}

/// Responds to methods other than GET and HEAD, for which it returns `None`.
pub(crate) fn other_method_response(request: &Request<'_>) -> Option<Response> {
    const ALLOWED_METHODS: &str = "GET, HEAD, OPTIONS";
    let response = match request.method {
        "GET" | "HEAD" => return None,
        "OPTIONS" => Response::new(Status::NO_CONTENT, ResponseBody::Empty),
        _ => error_page(Status::METHOD_NOT_ALLOWED, "method not supported; allowed methods: GET, HEAD, OPTIONS"),
    };
    Some(response.with_field("Allow", ALLOWED_METHODS))
}

/// Responds to a request whose Host field names another machine (RFC 9110 §15.5.20).
pub(crate) fn misdirected_response() -> Response {
    let why = "This server is for this machine alone. Use localhost or an IP address in the URL.";
    error_page(Status::MISDIRECTED_REQUEST, why)
}

/// Makes a sentence of a reason: a capital letter at the start, a full stop at the end.
fn sentence(reason: &str) -> String {
    let mut letters = reason.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let stop = if reason.ends_with('.') { "" } else { "." };
    first.into_iter().chain(letters).collect::<String>() + stop
}
