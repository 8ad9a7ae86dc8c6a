//! Parses the header of the PROXY protocol, version 1 or 2, in which a load balancer sends the client's address: <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>.

use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::{GetSocketDigest, SocketDigest};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use tokio::io::AsyncReadExt;

/// Maximum length of a version 1 header with CR LF (section 2.1).
const MAX_V1: usize = 107;
/// Signature of a version 2 header (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Length of signature, version and command, family and protocol, and length field.
const FIXED_V2: usize = SIGNATURE.len() + 4;
/// Maximum length of addresses and extensions (TLV) after that. Load balancers send a few hundred bytes.
const MAX_PAYLOAD_V2: usize = 4 << 10;
/// Length of two IPv4 addresses and two ports.
const ADDRESSES_V4: usize = 12;
/// Length of two IPv6 addresses and two ports.
const ADDRESSES_V6: usize = 36;
/// Read size, in bytes.
const PIECE: usize = 512;

/// Why a header is invalid.
pub type Malformed = &'static str;

/// Why no header was read.
pub enum ReadError {
    /// The connection was closed.
    Closed,
    /// Invalid bytes.
    Malformed(Malformed),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the connection was closed",
            Self::Malformed(why) => why,
        })
    }
}

/// A complete header.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    /// Length in bytes.
    length: usize,
    /// The client's address; `None` for the balancer's own connections and for addresses other than IP.
    source: Option<SocketAddr>,
}

/// Reads the header and sets the stream's peer address. Calls `on_start` when the first bytes have arrived.
///
/// # Errors
/// Why no header was read.
pub async fn read(stream: &mut Stream, on_start: impl Fn()) -> Result<(), ReadError> {
    let mut bytes = Vec::new();
    let header = loop {
        let mut piece = [0; PIECE];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return Err(ReadError::Closed),
            Ok(read) => bytes.extend(piece.iter().take(read)),
        }
        on_start();
        if let Some(header) = parse(&bytes).map_err(ReadError::Malformed)? {
            break header;
        }
    };
    stream.rewind(bytes.get(header.length..).unwrap_or_default());
    if let Some(source) = header.source {
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        let _ = digest.peer_addr.set(Some(source.into())); // new, so it is not set
        stream.set_socket_digest(digest);
    }
    Ok(())
}

/// Parses the header at the start of `bytes`; `None` if it is incomplete. The caller never buffers more than [`FIXED_V2`],
/// [`MAX_PAYLOAD_V2`] and one [`PIECE`].
fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    const V1: &[u8] = b"PROXY ";
    if begins(bytes, SIGNATURE) {
        return bytes.first_chunk().map_or(Ok(None), |fixed| version_2(fixed, bytes));
    }
    if !begins(bytes, V1) {
        return Err("no PROXY header");
    }
    match bytes.iter().take(MAX_V1).position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = bytes.get(V1.len()..end).and_then(|line| line.strip_suffix(b"\r")).ok_or("the line does not end with CR LF")?;
            let line = std::str::from_utf8(line).map_err(|_| "the line is not ASCII")?;
            Ok(Some(Header { length: end + 1, source: version_1(line)? }))
        }
        None if bytes.len() >= MAX_V1 => Err("the line is longer than 107 bytes"),
        None => Ok(None),
    }
}

/// Whether one of the two is a prefix of the other.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    bytes.iter().zip(with).all(|(a, b)| a == b)
}

/// Parses the rest of the line: family, source, destination and their ports, separated by single spaces.
fn version_1(line: &str) -> Result<Option<SocketAddr>, Malformed> {
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(None); // "the receiver must ignore anything presented before the CRLF"
    }
    let (Some(source), Some(destination), Some(source_port), Some(destination_port), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err("the line does not have five fields");
    };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| "invalid IPv4 address"),
        "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| "invalid IPv6 address"),
        _ => Err("the family is not TCP4, TCP6 or UNKNOWN"),
    };
    let (source, _) = (address(source)?, address(destination)?);
    let (source_port, _) = (port(source_port)?, port(destination_port)?);
    Ok(Some(SocketAddr::new(source, source_port)))
}

fn port(text: &str) -> Result<u16, Malformed> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| digits).ok_or("invalid port")
}

