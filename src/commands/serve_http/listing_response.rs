//! Response with the listing of a directory, and the policy of its page.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::http::{Response, Status};
use crate::site::{self, Listing, SitePath};
use crate::time::Moment;

/// Policy of the listing: no resource from elsewhere, and no script but its own.
static LISTING_POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = digest::digest(&digest::SHA256, site::listing_script().as_bytes());
    let hash = BASE64_STANDARD.encode(digest);
    format!("default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{hash}'")
});

pub(super) fn respond(path: &SitePath, listing: &Listing, now: Moment) -> Response {
    let now = i64::try_from(now.wall().as_secs()).unwrap_or(i64::MAX);
    Response::html(Status::OK, site::render_listing(path, listing, now))
        .with_field("Content-Security-Policy", LISTING_POLICY.as_str())
}
