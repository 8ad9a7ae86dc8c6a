//! Tidegate: an edge gateway for LLM traffic.
//!
//! Clients use OpenAI's chat completions, embeddings and Responses or Anthropic's Messages; providers use their own wire
//! protocols. OpenAI's other endpoints pass as they are. A request is authenticated, limited, routed, translated and signed; the
//! response is translated while it passes through, whole or streamed. This page is an overview; each module's documentation has
//! the details.
//!
//! # What it is not
//!
//! - Not a prompt router: no decision depends on the content of a prompt, and prompts and responses are not stored.
//! - Not a second model of OpenAI's API: a request is a borrowed view of the client's bytes, and for an OpenAI-compatible
//!   provider only the changed spans are spliced.
//! - Not a control plane: one configuration file, and the key files beside it, decide what a request may do. A request cannot
//!   name a host, a provider's key, a limit, or a route that its key may not use.
//!
//! # A request's life
//!
//! ```text
//!  client                                                                        provider
//!    │                                                                               ▲ │
//!    │ POST /v1/chat/completions                                                     │ │
//!    ▼                                                                               │ │
//!  edge::intake ── auth ──── limit ──── route ──── dialect ──── sign ──── edge ──────┘ │
//!  framing,        Principal Permit     Plan:      the attempt's  proof   Pingora      │
//!  bounded read              (dropped:  targets    own body                            │
//!                            settled)   in order                                       │
//!                                          ▲                                           │
//!                                          │ failed before the first content:          │
//!                                          └ the next target, and a new body ─────┐    │
//!                                                                                 │    ▼
//!    ◄───────── front::chat ◄── llm::order ◄── dialect ◄──── frame
//!               OpenAI's bytes   one order     Events        cut anywhere
//!                                   relay: push(bytes, end) -> bytes
//!
//!  at the end of every request: limit settles, account computes the cost, telemetry counts and writes one log line
//! ```
//!
//! Every response is converted to [`llm::event::Event`]s; a whole response is a stream with one step. [`llm::order`] enforces
//! the rules of all protocols, [`front::chat::rules`] those of OpenAI's. A dialect is therefore written once for whole responses
//! and streams, and a further front is one more reader and writer.
//!
//! A *dialect* is code, a *provider* is data: the differences of an OpenAI-compatible service are an entry of
//! `src/provider/catalogue.yaml`, and no dialect depends on the provider's identity.
//!
//! # Adding a front
//!
//! A front is a reader and a writer; `tests/toy_front.rs` is a complete one in under 200 lines, tested with every dialect.
//!
//! 1. A folder in [`front`]. Its request type implements [`llm::request::Ask`]: it reads the client's bytes into
//!    [`llm::request::Request`], each value with its [`llm::request::Path`] in the client's protocol, and each parameter with the
//!    policy for dropping it ([`llm::field::Loss`]). Errors and dropped hints then use the client's field names.
//! 2. Its writer implements [`llm::event::Sink`] and [`llm::order::Writer`], and writes the events as a stream and as one
//!    object. Rules of this protocol belong here, as in [`front::chat::rules`].
//! 3. It writes errors from [`error::ApiError`], as [`front::chat::error`] does; [`front::Front`] selects it by the path. Its
//!    requests are an [`operation::Operation`], to which [`edge::admission`] maps their paths.
//! 4. Where a provider speaks the client's protocol, the dialect may splice the client's bytes ([`llm::request::Ask::messages`],
//!    [`llm::request::Ask::responses`]); the response is then passed through unchanged ([`front::native`]).
//!
//! # Adding a dialect
//!
//! A folder in [`dialect`] with a type that implements [`dialect::Dialect`] (writes a request from [`llm::request::Request`],
//! reads an error into [`llm::failure::ProviderError`]) and [`dialect::Configure`] (its keys of the configuration, its base URL,
//! its credential), and one that implements [`dialect::Decoder`] (frames to events); a line of `protocols!` in
//! [`provider::protocol`] and an entry of the catalogue. [`dialect::shared`] has the parts that several dialects use. An
//! OpenAI-compatible provider needs a catalogue entry and no code.
//!
//! # Invariants
//!
//! `tests/source_scan.rs` and `clippy.toml` check the mechanical ones.
//!
//! 1. Only [`edge`] names Pingora. [`json`], [`frame`], [`llm`], [`front`], [`dialect`], [`relay`], [`route`], [`lifecycle`] and
//!    `limit/gcra.rs` have no async, clock, socket or randomness: they are functions and state machines, tested byte by byte.
//! 2. No unsafe code. Outside tests there is no `unwrap`, `expect`, `panic!` or indexing: input cannot cause a panic.
//! 3. Memory does not grow with traffic: counters and metric series are created from the configuration and found by index, and
//!    every buffer has a named bound.
//! 4. A [`secret::Secret`] cannot be printed. Only [`auth`] creates an [`auth::Principal`], only [`limit`] a permit; dropping
//!    the permit settles it.
//! 5. A truncated response ends with an error, never with a `finish_reason`; with `[DONE]` only behind the event by which OpenAI's
//!    Responses say that one has failed.
//! 6. Upstream headers are built from an allow-list, never copied from the client.
//! 7. A request is signed with the key of the target it is sent to.
//! 8. One function converts errors to HTTP, one table normalises finish reasons, one module enforces the order of events.
//!
//! # Imports point one way
//!
//! A folder imports only those of its layer and below; `LAYERS` in `tests/source_scan.rs` is the whole list. From below: leaf
//! helpers, [`json`], [`redact`](mod@redact); [`error`](mod@error), [`egress`], [`yaml`]; [`llm`]; [`frame`], [`front`], [`sign`],
//! [`account`]; [`dialect`], [`limit`]; [`provider`], [`auth`], [`relay`]; [`route`], [`operation`]; [`telemetry`],
//! [`lifecycle`], [`explain`], [`config`], [`simulate`]; [`edge`] and the commands. The configuration of a part lives with that
//! part; [`config`] reads it, checks it and puts it together.
//!
//! # The modules, in the order of a request
//!
//! | module | purpose |
//! | --- | --- |
//! | [`cli`], [`commands`] | command line, and the commands that serve |
//! | [`demo`] | `tidegate demo` |
//! | [`report`] | `tidegate report`: spend, tokens, errors and times from access logs |
//! | [`reference`](mod@reference) | `tidegate reference`: headers, errors, metrics, log fields and simulator directives |
//! | [`config`] | reads and validates the configuration file and the key files; the immutable snapshot |
//! | [`explain`] | `tidegate check --explain`: how a route handles each parameter, determined with the encoders |
//! | [`edge`] | Pingora: listeners, hooks, reading and replaying requests, reload, drain |
//! | [`lifecycle`] | state machine of a request; classification of failures |
//! | [`operation`] | what a client can ask a model for: chat, embeddings …, and the endpoints that pass |
//! | [`error`](mod@error) | errors for clients |
//! | [`id`] | ids of requests, responses and episodes |
//! | [`auth`] | authentication by key or token, and access to routes |
//! | [`limit`] | limits on requests, tokens, concurrency and money; in memory or in Redis |
//! | [`route`] | route matching, balancing, health of targets, retries |
//! | [`provider`] | providers and targets; the catalogue of kinds |
//! | [`json`] | JSON without a DOM: scan, envelope, splice, write |
//! | [`llm`] | protocol-neutral model: request, response events and their order, usage, failures |
//! | [`front`] | client protocols: chat completions, OpenAI's Responses, Anthropic's Messages, embeddings, requests that pass, lists of models, errors |
//! | [`dialect`] | provider protocols: `openai`, `mistral`, `anthropic`, `bedrock`, `gemini`, `sagemaker` |
//! | [`egress`] | egress proxies: selection and tunnels |
//! | [`yaml`] | YAML with positions; reading typed sections |
//! | [`secret`], [`pem`], [`files`], [`units`], [`near`], [`percent`], [`hex`] | secret strings, certificates, file fingerprints, durations and money, similar names, percent-encoding, hexadecimal digits |
//! | [`redact`](mod@redact) | removes secrets from texts of providers |
//! | [`sign`] | credentials: bearer keys, AWS signatures, Google tokens |
//! | [`terminal`] | output of commands |
//! | [`system`] | clocks, random numbers, environment variables |
//! | [`frame`] | incremental framing: server-sent events, AWS event streams |
//! | [`relay`] | response pipeline: framer, decoder, order, writer |
//! | [`account`] | prices, cost, the record of a request |
//! | [`telemetry`] | metrics, log, traces, pages of the admin listener |
//! | [`simulate`] | simulator of all provider protocols, for demo, tests and load |
//!
//! Start with [`llm::event`] and [`dialect`] (the central interfaces), [`relay`] (their composition), [`lifecycle`] and
//! [`edge::proxy`] (the states of a request, and the hooks that drive them).

// Banned outside tests; clippy.toml lists the methods and types.
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types, clippy::string_slice, clippy::unreachable))]

pub mod account;
pub mod auth;
pub mod cli;
mod closed_set;
pub mod commands;
pub mod config;
#[cfg(feature = "simulator")]
pub mod demo;
pub mod dialect;
#[cfg(test)]
#[path = "../tests/shared/dir.rs"]
mod dir;
pub mod edge;
pub mod egress;
pub mod error;
pub mod explain;
pub mod files;
pub mod frame;
pub mod front;
pub mod hex;
pub mod id;
pub mod json;
pub mod lifecycle;
pub mod limit;
pub mod llm;
pub mod near;
pub mod operation;
pub mod pem;
pub mod percent;
pub mod provider;
pub mod redact;
pub mod reference;
pub mod relay;
pub mod report;
pub mod route;
pub mod secret;
pub mod sign;
#[cfg(feature = "simulator")]
pub mod simulate;
pub mod system;
pub mod telemetry;
pub mod terminal;
pub mod units;
pub mod yaml;
