//! What to answer a request with.
//!
//! Owns the answer between the command that decides it and the session that sends it, and the page
//! that says what is wrong.

use std::fs::File;
use std::rc::Rc;

use crate::http::Status;
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

    /// A page that says what is wrong.
    pub fn error(status: Status, why: &str) -> Self {
        let status_text = site::html_text(&status.to_string()).to_string();
        let page = ERROR_PAGE.replace("{{status}}", &status_text).replace("{{why}}", &site::html_text(why).to_string());
        Self::html(status, page)
    }
}
