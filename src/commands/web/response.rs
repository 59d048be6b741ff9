//! What to answer a request with.
//!
//! Owns the answer between the command that decides it and the session that sends it, and the page
//! that says what is wrong.

use std::fs::File;
use std::rc::Rc;

use crate::http::{Request, Status};
use crate::site;

/// The page made for every status that has no file.
const ERROR_PAGE: &str = include_str!("../../../assets/pages/error.html");

/// An answer that is decided.
#[derive(Debug)]
pub(crate) struct Response {
    /// Its status.
    pub status: Status,
    /// Its own field lines.
    pub fields: Vec<(&'static str, String)>,
    /// What follows its head, if the method allows.
    pub body: ResponseBody,
}

/// What follows a head.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// Nothing.
    Empty,
    /// A page made here.
    Page(String),
    /// Octets that are in memory.
    Bytes(Vec<u8>),
    /// A file and its length.
    File(Rc<File>, u64),
}

impl ResponseBody {
    /// The length that the head announces.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Page(page) => page.len() as u64,
            Self::Bytes(octets) => octets.len() as u64,
            Self::File(_, length) => *length,
        }
    }
}

impl Response {
    /// An answer without fields of its own.
    pub(crate) fn new(status: Status, body: ResponseBody) -> Self {
        Self { status, fields: Vec::new(), body }
    }

    /// With one more field.
    #[must_use]
    pub(crate) fn with_field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// A page of ours.
    pub(crate) fn html(status: Status, page: String) -> Self {
        Self::new(status, ResponseBody::Page(page)).with_field("Content-Type", "text/html; charset=utf-8")
    }

    /// The answer to a request that does not read: what may be asked, or that it may not. `None` for one
    /// that does; `shows` says what there is to read.
    pub(crate) fn for_other_method(request: &Request<'_>, content: &str) -> Option<Self> {
        /// What a server of ours does with any path.
        const ALLOWED_METHODS: &str = "GET, HEAD, OPTIONS";
        let decision = match request.method {
            "GET" | "HEAD" => return None,
            "OPTIONS" => Self::new(Status::NO_CONTENT, ResponseBody::Empty),
            _ => {
                let why = format!("This server shows {content}: it answers GET, HEAD and OPTIONS.");
                Self::error(Status::METHOD_NOT_ALLOWED, &why)
            }
        };
        Some(decision.with_field("Allow", ALLOWED_METHODS))
    }

    /// A page that says what is wrong.
    pub(crate) fn error(status: Status, reason: &str) -> Self {
        let status_text = site::escape_html(&status.to_string()).to_string();
        let page =
            ERROR_PAGE.replace("{{status}}", &status_text).replace("{{why}}", &site::escape_html(reason).to_string());
        Self::html(status, page)
    }
}
