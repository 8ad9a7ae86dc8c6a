//! The framings, taken apart and put together again with lengths and checksums that are right.

use tidegate::frame::aws_event_stream::write_message;

/// One AWS message with string headers.
#[derive(Clone, Debug)]
pub struct Message {
    pub headers: Vec<(String, String)>,
    pub payload: Vec<u8>,
}

impl Message {
    /// An event, or an exception where the kind begins with `!`.
    pub fn new(kind: &str, payload: &[u8]) -> Self {
        let (kind_header, message_type, kind) = match kind.strip_prefix('!') {
            Some(kind) => (":exception-type", "exception", kind),
            None => (":event-type", "event", kind),
        };
        let headers = [(kind_header, kind), (":content-type", "application/json"), (":message-type", message_type)];
        Self { headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(), payload: payload.to_vec() }
    }
}

/// The messages one behind the other.
pub fn join(messages: &[Message]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        let headers: Vec<_> = message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        write_message(&mut out, &headers, &message.payload);
    }
    out
}

/// The messages of a stream that is well-formed; less of them where it is not.
pub fn split(mut bytes: &[u8]) -> Vec<Message> {
    let mut out = Vec::new();
    while let Some((message, rest)) = one(bytes) {
        out.push(message);
        bytes = rest;
    }
    out
}

fn one(bytes: &[u8]) -> Option<(Message, &[u8])> {
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    let (total, length) = (number(0)?, number(4)?);
    let mut headers = Vec::new();
    let mut rest = bytes.get(12..12usize.checked_add(length)?)?;
    while let Some((&size, after)) = rest.split_first() {
        let (name, after) = after.split_at_checked(usize::from(size))?;
        let (size, after) = after.get(1..)?.split_first_chunk::<2>()?;
        let (value, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
        headers.push((String::from_utf8(name.to_vec()).ok()?, String::from_utf8(value.to_vec()).ok()?));
        rest = after;
    }
    let payload = bytes.get(12 + length..total.checked_sub(4)?)?.to_vec();
    Some((Message { headers, payload }, bytes.get(total..)?))
}

/// Server-sent events, as they stand between blank lines.
pub fn events(bytes: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    text.split("\n\n").filter(|event| !event.is_empty()).map(|event| event.as_bytes().to_vec()).collect()
}
