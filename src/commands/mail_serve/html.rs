//! A stranger's HTML, made harmless.
//!
//! Owns what is left of it before it is shown: only elements and attributes that say how a mail looks. What
//! runs, asks or fetches goes, since no policy keeps a browser from connecting early to what a page merely
//! names. `lol_html` reads it as a browser does, tag by tag. Images of the mail itself are put in where they
//! are called by `cid:` (RFC 2392), as far as they fit.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lol_html::html_content::Element;
use lol_html::{RewriteStrSettings, doc_comments, element, rewrite_str};
use mail_parser::{Message, MessagePart, MimeHeaders as _};
use percent_encoding::percent_decode_str;

use super::mime::content_type;

/// Images up to this size are put into the HTML that names them.
const MAX_IMAGE_SIZE: usize = 4 << 20;
/// And as long as the HTML does not become longer than this.
const MAX_OUTPUT_SIZE: usize = 16 << 20;
/// Images that are looked for in it.
const MAX_CID_REFERENCES: usize = 200;
/// HTML up to this size is shown.
const MAX_INPUT_SIZE: usize = 2 << 20;
/// And up to so many tags.
const MAX_TAGS: usize = 20_000;
/// A tag that says more is none: taking them away takes time by the square.
const MAX_ATTRIBUTES: usize = 100;
/// Elements that stay.
const ALLOWED_ELEMENTS: &str = "\
    html head body style a abbr acronym address article aside b big blockquote br caption center cite code \
    col colgroup dd del dfn div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6 header hr i img ins \
    kbd li main mark ol p pre q s samp section small span strike strong sub sup table tbody td tfoot th \
    thead tr tt u ul var wbr";
/// Elements that go with all that is in them: it is no text, or a browser would read it in another way.
const REMOVED_WITH_CONTENT: &str = "\
    script title svg math object embed applet iframe frame frameset noframes noembed noscript template \
    textarea select audio video canvas xmp plaintext";
/// Attributes that stay wherever they are; `src`, `background` and `href` have rules of their own.
const ALLOWED_ATTRIBUTES: &str = "\
    style class id align valign bgcolor color width height border cellpadding cellspacing colspan rowspan \
    nowrap face size dir lang alt title start type text link vlink";

/// The HTML as it can be shown. `None` if it is too long for that, or cannot be read.
pub(super) fn sanitize(read: &Message<'_>, html: &str) -> Option<String> {
    let cleaned = if is_within_limits(html) { sanitize_html(html) } else { None };
    cleaned.map(|html| inline_images(read, &html))
}

/// Whether it is short enough for that.
fn is_within_limits(html: &str) -> bool {
    html.len() <= MAX_INPUT_SIZE && memchr::memchr_iter(b'<', html.as_bytes()).nth(MAX_TAGS).is_none()
}

fn sanitize_html(html: &str) -> Option<String> {
    let clean = element!("*", |element| {
        sanitize_element(element);
        Ok(())
    });
    let uncomment = doc_comments!(|comment| {
        comment.remove();
        Ok(())
    });
    // Strict: what a browser might read in another way is not shown at all.
    let settings = RewriteStrSettings::new()
        .with_strict(true)
        .append_element_content_handler(clean)
        .append_document_content_handler(uncomment);
    let mut html = rewrite_str(html, settings).ok()?;
    // A tag that is not closed is none, and nothing may close it later.
    let open = html.rfind('<').filter(|open| html.rfind('>').is_none_or(|close| close < *open));
    html.truncate(open.unwrap_or(html.len()));
    Some(html)
}

fn contains_word(words: &str, name: &str) -> bool {
    words.split(' ').any(|word| word == name)
}

fn sanitize_element(element: &mut Element<'_, '_>) {
    let name = element.tag_name();
    if contains_word(REMOVED_WITH_CONTENT, &name) {
        return element.remove();
    }
    if !contains_word(ALLOWED_ELEMENTS, &name) || element.attributes().len() > MAX_ATTRIBUTES {
        return element.remove_and_keep_content();
    }
    let stays = |name: &str, value: &str| {
        let begins = |schemes: &[&str]| schemes.iter().any(|scheme| value.trim_start().starts_with(scheme));
        match name {
            // What is fetched is in the mail or nowhere.
            "src" | "background" => begins(&["cid:", "data:image/"]),
            "href" => begins(&["http://", "https://", "mailto:", "tel:", "#"]),
            name => contains_word(ALLOWED_ATTRIBUTES, name),
        }
    };
    let attributes = element.attributes().iter().map(|attribute| (attribute.name(), attribute.value()));
    let gone: Vec<String> = attributes.filter(|(name, value)| !stays(name, value)).map(|(name, _)| name).collect();
    for name in gone {
        element.remove_attribute(&name);
    }
}

