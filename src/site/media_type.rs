//! Media types by file name extension, from the table of `mime_guess`.

use std::path::Path;

/// Returns the `Content-Type` for a file name. Text is declared as UTF-8, because without a charset a browser
/// guesses from the locale.
pub(crate) fn media_type(name: &Path) -> String {
    let guess = mime_guess::from_path(name).first_or_octet_stream();
    match (guess.type_(), guess.get_param("charset")) {
        (mime_guess::mime::TEXT, None) => format!("{guess}; charset=utf-8"),
        _ => guess.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::media_type;
    use std::path::Path;

    #[test]
    fn common_web_files_have_their_types() {
        for (name, expected) in [
            ("HelloWorld.html", "text/html; charset=utf-8"),
            ("style.css", "text/css; charset=utf-8"),
            ("README.txt", "text/plain; charset=utf-8"),
            ("a.PNG", "image/png"),
            ("a.svg", "image/svg+xml"),
            ("a.json", "application/json"),
            ("noextension", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(media_type(Path::new(name)), expected, "{name}");
        }
    }
}
