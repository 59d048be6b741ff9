//! Response to an HTTP request, between the handler that creates it and the session that sends it.
//!
//! Owns the error page and the response to methods other than GET and HEAD.

use std::fs::File;
use std::rc::Rc;

use crate::http::{Request, Status};
use crate::site;

const ERROR_PAGE: &str = include_str!("../../../assets/pages/error.html");

/// Status, header fields and body of a response.
#[derive(Debug)]
pub(crate) struct Response {
    pub status: Status,
    pub fields: Vec<(&'static str, String)>,
    pub body: ResponseBody,
}

#[derive(Debug)]
pub(crate) enum ResponseBody {
    Empty,
    /// Generated HTML page.
    Page(String),
    Bytes(Vec<u8>),
    /// File and its length.
    File(Rc<File>, u64),
}

impl ResponseBody {
    /// Returns the value for Content-Length.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Page(page) => page.len() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, length) => *length,
        }
    }
}

impl Response {
    /// Creates a response without header fields.
    pub(crate) fn new(status: Status, body: ResponseBody) -> Self {
        Self { status, fields: Vec::new(), body }
    }

    /// Adds a header field.
    #[must_use]
    pub(crate) fn with_field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    pub(crate) fn html(status: Status, page: String) -> Self {
        Self::new(status, ResponseBody::Page(page)).with_field("Content-Type", "text/html; charset=utf-8")
    }

    /// Responds to methods other than GET and HEAD, for which it returns `None`.
    pub(crate) fn for_other_method(request: &Request<'_>) -> Option<Self> {
        const ALLOWED_METHODS: &str = "GET, HEAD, OPTIONS";
        let response = match request.method {
            "GET" | "HEAD" => return None,
            "OPTIONS" => Self::new(Status::NO_CONTENT, ResponseBody::Empty),
            _ => Self::error(Status::METHOD_NOT_ALLOWED, "method not supported; allowed methods: GET, HEAD, OPTIONS"),
        };
        Some(response.with_field("Allow", ALLOWED_METHODS))
    }

    /// Creates a response with the error page.
    pub(crate) fn error(status: Status, reason: &str) -> Self {
        let escape = |text: &str| site::escape_html(text).to_string();
        let page = ERROR_PAGE
            .replace("{{status}}", &escape(&status.to_string()))
            .replace("{{reason}}", &escape(&sentence(reason)));
        Self::html(status, page)
    }
}

/// Makes a sentence of a reason: a capital letter at the start, a full stop at the end.
fn sentence(reason: &str) -> String {
    let mut letters = reason.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let stop = if reason.ends_with('.') { "" } else { "." };
    first.into_iter().chain(letters).collect::<String>() + stop
}
