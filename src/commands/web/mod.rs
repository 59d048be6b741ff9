//! HTTP server parts shared by all commands that serve pages: the error page, and the server of status pages.

mod error_page;
mod status_server;

pub(super) use error_page::{error_page, misdirected_response, other_method_response};
pub(super) use status_server::{DEFAULT_TIMEOUTS, StatusServer, url};
