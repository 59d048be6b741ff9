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
pub struct Decision {
    /// Its status.
    pub status: Status,
    /// Its own field lines.
    pub fields: Vec<(&'static str, String)>,
    /// What follows its head, if the method allows.
    pub body: Body,
}

/// What follows a head.
#[derive(Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// A page made here.
    Page(String),
    /// Octets that are in memory.
    Octets(Vec<u8>),
    /// A file and its length.
    File(Rc<File>, u64),
}

impl Body {
    /// The length that the head announces.
    pub fn length(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Page(page) => page.len() as u64,
            Self::Octets(octets) => octets.len() as u64,
            Self::File(_, length) => *length,
        }
    }
}

impl Decision {
    /// An answer without fields of its own.
    pub fn new(status: Status, body: Body) -> Self {
        Self { status, fields: Vec::new(), body }
    }

    /// With one more field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// A page of ours.
    pub fn html(status: Status, page: String) -> Self {
        Self::new(status, Body::Page(page)).with("Content-Type", "text/html; charset=utf-8")
    }

    /// The answer to a request that does not read: what may be asked, or that it may not. `None` for one
    /// that does; `shows` says what there is to read.
    pub fn unless_read(request: &Request<'_>, shows: &str) -> Option<Self> {
        /// What a server of ours does with any path.
        const ALLOWED: &str = "GET, HEAD, OPTIONS";
        let decision = match request.method {
            "GET" | "HEAD" => return None,
            "OPTIONS" => Self::new(Status::NO_CONTENT, Body::Empty),
            _ => {
                let why = format!("This server shows {shows}: it answers GET, HEAD and OPTIONS.");
                Self::error(Status::METHOD_NOT_ALLOWED, &why)
            }
        };
        Some(decision.with("Allow", ALLOWED))
    }

    /// A page that says what is wrong.
    pub fn error(status: Status, why: &str) -> Self {
        let status_text = site::html_text(&status.to_string()).to_string();
        let page = ERROR_PAGE.replace("{{status}}", &status_text).replace("{{why}}", &site::html_text(why).to_string());
        Self::html(status, page)
    }
}
