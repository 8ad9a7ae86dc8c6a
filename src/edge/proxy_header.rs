//! The header of the PROXY protocol, version 1 or 2, in which a load balancer sends the client's address before the client's
//! own bytes: <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>.

use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::{GetSocketDigest, SocketDigest};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use tokio::io::AsyncReadExt;

/// Longest header of version 1 with its line end (section 2.1).
const MAX_V1: usize = 107;
/// What a header of version 2 begins with (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length.
const FIXED_V2: usize = SIGNATURE.len() + 4;
/// Most bytes of addresses and extensions (TLV) that are accepted after that. Load balancers send some hundred at most.
const MAX_PAYLOAD_V2: usize = 4 << 10;
/// Bytes that are read at once.
const PIECE: usize = 512;

/// Why the bytes are no header.
pub type Malformed = &'static str;

/// Why there is no header.
pub enum Failed {
    /// The connection ended before.
    Closed,
    /// The bytes are none.
    Malformed(Malformed),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the connection ended in it",
            Self::Malformed(why) => why,
        })
    }
}

/// A complete header.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    /// Its bytes.
    length: usize,
    /// The client's address; `None` where the connection is the balancer's own, or the address is not one of IP.
    source: Option<SocketAddr>,
}

/// Reads a header off the stream and makes the address in it the peer's. `begun` is called once there is a part of it.
///
/// # Errors
/// Where there is none.
pub async fn read(stream: &mut Stream, begun: impl Fn()) -> Result<(), Failed> {
    let mut bytes = Vec::new();
    let header = loop {
        let mut piece = [0; PIECE];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return Err(Failed::Closed),
            Ok(read) => bytes.extend(piece.iter().take(read)),
        }
        begun();
        if let Some(header) = parse(&bytes).map_err(Failed::Malformed)? {
            break header;
        }
    };
    stream.rewind(bytes.get(header.length..).unwrap_or_default());
    if let Some(source) = header.source {
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        let _ = digest.peer_addr.set(Some(source.into())); // fresh, and so not set
        stream.set_socket_digest(digest);
    }
    Ok(())
}

/// The header at the beginning of these bytes; `None` where it is not complete. They are never longer than
/// [`FIXED_V2`], [`MAX_PAYLOAD_V2`] and a [`PIECE`] before this fails or finds one.
fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    const V1: &[u8] = b"PROXY ";
    if begins(bytes, SIGNATURE) {
        return bytes.first_chunk().map_or(Ok(None), |fixed| version_2(fixed, bytes));
    }
    if !begins(bytes, V1) {
        return Err("the connection does not begin with a PROXY header");
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

/// Whether one of the two begins with the other.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    bytes.iter().zip(with).all(|(a, b)| a == b)
}

/// The rest of the line: family, source, destination and their ports, each after one space.
fn version_1(line: &str) -> Result<Option<SocketAddr>, Malformed> {
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(None); // "the receiver must ignore anything presented before the CRLF"
    }
    let (Some(source), Some(destination), Some(source_port), Some(destination_port), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err("the line has not the five words of an address pair");
    };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| "an address is not one of IPv4"),
        "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| "an address is not one of IPv6"),
        _ => Err("the family is none of TCP4, TCP6 and UNKNOWN"),
    };
    let (source, _) = (address(source)?, address(destination)?);
    let (source_port, _) = (port(source_port)?, port(destination_port)?);
    Ok(Some(SocketAddr::new(source, source_port)))
}

fn port(text: &str) -> Result<u16, Malformed> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| digits).ok_or("a port is not a number from 0 to 65535")
}

fn version_2(fixed: &[u8; FIXED_V2], bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let [.., version_and_command, family, high, low] = *fixed;
    let payload = usize::from(u16::from_be_bytes([high, low]));
    let is_proxied = match (version_and_command >> 4, version_and_command & 0xf) {
        (2, 0) => false, // LOCAL: the balancer's own connection, whatever addresses it sends
        (2, 1) => true,
        (2, _) => return Err("the command is neither LOCAL nor PROXY"),
        _ => return Err("the version is not 2"),
    };
    if payload > MAX_PAYLOAD_V2 {
        return Err("the header is longer than 4112 bytes");
    }
    let addresses = match (family >> 4, family & 0xf) {
        _ if !is_proxied => Addresses::None,
        (0, _) => Addresses::None, // AF_UNSPEC
        (1, 1 | 2) => Addresses::V4,
        (2, 1 | 2) => Addresses::V6,
        (3, 1 | 2) => Addresses::None, // AF_UNIX
        _ => return Err("the address family or the protocol is not known"),
    };
    let least = match addresses {
        Addresses::None => 0,
        Addresses::V4 => 12, // two addresses, two ports
        Addresses::V6 => 36,
    };
    if payload < least {
        return Err("the header is shorter than its addresses");
    }
    let length = FIXED_V2 + payload;
    let Some(rest) = bytes.get(FIXED_V2..length) else { return Ok(None) };
    let port = |at| rest.get(at..).and_then(|rest| rest.first_chunk()).copied().map(u16::from_be_bytes);
    let source = match addresses {
        Addresses::None => None,
        Addresses::V4 => rest.first_chunk::<4>().zip(port(8)).map(|(ip, port)| SocketAddr::from((*ip, port))),
        Addresses::V6 => rest.first_chunk::<16>().zip(port(32)).map(|(ip, port)| SocketAddr::from((*ip, port))),
    };
    Ok(Some(Header { length, source }))
}

/// What the payload of a header of version 2 begins with.
#[derive(Clone, Copy)]
enum Addresses {
    /// Nothing of use.
    None,
    V4,
    V6,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
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
            (b"G".to_vec(), "begin"),
            (b"\x16\x03\x01".to_vec(), "begin"),
            (b"PROXY\tTCP4".to_vec(), "begin"),
            (b"\r\n\r\n\0\r\nQUIT!".to_vec(), "begin"),
            (long.into_bytes(), "107 bytes"),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n".to_vec(), "CR LF"),
            (b"PROXY UNKNOWN \xff\r\n".to_vec(), "ASCII"),
            (line(""), "five words"),
            (line("TCP4 192.0.2.1 10.0.0.1 1"), "five words"),
            (line("TCP4 192.0.2.1 10.0.0.1 1 2 3"), "five words"),
            (line("TCP4  192.0.2.1 10.0.0.1 1"), "IPv4"),
            (line("TCP4 2001:db8::1 10.0.0.1 1 2"), "IPv4"),
            (line("TCP4 192.0.2.01 10.0.0.1 1 2"), "IPv4"),
            (line("TCP6 192.0.2.1 10.0.0.1 1 2"), "IPv6"),
            (line("UDP4 192.0.2.1 10.0.0.1 1 2"), "none of TCP4"),
            (line("tcp4 192.0.2.1 10.0.0.1 1 2"), "none of TCP4"),
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
