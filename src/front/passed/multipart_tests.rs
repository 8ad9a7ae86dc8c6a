//! What is read of a form, and what is refused because readers differ about it.

use super::*;

/// Name, whether it is a file, content.
type Read = Vec<(String, bool, Vec<u8>)>;

fn read(body: &[u8], boundary: &str) -> Result<Read, &'static str> {
    let delimiter = delimiter(boundary);
    let mut parts = Parts::new(body, &delimiter).map_err(|e| e.0)?;
    let mut all = Vec::new();
    while let Some(part) = parts.part().map_err(|e| e.0)? {
        all.push((String::from_utf8_lossy(part.name).into_owned(), part.is_file, body[part.content].to_vec()));
    }
    Ok(all)
}

fn field(head: &str, content: &str) -> String {
    format!("--b\r\n{head}\r\n\r\n{content}\r\n")
}

fn named(name: &str, content: &str) -> String {
    field(&format!("Content-Disposition: form-data; name=\"{name}\""), content)
}

#[test]
fn parts_are_found_wherever_the_boundary_is_like_their_content() {
    let file = "\r\n--\r\n--c\r\n-b\r\n--B\r\nx--b\r\n --b\r\n---b--\r\n--\rb--b--";
    let head = "content-disposition:form-data;name=file ; filename=\"a;name=model\\x.wav\"\r\nContent-Type: audio/wav";
    let body = named("model", "whisper-1") + &field(head, file) + &named("empty", "") + "--b--\r\n";
    let want = [("model", false, "whisper-1"), ("file", true, file), ("empty", false, "")];
    let want: Read = want.map(|(name, is_file, content)| (name.to_owned(), is_file, content.as_bytes().to_vec())).into();
    assert_eq!(read(body.as_bytes(), "b"), Ok(want));
    assert_eq!(read(b"--b--", "b"), Ok(vec![]));
}

#[test]
fn what_parsers_differ_about_is_refused() {
    let good = named("model", "m");
    for (what, body) in [
        ("it does not begin with its boundary", "preamble\r\n".to_owned() + &good + "--b--"),
        ("it does not begin with its boundary", String::new()),
        ("it ends inside a part", good.clone()),
        ("it ends inside a part", good.trim_end().to_owned()),
        ("its boundary is behind a line break that is not CR LF", named("x", "1\n--b\r\nz") + "--b--"),
        ("its boundary is behind a line break that is not CR LF", named("x", "1\r--b--") + "--b--"),
        ("its boundary is behind a line break that is not CR LF", "--b\r\nContent-Disposition: form-data; name=x\r\n\r\n--b--".into()),
        ("a line in it begins with its boundary and goes on", named("x", "1\r\n--bc") + "--b--"),
        ("a line in it begins with its boundary and goes on", named("x", "1\r\n--b \r\n") + "--b--"),
        ("a line in it begins with its boundary and goes on", "--bb\r\n".into()),
        ("there is something behind its end", good.clone() + "--b--\r\n" + &good),
        ("the headers of a part do not end, or are too long", "--b\r\nContent-Disposition: form-data; name=x\r\n--b--".into()),
        ("the headers of a part do not end, or are too long", field(&format!("x: {}", "y".repeat(9000)), "1") + "--b--"),
        ("a header of a part has a bad name, or is folded", field("Content-Disposition: form-data;\r\n name=\"x\": y", "1") + "--b--"),
        ("a header of a part has no colon", field("Content-Disposition: form-data;\r\n name=\"x\"", "1") + "--b--"),
        ("a header of a part has a bad name, or is folded", field("Content-Disposition : form-data; name=x", "1") + "--b--"),
        ("a header of a part has a control character", field("Content-Disposition: form-data; name=x\ny: z", "1") + "--b--"),
        ("a part has no Content-Disposition", field("Content-Type: text/plain", "1") + "--b--"),
        ("a part's Content-Disposition is not form-data", field("Content-Disposition: attachment; name=x", "1") + "--b--"),
        ("a part has no name", field("Content-Disposition: form-data; filename=x", "1") + "--b--"),
        ("a part has several names", field("Content-Disposition: form-data; name=x; NAME=model", "1") + "--b--"),
        ("a part has a parameter with `*`", field("Content-Disposition: form-data; name=x; name*=utf-8''model", "1") + "--b--"),
        ("a part has a parameter with `*`", field("Content-Disposition: form-data; name=x; name*0=mo; name*1=del", "1") + "--b--"),
        (
            "a part has several Content-Disposition headers",
            field("Content-Disposition: form-data; name=x\r\ncontent-disposition: form-data; name=model", "1") + "--b--",
        ),
        (
            "a parameter of a header has an escaped quotation mark; name the file otherwise",
            field("Content-Disposition: form-data; name=\"x\"; filename=\"\\\";name=model;y=\\\"\"", "1") + "--b--",
        ),
        ("a parameter of a header is malformed", field("Content-Disposition: form-data; name=\"x", "1") + "--b--"),
        ("a parameter of a header is malformed", field("Content-Disposition: form-data; name=\"x\"y", "1") + "--b--"),
        ("a parameter of a header is malformed", field("Content-Disposition: form-data; name", "1") + "--b--"),
    ] {
        assert_eq!(read(body.as_bytes(), "b"), Err(what), "{body}");
    }
}

#[test]
fn a_boundary_is_quoted_or_not() {
    let of = |text: &str| boundary(text.as_bytes()).map(|found| found.map(str::to_owned)).map_err(|e| e.0);
    for (text, want) in [
        ("multipart/form-data; boundary=abc", Some("abc")),
        ("Multipart/Form-Data;charset=utf-8 ; BOUNDARY=\"a b:c\";", Some("a b:c")),
        ("multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW", Some("----WebKitFormBoundary7MA4YWxkTrZu0gW")),
        ("application/json", None),
        ("", None),
    ] {
        assert_eq!(of(text), Ok(want.map(str::to_owned)), "{text}");
        if let Some(want) = want {
            assert_eq!(of(&content_type(want)), Ok(Some(want.to_owned())));
        }
    }
    for text in
        ["", "; boundary=", "; boundary=\"\"", "; boundary=\"a \"", "; boundary=a;boundary=b", "; boundary=\"a\\\"b\"", "; boundary=ä"]
    {
        assert!(of(&format!("multipart/form-data{text}")).is_err(), "{text}");
    }
    assert!(of(&format!("multipart/form-data; boundary={}", "a".repeat(71))).is_err());
}

/// Time grows with the length only: a mebibyte of what is nearly a boundary at every byte is read like any other.
#[test]
fn a_body_that_is_nothing_but_beginnings_of_its_boundary_is_read_in_one_pass() {
    for boundary in ["-".repeat(70), "-".repeat(69) + "x"] {
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\nx");
        for filler in ["-".repeat(1 << 20), "\r".repeat(1 << 20), "\r\n--".repeat(1 << 18)] {
            let body = head.clone() + &filler + "y";
            assert!(read(body.as_bytes(), &boundary).is_err());
        }
    }
}
