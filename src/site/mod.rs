//! Files that `serve-http` serves.
//!
//! Owns the mapping of a URL path to a path beneath the root ([`SitePath`]), opening it without leaving the root
//! ([`Root`]), directory listings ([`render_listing`]) and media types ([`MediaTypes`]). Must not know HTTP; the
//! command connects the two.

mod listing;
mod media_type;
mod path;
mod root;

pub(crate) use listing::{STYLE, entry_url, escape_html, listing_script, render_listing};
pub(crate) use media_type::{MediaType, MediaTypes};
pub(crate) use path::{PathError, SitePath};
pub(crate) use root::{DirEntry, Entry, EntryKind, FileStatus, Listing, OpenError, Root};
