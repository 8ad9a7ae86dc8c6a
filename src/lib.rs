//! Tidegate: an edge gateway for LLM traffic.
//!
//! Clients speak OpenAI's chat completions (and embeddings); behind are providers of many kinds, each in its own wire
//! protocol. In between a request is authenticated, limited, routed, rewritten and signed, and its answer is rewritten
//! while it passes, whole or streamed. This page is the tour; each module begins by saying why it exists.
//!
//! # What it is not
//!
//! - No router of prompts: it never reads what a prompt says to decide anything, and it stores no prompt and no answer.
//! - No second model of OpenAI's API: a request is a borrowed view of the client's bytes, and towards a provider that
//!   speaks OpenAI only the spans that must change are spliced.
//! - No control plane: what a request may do is decided by one file of configuration, and nothing in a request can name a
//!   host, a provider's key, a limit, or a route that its key may not use.
//!
//! # A request's life
//!
//! ```text
//!  client                                                                        provider
//!    │                                                                               ▲ │
//!    │ POST /v1/chat/completions                                                     │ │
//!    ▼                                                                               │ │
//!  edge::intake ── auth ──── limit ──── route ──── dialect ──── sign ──── edge ──────┘ │
//!  framing, one    Principal Permit     Plan:      the attempt's  who     Pingora      │
//!  bounded read              (dropped:  targets    own body       pays                 │
//!                            settled)   in order                                       │
//!                                          ▲                                           │
//!                                          │ failed before the first content:          │
//!                                          └ the next target, and a new body ─────┐    │
//!                                                                                 │    ▼
//!    ◄───────── front::chat ◄── llm::order ◄── dialect ◄──── frame
//!               OpenAI's bytes   one order     Events        cut anywhere
//!                                   relay: push(bytes, end) -> bytes
//!
//!  when it is over, however it ended: limit settles, account prices, telemetry counts and writes one line
//! ```
//!
//! Every answer becomes the same [`llm::event::Event`]s; a whole answer is a stream with one step. [`llm::order`] has the rules
//! that every answer follows, [`front::chat::rules`] those that are OpenAI's alone. So a dialect is written once for both,
//! and a further front is one more reader and writer.
//!
//! A *dialect* is code, a *provider* is data: what one OpenAI-compatible service does otherwise than OpenAI is an entry
//! of `src/provider/catalogue.yaml`, and no dialect asks which provider it is talking to.
//!
//! # Adding a front
//!
//! A front is a reader and a writer; `tests/toy_front.rs` is a whole one in under 200 lines, which every dialect answers.
//!
//! 1. A folder in [`front`]. Its request type implements [`llm::request::Ask`]: it reads the client's bytes into
//!    [`llm::request::Request`], each value with its [`llm::request::Path`] in the client's words, and each parameter with
//!    what losing it means ([`llm::field::Loss`]). Refusals and dropped hints then use the client's words.
//! 2. Its writer implements [`llm::event::Sink`] and [`llm::order::Writer`], and writes the events as a stream and as one
//!    object. Rules that are this protocol's alone stand here, as [`front::chat::rules`] does.
//! 3. Its errors are written from [`error::ApiError`], as [`front::chat::error`] does.
//!
//! # Adding a dialect
//!
//! A folder in [`dialect`] with a type that implements [`dialect::Dialect`] (a request from [`llm::request::Request`], a
//! refusal to [`llm::failure::ProviderError`]) and [`dialect::Decoder`] (frames to events). What it shares with other
//! vendors' models is in [`dialect::shared`]. A provider that speaks OpenAI's protocol is an entry of the catalogue and
//! no code.
//!
//! # Invariants
//!
//! `tests/source_scan.rs` looks for the mechanical ones.
//!
//! 1. Only [`edge`] names Pingora. [`json`], [`frame`], [`llm`], [`front`], [`dialect`], [`relay`], [`route`], [`lifecycle`] and
//!    `limit/gcra.rs` have no async, no clock, no socket and no randomness of their own: they are functions and state machines from bytes
//!    to bytes, tested byte by byte.
//! 2. No unsafe code. Outside tests there is no `unwrap`, `expect`, `panic!` or indexing: the network cannot cause a panic.
//! 3. Nothing grows with traffic: counters and metric series are made from the configuration and found by index, and every
//!    buffer has a bound with a name.
//! 4. A [`secret::Secret`] cannot be shown. A [`auth::Principal`] comes only from [`auth`], a permit only from
//!    [`limit`]; dropping the permit settles it.
//! 5. An answer that broke off ends with an error; nothing can turn it into a `finish_reason` or `[DONE]`.
//! 6. Upstream headers are built from an allow-list, never copied from the client.
//! 7. The key that signs belongs to the target that was picked.
//! 8. One function turns errors into HTTP, one table normalises finish reasons, one place holds a stream to its order.
//!
//! # The modules, in the order of a request
//!
//! | module | what it is |
//! | --- | --- |
//! | [`cli`], [`commands`] | arguments, the commands that print, the commands that serve |
//! | [`demo`] | `tidegate demo`: its addresses and its banner |
//! | [`reference`](mod@reference) | `tidegate reference`: headers, errors, metrics, fields of the log and words of the simulator, from the code |
//! | [`config`] | the user's file, with every problem and its line, and the immutable snapshot made of it |
//! | [`explain`] | `tidegate check --explain`: what becomes of each parameter, asked of the encoders themselves |
//! | [`edge`] | the one place that names Pingora: listeners, hooks, reading and replaying a request, reload, drain |
//! | [`lifecycle`] | where a request is, what each event leads to, and what a failure of an attempt means |
//! | [`operation`] | what a client can ask for, and what of the way differs between chat and embeddings |
//! | [`error`](mod@error) | the one error that a client can see |
//! | [`id`] | ids of requests, answers and episodes |
//! | [`auth`] | headers to a principal: who asks, and which routes they may use |
//! | [`limit`] | requests, tokens, concurrency and money, per key, team, route and provider; in memory or in Redis |
//! | [`route`] | a model's name to a plan: targets in order, their health, who is asked after a failure |
//! | [`provider`] | providers and targets, and the catalogue of what each kind does otherwise |
//! | [`json`] | JSON without a document: scan, envelope, splice, write |
//! | [`llm`] | the neutral centre: the request, the events of an answer, their order, usage, failures |
//! | [`front`] | what clients speak: chat completions, embeddings, the list of models, errors |
//! | [`dialect`] | the wire protocols: `openai`, `mistral`, `anthropic`, `bedrock`, `gemini`, `sagemaker` |
//! | [`egress`] | proxies on the way to providers and token endpoints: which, and tunnels through them |
//! | [`yaml`] | YAML with positions, and types that are read from it |
//! | [`secret`], [`pem`], [`files`], [`units`], [`near`], [`percent`] | a string that cannot be shown, certificates, fingerprints of files, durations and money, close names, percent-encoding |
//! | [`redact`](mod@redact) | removes secrets from text that others wrote |
//! | [`sign`] | who pays: bearer keys, AWS signatures, Google tokens |
//! | [`frame`] | a stream of bytes to frames, wherever it is cut: server-sent events, AWS event streams |
//! | [`relay`] | an answer on its way: framer, decoder, order, writer |
//! | [`account`] | usage, price, and the settled line |
//! | [`telemetry`] | metrics, the log, traces, and the pages of the admin listener |
//! | [`simulate`] | every provider's protocol, played: for the demo, the tests and load |
//!
//! Good first files: [`llm::event`] and [`dialect`] (the interfaces between everything), [`relay`] (how they are put
//! together), [`lifecycle`] and [`edge::proxy`] (a request's states, and the hooks that drive them).

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
pub mod edge;
pub mod egress;
pub mod error;
pub mod explain;
pub mod files;
pub mod frame;
pub mod front;
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
pub mod route;
pub mod secret;
pub mod sign;
#[cfg(feature = "simulator")]
pub mod simulate;
pub mod system;
pub mod telemetry;
pub mod units;
pub mod yaml;
