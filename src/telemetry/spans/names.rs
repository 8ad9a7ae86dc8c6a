//! Names of span attributes.
//!
//! Those of `gen_ai.*` are of OpenTelemetry's semantic conventions for generative AI, in development
//! (open-telemetry/semantic-conventions-genai, `docs/gen-ai/gen-ai-spans.md` at 002c8a6); those of `http.*`, `network.*`,
//! `server.*`, `url.*` and `error.type` of the semantic conventions 1.41.1, to which that document refers. Tidegate's own are
//! below `tidegate.`. The operator's own (`log.attributes`) follow [`ATTRIBUTES`].

use crate::closed_set::closed_set;

closed_set! {
    /// An attribute of a span.
    SpanAttribute {
        /// `chat`, `text_completion`, `embeddings`, or the endpoint for others.
        Operation = "gen_ai.operation.name",
        /// What the provider is, in OpenTelemetry's words: `openai`, `aws.bedrock` …, or its `kind`.
        Provider = "gen_ai.provider.name",
        /// Request: the model that the client asked for. Attempt: the provider's model.
        RequestModel = "gen_ai.request.model",
        /// Request: the model that answered, as its provider calls it.
        ResponseModel = "gen_ai.response.model",
        /// Attempt: the provider's id of a response that is passed through.
        ResponseId = "gen_ai.response.id",
        /// True for a stream; omitted for others.
        Stream = "gen_ai.request.stream",
        /// Why each choice ended: `stop`, `stop_sequence`, `length`, `context_window`, `tool_calls`, `pause`, `content_filter`, `refusal`.
        FinishReasons = "gen_ai.response.finish_reasons",
        /// Time to the first content of a stream, in seconds, from the beginning of the span.
        FirstChunk = "gen_ai.response.time_to_first_chunk",
        /// Prompt tokens, including cached ones.
        InputTokens = "gen_ai.usage.input_tokens",
        /// Completion tokens, including reasoning.
        OutputTokens = "gen_ai.usage.output_tokens",
        /// Prompt tokens read from the provider's cache.
        CacheRead = "gen_ai.usage.cache_read.input_tokens",
        /// Prompt tokens written to it.
        CacheWrite = "gen_ai.usage.cache_creation.input_tokens",
        /// Completion tokens used for reasoning.
        Reasoning = "gen_ai.usage.reasoning.output_tokens",
        /// Why the request or the attempt failed: an `outcome` of an attempt, or a `reason` of the log.
        ErrorType = "error.type",
        /// Request: the client's method.
        Method = "http.request.method",
        /// Request: the endpoint's path.
        Route = "http.route",
        /// Request: the same.
        Path = "url.path",
        /// Request: `http` or `https`.
        Scheme = "url.scheme",
        /// Request: version of HTTP.
        ProtocolVersion = "network.protocol.version",
        /// Status of the response to the client, or of the provider's.
        Status = "http.response.status_code",
        /// Attempt: the provider's host, or its Unix socket.
        ServerAddress = "server.address",
        /// Attempt: the provider's port.
        ServerPort = "server.port",
        /// `x-request-id` of the response.
        RequestId = "tidegate.request.id",
        /// Episode of the request.
        EpisodeId = "tidegate.episode.id",
        /// The endpoint, as in the log.
        Endpoint = "tidegate.endpoint",
        /// The key's team.
        Team = "tidegate.team",
        /// Id of the key, or of who shows a token.
        Key = "tidegate.key.id",
        /// Request: which of both it is, `key` or `token`; `auth` of the log.
        Auth = "tidegate.auth",
        /// The route.
        TidegateRoute = "tidegate.route",
        /// The provider's name in the configuration.
        TidegateProvider = "tidegate.provider",
        /// Attempt: provider and model, as in the metric `tidegate_target_state`.
        Target = "tidegate.target",
        /// Attempt: its number, from 1.
        AttemptNumber = "tidegate.attempt.number",
        /// Attempt: how the one before it ended.
        RetryReason = "tidegate.attempt.retry_reason",
        /// Request: number of attempts.
        AttemptCount = "tidegate.attempt.count",
        /// Request: targets skipped, with reasons.
        PassedOver = "tidegate.passed_over",
        /// Request: what `balance: sticky` went by.
        StickyBy = "tidegate.sticky_by",
        /// Request: why it was rejected or failed; `reason` of the log.
        Reason = "tidegate.reason",
        /// Request: who ended it; `ended_by` of the log.
        EndedBy = "tidegate.ended_by",
        /// Request: scope of the limit that rejected it.
        LimitScope = "tidegate.limit.scope",
        /// Request: its dimension.
        LimitDimension = "tidegate.limit.dimension",
        /// Request: cost by the target's `price`, in USD.
        Cost = "tidegate.cost_usd",
        /// True if token counts are estimated; omitted otherwise.
        TokensEstimated = "tidegate.tokens_estimated",
        /// Request: part of its duration added by Tidegate, in seconds.
        Overhead = "tidegate.overhead",
    }
}

/// What stands before the name of an attribute of `log.attributes`.
pub const ATTRIBUTES: &str = "tidegate.attributes.";
