-- One chat request again and again, for wrk. What to send comes from the environment, set by benches/load/run:
-- LOAD_PATH, LOAD_KEY, LOAD_MODEL, LOAD_STREAM, LOAD_PROMPT (bytes of the prompt).

local function env(name, default)
  return os.getenv("LOAD_" .. name) or default
end

local prompt = string.rep("The tide comes in. ", math.ceil(tonumber(env("PROMPT", "1000")) / 19))
wrk.method = "POST"
wrk.path = env("PATH", "/v1/chat/completions")
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer " .. env("KEY", "tg-demo")
wrk.body = string.format(
  '{"model":"%s","messages":[{"role":"user","content":"%s"}],"max_tokens":64%s}',
  env("MODEL", "openai/m"), prompt, env("STREAM", "") ~= "" and ',"stream":true,"stream_options":{"include_usage":true}' or "")

-- One line for the script: requests, seconds, answers that were no success, socket errors, p50 and p99 in milliseconds.
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("LOAD %d %.3f %d %d %.2f %.2f\n", summary.requests, summary.duration / 1e6, e.status,
    e.connect + e.read + e.write + e.timeout, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
