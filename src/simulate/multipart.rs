//! Forms as a provider reads them, by a parser of its own: line by line, whole contents copied.

use super::dialect::Refusal;

/// A field of a form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Its name.
    pub(super) name: String,
    /// Its file's name, where it is a file.
    pub(super) file: Option<String>,
    /// Its content.
    pub(super) content: Vec<u8>,
}

impl Field {
    /// Its content as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
}

/// Reads the form in a body of this `content-type`.
///
/// # Errors
/// A 400 for what is no form.
pub(super) fn read(content_type: &str, body: &[u8]) -> Result<Vec<Field>, Refusal> {
    let wrong = |what: &str| Refusal::status(400, format!("Could not parse multipart form: {what}"));
    let (kind, rest) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Err(wrong("the content-type must be multipart/form-data"));
    }
    let boundary = rest.trim().strip_prefix("boundary=").map(|value| value.trim_matches('"')).ok_or_else(|| wrong("no boundary"))?;
    let (next, last) = (format!("--{boundary}\r\n"), format!("--{boundary}--"));
    let mut fields: Vec<Field> = Vec::new();
    let (mut in_head, mut ended) = (false, false);
    let mut head = String::new();
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let delimits = line == next.as_bytes();
        ended = line.starts_with(last.as_bytes());
        if delimits || ended {
            if let Some(content) = fields.last_mut().map(|field| &mut field.content) {
                content.truncate(content.len().saturating_sub(2)); // its line break belongs to the delimiter
            }
            (in_head, head) = (delimits, String::new());
        } else if in_head && line == b"\r\n" {
            in_head = false;
            fields.push(field(&head).ok_or_else(|| wrong("a part has no name"))?);
        } else if in_head {
            head.push_str(&String::from_utf8_lossy(line));
        } else if let Some(field) = fields.last_mut() {
            field.content.extend_from_slice(line);
        }
        if ended {
            break;
        }
    }
    if ended { Ok(fields) } else { Err(wrong("no end")) }
}

/// The field whose part has this head.
fn field(head: &str) -> Option<Field> {
    let disposition = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    let of = |key: &str| {
        let value = disposition.split(';').find_map(|pair| pair.trim().strip_prefix(key)?.strip_prefix('='))?;
        Some(value.trim_matches('"').to_owned())
    };
    Some(Field { name: of("name")?, file: of("filename"), content: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_files_are_read() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--x\r\n\
            content-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n\r\n--y\n\xff\r\n--x--\r\n";
        let fields = read("multipart/form-data; boundary=\"x\"", body).unwrap();
        let of = |at: usize| fields.get(at).map(|field| (field.name.as_str(), field.file.as_deref(), field.content.as_slice()));
        assert_eq!(of(0), Some(("model", None, b"m".as_slice())));
        assert_eq!(of(1), Some(("file", Some("a.wav"), b"\r\n--y\n\xff".as_slice())));
        assert!(read("multipart/form-data; boundary=x", b"--x\r\n").is_err() && read("application/json", body).is_err());
    }
}