fn version_2(fixed: &[u8; FIXED_V2], bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let [.., version_and_command, family, high, low] = *fixed;
    let payload = usize::from(u16::from_be_bytes([high, low]));
    let is_proxied = match (version_and_command >> 4, version_and_command & 0xf) {
        (2, 0) => false, // LOCAL: the balancer's own connection; its addresses are ignored
        (2, 1) => true,
        (2, _) => return Err("the command is neither LOCAL nor PROXY"),
        _ => return Err("the version is not 2"),
    };
    if payload > MAX_PAYLOAD_V2 {
        return Err("the header is longer than 4112 bytes");
    }
    let addresses = match (family >> 4, family & 0xf) {
        _ if !is_proxied => 0,
        (0, _) | (3, 1 | 2) => 0, // AF_UNSPEC, AF_UNIX
        (1, 1 | 2) => ADDRESSES_V4,
        (2, 1 | 2) => ADDRESSES_V6,
        _ => return Err("unknown address family or protocol"),
    };
    if payload < addresses {
        return Err("the header is shorter than its addresses");
    }
    let length = FIXED_V2 + payload;
    let Some(rest) = bytes.get(FIXED_V2..length) else { return Ok(None) };
    let port = |at| rest.get(at..).and_then(|rest| rest.first_chunk()).copied().map(u16::from_be_bytes);
    let source = match addresses {
        ADDRESSES_V4 => rest.first_chunk::<4>().zip(port(8)).map(|(ip, port)| SocketAddr::from((*ip, port))),
        ADDRESSES_V6 => rest.first_chunk::<16>().zip(port(32)).map(|(ip, port)| SocketAddr::from((*ip, port))),
        _ => None,
    };
    Ok(Some(Header { length, source }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(version_and_command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([version_and_command, family]);
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0xdd, 0xd5, 1, 187];

    fn v6() -> Vec<u8> {
        let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        [&ip("2001:db8::1")[..], &ip("2001:db8::2"), &[0xdd, 0xd5, 1, 187]].concat()
    }

    #[test]
    fn a_header_is_found_at_its_last_byte_and_not_before() {
        let with_tlv = [&V4[..], &[3, 0, 4, 1, 2, 3, 4]].concat();
        let cases = [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 56789 443\r\n".to_vec(), Some("192.0.2.1:56789")),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 56789 0\r\n".to_vec(), Some("[2001:db8::1]:56789")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ff:ff:: whatever it says\r\n".to_vec(), None),
            (v2(0x21, 0x11, &V4), Some("192.0.2.1:56789")),
            (v2(0x21, 0x12, &with_tlv), Some("192.0.2.1:56789")),
            (v2(0x21, 0x21, &v6()), Some("[2001:db8::1]:56789")),
            (v2(0x20, 0x11, &V4), None),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0xff, &[]), None),
            (v2(0x21, 0x00, &[7; 30]), None),
            (v2(0x21, 0x31, &[b'/'; 216]), None),
            (v2(0x21, 0x11, &[&V4[..], &[0; MAX_PAYLOAD_V2 - 12]].concat()), Some("192.0.2.1:56789")),
        ];
        for (number, (bytes, source)) in cases.into_iter().enumerate() {
            let header = Header { length: bytes.len(), source: source.map(|text| text.parse().unwrap()) };
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Ok(None), "case {number} at {end}");
            }
            for rest in ["", "GET / HTTP/1.1\r\n", "\r\n\n"] {
                assert_eq!(parse(&[&bytes, rest.as_bytes()].concat()), Ok(Some(Header { ..header })), "case {number}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused_with_the_reason() {
        let long = format!("PROXY UNKNOWN {}", "x".repeat(MAX_V1));
        let line = |rest: &str| format!("PROXY {rest}\r\n").into_bytes();
        for (bytes, reason) in [
            (b"G".to_vec(), "no PROXY header"),
            (b"\x16\x03\x01".to_vec(), "no PROXY header"),
            (b"PROXY\tTCP4".to_vec(), "no PROXY header"),
            (b"\r\n\r\n\0\r\nQUIT!".to_vec(), "no PROXY header"),
            (long.into_bytes(), "107 bytes"),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n".to_vec(), "CR LF"),
            (b"PROXY UNKNOWN \xff\r\n".to_vec(), "ASCII"),
            (line(""), "five fields"),
            (line("TCP4 192.0.2.1 10.0.0.1 1"), "five fields"),
            (line("TCP4 192.0.2.1 10.0.0.1 1 2 3"), "five fields"),
            (line("TCP4  192.0.2.1 10.0.0.1 1"), "IPv4"),
            (line("TCP4 2001:db8::1 10.0.0.1 1 2"), "IPv4"),
            (line("TCP4 192.0.2.01 10.0.0.1 1 2"), "IPv4"),
            (line("TCP6 192.0.2.1 10.0.0.1 1 2"), "IPv6"),
            (line("UDP4 192.0.2.1 10.0.0.1 1 2"), "not TCP4"),
            (line("tcp4 192.0.2.1 10.0.0.1 1 2"), "not TCP4"),
            (line("TCP4 192.0.2.1 10.0.0.1 65536 2"), "port"),
            (line("TCP4 192.0.2.1 10.0.0.1 1 02"), "port"),
            (line("TCP4 192.0.2.1 10.0.0.1 +1 2"), "port"),
            (v2(0x11, 0x11, &V4), "version"),
            (v2(0x22, 0x11, &V4), "command"),
            (v2(0x21, 0x41, &V4), "family"),
            (v2(0x21, 0x13, &V4), "family"),
            (v2(0x21, 0x11, &V4[..11]), "shorter"),
            (v2(0x21, 0x21, &V4), "shorter"),
            (v2(0x21, 0x11, &[0; MAX_PAYLOAD_V2 + 1])[..FIXED_V2].to_vec(), "4112"),
        ] {
            let problem = parse(&bytes).unwrap_err();
            assert!(problem.contains(reason), "{}: {problem}", bytes.escape_ascii());
        }
    }
}
