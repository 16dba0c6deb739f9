//! A server's words for what went wrong, wherever it puts them.

use serde_json::Value;

use crate::http::excerpt;

/// Characters of a message that are kept.
const CHARS: usize = 300;

/// The message in an error's body: of the forms that servers are known to use, or else an excerpt of the body.
pub(super) fn message(body: &[u8]) -> String {
    match serde_json::from_slice::<Value>(body) {
        Ok(json) => match find(&json) {
            Some(text) => excerpt(text.as_bytes(), CHARS),
            None => excerpt(body, CHARS),
        },
        Err(_) => match title(body) {
            Some(title) => excerpt(title, CHARS),
            None => excerpt(body, CHARS),
        },
    }
}

/// Where a redirect leads, without what may be somebody's alone: neither a user nor a query. `None` if that is nothing.
pub(super) fn place(location: &[u8]) -> Option<String> {
    let end = location.iter().position(|b| matches!(b, b'?' | b'#')).unwrap_or(location.len());
    let place = location[..end].trim_ascii();
    (!place.is_empty() && !place.contains(&b'@')).then(|| excerpt(place, CHARS))
}

/// Whether a line that stands in a stream without a field's name is an error object.
pub(super) fn is_error(line: &[u8]) -> bool {
    serde_json::from_slice::<Value>(line).is_ok_and(|json| json.get("error").is_some_and(|error| !error.is_null()))
}

/// `{"error":{"message"}}`, `{"error":"text"}`, `{"detail":…}` (text, or FastAPI's list), `{"message"}`.
fn find(json: &Value) -> Option<String> {
    if let Some(text) = json.as_str() {
        return Some(text.to_owned());
    }
    if let Some(items) = json.as_array() {
        let words: Vec<String> = items.iter().filter_map(item).collect();
        return (!words.is_empty()).then(|| words.join("; "));
    }
    ["error", "detail", "message", "msg"].iter().find_map(|key| find(json.get(key)?))
}

/// One entry of FastAPI's list: where, and what.
fn item(entry: &Value) -> Option<String> {
    let message = find(entry)?;
    let place = entry.get("loc").and_then(Value::as_array).map(|parts| {
        parts
            .iter()
            .map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(".")
    });
    Some(place.map_or_else(|| message.clone(), |place| format!("{place}: {message}")))
}

/// The title of an HTML page.
fn title(body: &[u8]) -> Option<&[u8]> {
    let head = &body[..body.len().min(8192)];
    let lower = head.to_ascii_lowercase();
    let start = memchr::memmem::find(&lower, b"<title>")? + "<title>".len();
    let length = memchr::memmem::find(&lower[start..], b"</title>")?;
    Some(head[start..start + length].trim_ascii()).filter(|title| !title.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_found_in_every_form() {
        for (body, wanted) in [
            (r#"{"error":{"message":"too many","type":"rate","code":"429"}}"#, "too many"),
            (r#"{"error":"no such model"}"#, "no such model"),
            (r#"{"detail":"Not Found"}"#, "Not Found"),
            (
                r#"{"detail":[{"loc":["body","x",0],"msg":"field required"},{"msg":"b"}]}"#,
                "body.x.0: field required; b",
            ),
            (r#"{"object":"error","message":"bad","code":40303}"#, "bad"),
            (r#"{"error":{"error":{"message":"nested"}}}"#, "nested"),
            (r#"[{"error":{"message":"in a list"}}]"#, "in a list"),
            (r#"{"code":7}"#, r#"{"code":7}"#),
            ("<html><HEAD><Title> 502 Bad Gateway </title></head><body>…", "502 Bad Gateway"),
            ("<h1>oops</h1>", "<h1>oops</h1>"),
            ("upstream\r\nfailed\x1b[31m", "upstream  failed\\u{1b}[31m"),
            ("", ""),
        ] {
            assert_eq!(message(body.as_bytes()), wanted, "{body}");
        }
    }

    #[test]
    fn messages_are_bounded() {
        let body = format!(r#"{{"error":{{"message":"{}"}}}}"#, "x".repeat(100_000));
        assert_eq!(message(body.as_bytes()).chars().count(), CHARS + 1);
        assert_eq!(message("[".repeat(100_000).as_bytes()).chars().count(), CHARS + 1);
    }
}
