//! An HTTP/2 server over TLS that a test plays frame by frame: what a good server never sends, and silence.

use super::soon;
use super::tls::Certificates;
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// RFC 9113, section 7.
const REFUSED_STREAM: u32 = 7;

/// Listens for the gateway.
pub struct Frames {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    certificates: Certificates,
}

/// One connection of the gateway's.
pub struct Peer(TlsStream<TcpStream>);

impl Frames {
    /// Listens on a free port, with HTTP/2 as the only protocol.
    pub async fn start() -> Self {
        let certificates = Certificates::new();
        let acceptor = certificates.acceptor(&["h2"]);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self { listener, acceptor, certificates }
    }

    /// The configuration of this provider, with more keys.
    pub fn provider(&self, more: &str) -> String {
        let (address, ca) = (self.listener.local_addr().unwrap(), self.certificates.ca.display());
        format!("{{ kind: vllm, base_url: \"https://{address}/v1\", tls: {{ ca_file: {ca}, server_name: localhost }}, {more} }}")
    }

    /// The next connection, before any frame of the server's.
    pub async fn silent(&self) -> Peer {
        soon("a connection to the upstream", async {
            loop {
                let (stream, _) = self.listener.accept().await.unwrap();
                if let Ok(stream) = self.acceptor.accept(stream).await {
                    return Peer(stream);
                }
            }
        })
        .await
    }

    /// The next connection, after the server's SETTINGS.
    pub async fn accept(&self) -> Peer {
        let mut peer = self.silent().await;
        peer.send(SETTINGS, 0, 0, &[]).await;
        let mut preface = [0; 24];
        soon("the preface", peer.0.read_exact(&mut preface)).await.unwrap();
        peer
    }

    /// Answers the next request. It comes on `peer`, or on a new connection where the gateway has not put `peer` back into its
    /// pool yet, which it does after the client has the whole answer.
    pub async fn answer_next(&self, peer: &mut Peer) {
        let new = tokio::select! {
            stream = peer.request() => return peer.answer(stream).await,
            new = self.accept() => new,
        };
        *peer = new;
        peer.serve().await;
    }
}

impl Peer {
    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat();
        self.0.write_all(&frame).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// The next frame: kind, flags, stream. Acknowledges SETTINGS and PING.
    async fn frame(&mut self) -> std::io::Result<(u8, u8, u32)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload).await?;
        let (kind, flags, stream) = (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        match kind {
            SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]).await,
            PING if flags & ACK == 0 => self.send(PING, ACK, 0, &payload).await,
            _ => {}
        }
        Ok((kind, flags, stream))
    }

    /// Awaits the next whole request; returns its stream.
    pub async fn request(&mut self) -> u32 {
        soon("a request", async {
            loop {
                if let (DATA, flags, stream) = self.frame().await.unwrap()
                    && flags & END_STREAM != 0
                {
                    return stream;
                }
            }
        })
        .await
    }

    /// Answers the next request; returns its stream.
    pub async fn serve(&mut self) -> u32 {
        let stream = self.request().await;
        self.answer(stream).await;
        stream
    }

    /// Answers a request with a completion.
    pub async fn answer(&mut self, stream: u32) {
        // RFC 7541: `:status: 200` is entry 8 of the static table, `content-type` entry 31.
        let json = b"application/json";
        let headers = [&[0x88, 0x0f, 0x10, json.len() as u8], &json[..]].concat();
        self.send(HEADERS, END_HEADERS, stream, &headers).await;
        self.send(DATA, END_STREAM, stream, super::COMPLETION.as_bytes()).await;
    }

    /// Refuses a request before any processing.
    pub async fn refuse(&mut self, stream: u32) {
        self.send(RST_STREAM, 0, stream, &REFUSED_STREAM.to_be_bytes()).await;
    }

    /// Ends the connection for requests after `last`.
    pub async fn go_away(&mut self, last: u32, code: u32) {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat()).await;
    }

    /// Awaits the gateway's hanging up; nothing is answered meanwhile.
    pub async fn hung_up(mut self) {
        let mut rest = Vec::new();
        let _ = soon("the gateway's hanging up", self.0.read_to_end(&mut rest)).await; // without a close_notify it is an error
    }
}
