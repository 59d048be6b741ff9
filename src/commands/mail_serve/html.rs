//! A stranger's HTML, made harmless.
//!
//! Owns what is left of it before it is shown: ammonia takes out whatever runs, asks or fetches, since no
//! policy keeps a browser from connecting early to what a page merely names. Images of the mail itself are
//! put in where they are called by `cid:` (RFC 2392), as far as they fit.

use ammonia::{Builder, UrlRelative};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_parser::{Message, MessagePart, MimeHeaders as _};
use percent_encoding::percent_decode_str;

use super::look::kind;

/// Images up to this size are put into the HTML that names them.
const LARGEST_IMAGE: usize = 4 << 20;
/// And as long as the HTML does not become longer than this.
const LARGEST_HTML: usize = 16 << 20;
/// Images that are looked for in it.
const MOST_CALLS: usize = 200;
/// HTML up to this size is shown.
const SHOWN: usize = 2 << 20;
/// And up to so many tags: each may be within all those before it, and reading them takes time by the square.
const MOST_TAGS: usize = 20_000;
/// How mails say what they look like.
const LOOKS: [&str; 16] = [
    "style",
    "class",
    "id",
    "align",
    "valign",
    "bgcolor",
    "color",
    "width",
    "height",
    "border",
    "cellpadding",
    "cellspacing",
    "face",
    "size",
    "dir",
    "background",
];

/// The HTML as it can be shown. `None` if it is too long for that.
pub fn harmless(read: &Message<'_>, html: &str) -> Option<String> {
    fits(html).then(|| with_images(read, &cleaned(html)))
}

/// Whether it can be shown.
pub fn fits(html: &str) -> bool {
    html.len() <= SHOWN && memchr::memchr_iter(b'<', html.as_bytes()).nth(MOST_TAGS).is_none()
}

fn cleaned(html: &str) -> String {
    let mut builder = Builder::default();
    builder
        .rm_clean_content_tags(["style"])
        .add_tags(["style", "font", "big", "tt"])
        .add_generic_attributes(LOOKS)
        .url_schemes(["http", "https", "mailto", "tel", "cid", "data"].into())
        .url_relative(UrlRelative::Deny)
        .attribute_filter(|_, name, value| {
            let is_in_it = ["cid:", "data:"].iter().any(|scheme| value.trim_start().starts_with(scheme));
            // What is fetched is in the mail or nowhere; what is followed is never in it.
            let fits = match name {
                "src" | "background" => is_in_it,
                "href" | "cite" => !is_in_it,
                _ => true,
            };
            fits.then(|| value.into())
        });
    builder.clean(html).to_string()
}

/// The HTML with the images in it that it calls.
fn with_images(read: &Message<'_>, html: &str) -> String {
    const CALL: &str = "cid:";
    let image = |name: &str| {
        let is_called =
            |part: &&MessagePart<'_>| part.content_id().is_some_and(|id| id.trim_matches(['<', '>']) == name);
        let part = read.parts.iter().find(is_called)?;
        let kind = kind(part);
        let fits =
            kind.starts_with("image/") && kind.bytes().all(|c| c.is_ascii_alphanumeric() || b"/.+-".contains(&c));
        (fits && part.contents().len() <= LARGEST_IMAGE)
            .then(|| format!("data:{kind};base64,{}", STANDARD.encode(part.contents())))
    };
    let mut whole = String::new();
    let mut rest = html;
    for _ in 0..MOST_CALLS {
        let Some((front, back)) = rest.split_once(CALL) else { break };
        whole.push_str(front);
        let end = back.find(|c: char| c.is_whitespace() || "\"'<>()&,;".contains(c)).unwrap_or(back.len());
        let (name, after) = back.split_at(end);
        let name = percent_decode_str(name).decode_utf8_lossy();
        if let Some(data) = image(&name).filter(|data| whole.len() + data.len() <= LARGEST_HTML) {
            whole.push_str(&data);
            rest = after;
        } else {
            whole.push_str(CALL);
            rest = back;
        }
    }
    whole + rest
}

#[cfg(test)]
mod tests {
    use super::super::look::look;
    use super::{LARGEST_HTML, LARGEST_IMAGE, MOST_TAGS, SHOWN, STANDARD, cleaned, fits, with_images};
    use base64::Engine as _;

    #[test]
    fn images_are_put_in_once_each_and_never_without_end() {
        let mail = |html: &str, image: usize| {
            let image = STANDARD.encode(vec![7; image]);
            let head = "Content-Type: multipart/related; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n";
            let part =
                "\r\n--b\r\nContent-Type: image/png\r\nContent-ID: <a>\r\nContent-Transfer-Encoding: base64\r\n\r\n";
            format!("{head}{html}{part}{image}\r\n--b--\r\n")
        };
        let shown = |html: &str, image: usize| {
            let message = mail(html, image);
            look(message.as_bytes(), |read, _| with_images(read, &read.body_html(0).expect("HTML"))).expect("a message")
        };
        let html = shown("<img src='cid:a'><img src=\"cid:ab\"><img src=cid:%61>", 3);
        assert_eq!(html.matches("data:image/png;base64,BwcH").count(), 2, "{html}");
        assert!(html.contains("\"cid:ab\""), "{html}");
        assert!(shown(&"<img src='cid:a'>".repeat(20_000), 1 << 20).len() < LARGEST_HTML + (1 << 20));
        assert!(shown("<img src='cid:a'>", LARGEST_IMAGE + 1).contains("cid:a"));
    }

    #[test]
    fn nothing_is_left_that_runs_asks_or_fetches() {
        for html in [
            "<script>x</script>",
            "<link rel=preconnect href=http://evil.test>",
            "<iframe src=http://evil.test></iframe>",
            "<img src=http://evil.test/1.png>",
            "<img srcset='http://evil.test/1.png 2x'>",
            "<p onclick=x>",
            "<form action=http://evil.test><input name=x></form>",
            "<meta http-equiv=refresh content='0;http://evil.test'>",
            "<base href=http://evil.test>",
            "<object data=http://evil.test></object><embed src=http://evil.test>",
            "<video src=http://evil.test poster=http://evil.test></video>",
            "<td background=http://evil.test>",
            "<svg><image href=http://evil.test /></svg>",
            "<a href='javascript:x'>y</a><a href='data:text/html,x'>y</a><a ping=http://evil.test>z</a>",
        ] {
            let left = cleaned(html).to_lowercase();
            for word in ["evil", "script", "onclick", "text/html", "<form", "<input", "<meta", "<iframe", "<link"] {
                assert!(!left.contains(word), "{html}: {left}");
            }
        }
        let looks = "<style>p { color: red }</style><p style=\"color:red\"><img src=\"cid:a\"> \
                     <a href=\"https://x.test/\">x</a></p>";
        for word in ["p { color: red }", "color:red", "cid:a", "https://x.test/"] {
            assert!(cleaned(looks).contains(word), "{}", cleaned(looks));
        }
    }

    #[test]
    fn html_that_nests_is_survived_and_has_an_end() {
        for piece in ["<div>", "<table><tr><td>", "<a><b>", "<font color=red><p>"] {
            cleaned(&piece.repeat(1_000));
        }
        assert!(fits(&"<br>".repeat(MOST_TAGS)) && !fits(&"<br>".repeat(MOST_TAGS + 1)));
        assert!(fits(&"x".repeat(SHOWN)) && !fits(&"x".repeat(SHOWN + 1)));
    }
}