/// The HTML with the images in it that it calls.
fn inline_images(read: &Message<'_>, html: &str) -> String {
    const CID_SCHEME: &str = "cid:";
    let image = |name: &str| {
        let is_called =
            |part: &&MessagePart<'_>| part.content_id().is_some_and(|id| id.trim_matches(['<', '>']) == name);
        let part = read.parts.iter().find(is_called)?;
        let kind = content_type(part);
        let fits =
            kind.starts_with("image/") && kind.bytes().all(|c| c.is_ascii_alphanumeric() || b"/.+-".contains(&c));
        (fits && part.contents().len() <= MAX_IMAGE_SIZE)
            .then(|| format!("data:{kind};base64,{}", STANDARD.encode(part.contents())))
    };
    let mut whole = String::new();
    let mut rest = html;
    for _ in 0..MAX_CID_REFERENCES {
        let Some((front, back)) = rest.split_once(CID_SCHEME) else { break };
        whole.push_str(front);
        let end = back.find(|c: char| c.is_whitespace() || "\"'<>()&,;".contains(c)).unwrap_or(back.len());
        let (name, after) = back.split_at(end);
        let name = percent_decode_str(name).decode_utf8_lossy();
        if let Some(data) = image(&name).filter(|data| whole.len() + data.len() <= MAX_OUTPUT_SIZE) {
            whole.push_str(&data);
            rest = after;
        } else {
            whole.push_str(CID_SCHEME);
            rest = back;
        }
    }
    whole + rest
}

#[cfg(test)]
mod tests {
    use super::super::mime::inspect;
    use super::{
        MAX_IMAGE_SIZE, MAX_INPUT_SIZE, MAX_OUTPUT_SIZE, MAX_TAGS, STANDARD, inline_images, is_within_limits,
        sanitize_html,
    };
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
            inspect(message.as_bytes(), |read, _| inline_images(read, &read.body_html(0).expect("HTML")))
                .expect("a message")
        };
        let html = shown("<img src='cid:a'><img src=\"cid:ab\"><img src=cid:%61>", 3);
        assert_eq!(html.matches("data:image/png;base64,BwcH").count(), 2, "{html}");
        assert!(html.contains("\"cid:ab\""), "{html}");
        assert!(shown(&"<img src='cid:a'>".repeat(20_000), 1 << 20).len() < MAX_OUTPUT_SIZE + (1 << 20));
        assert!(shown("<img src='cid:a'>", MAX_IMAGE_SIZE + 1).contains("cid:a"));
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
            "<img src='cid:a' src=http://evil.test><IMG SRC=http://evil.test><img/src=http://evil.test>",
            "<img src='&#104;ttp://evil.test'><image src=http://evil.test>",
            "<noscript><img src=http://evil.test></noscript><template><link href=http://evil.test></template>",
            "<textarea></textarea><script>evil</script><title><link href=http://evil.test></title>",
            "<svg><style><img src=http://evil.test></style></svg><math><mtext><link href=http://evil.test></mtext></math>",
            "<!--><link href=http://evil.test>--><!-- evil --><![CDATA[<link href=http://evil.test>]]>",
            "<table><link href=http://evil.test><tr><td><iframe src=http://evil.test>",
            "<img srcset=http://evil.test",
        ] {
            let left = sanitize_html(html).expect("readable").to_lowercase();
            for word in ["evil", "script", "onclick", "text/html", "<form", "<input", "<meta", "<iframe", "<link"] {
                assert!(!left.contains(word), "{html}: {left}");
            }
        }
        let looks = "<style>p { color: red }</style><p style=\"color:red\"><img src=\"cid:a\"> \
                     <a href=\"https://x.test/\">x</a></p>";
        for word in ["p { color: red }", "color:red", "cid:a", "https://x.test/"] {
            assert!(sanitize_html(looks).is_some_and(|left| left.contains(word)), "{word}");
        }
    }

    #[test]
    fn html_that_nests_is_survived_and_has_an_end() {
        let many = (0..50_000).fold(String::new(), |many, number| many + &format!(" x{number}=1"));
        assert_eq!(sanitize_html(&format!("<p{many}>hi</p>")).as_deref(), Some("hi"));
        for piece in ["<div>", "<table><tr><td>", "<a><b>", "<font color=red><p>"] {
            sanitize_html(&piece.repeat(1_000));
        }
        assert!(is_within_limits(&"<br>".repeat(MAX_TAGS)) && !is_within_limits(&"<br>".repeat(MAX_TAGS + 1)));
        assert!(is_within_limits(&"x".repeat(MAX_INPUT_SIZE)) && !is_within_limits(&"x".repeat(MAX_INPUT_SIZE + 1)));
    }
}
