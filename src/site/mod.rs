//! The files `serve-http` shows.
//!
//! Owns the way from a request's path to an open file: which file a path names ([`SitePath`]),
//! opening it without ever leaving the root ([`Root`]), what a directory looks like
//! ([`listing()`]), and a file's media type ([`media_type`]). It must not know HTTP; the command
//! joins the two.

mod listing;
mod media;
mod path;
mod root;

pub(crate) use listing::{escape_html, render_listing};
pub(crate) use media::media_type;
pub(crate) use path::{PathError, SitePath};
pub(crate) use root::{Entry, OpenError, Root, read_file_into};
