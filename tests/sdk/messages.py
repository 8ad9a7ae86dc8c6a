"""What people do with anthropic's Python library, against a gateway: BASE_URL KEY ROUTE..."""
import sys

import anthropic

base, key, *routes = sys.argv[1:]
base = base.removesuffix("/v1")
client = anthropic.Anthropic(api_key=key, base_url=base, max_retries=0, timeout=30)
hello = [{"role": "user", "content": "hello there"}]
weather = [{"role": "user", "content": "What is the weather in Paris?"}]
schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
tools = [{"name": "get_weather", "input_schema": schema}]
checks = 0


def check(what, condition, seen=None):
    global checks
    checks += 1
    if not condition:
        sys.exit(f"{what}: {seen!r}")


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


models = {model.id for model in client.models.list(limit=1000)}
check("models", set(routes) <= models, models)
check("one model", client.models.retrieve(routes[0]).type == "model")

for route in routes:
    whole = client.messages.create(model=route, max_tokens=300, messages=hello)
    check(f"{route}: whole", "hello there" in text_of(whole) and whole.model == route, whole)
    check(f"{route}: usage", whole.usage.input_tokens > 0 and whole.usage.output_tokens > 0, whole.usage)
    with client.messages.stream(model=route, max_tokens=300, messages=hello) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    check(f"{route}: stream", text == text_of(whole) and final.stop_reason == "end_turn", (text, final))
    check(f"{route}: stream usage", final.usage.output_tokens == whole.usage.output_tokens, (final.usage, whole.usage))

    with client.messages.stream(model=route, max_tokens=300, messages=weather, tools=tools) as stream:
        called = stream.get_final_message()
    calls = [block for block in called.content if block.type == "tool_use"]
    check(f"{route}: call", called.stop_reason == "tool_use" and [c.name for c in calls] == ["get_weather"], called)
    check(f"{route}: arguments", isinstance(calls[0].input["city"], str), calls)
    back = {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in called.content]}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": calls[0].id, "content": "sunny"}]}
    answered = client.messages.create(model=route, max_tokens=300, tools=tools, messages=[*weather, back, result])
    check(f"{route}: after the tool", "sunny" in text_of(answered), answered)

for what, error, call in (
    ("a wrong key", anthropic.AuthenticationError, lambda: anthropic.Anthropic(api_key="tg-no", base_url=base).messages.create(model=routes[0], max_tokens=5, messages=hello)),
    ("an unknown route", anthropic.NotFoundError, lambda: client.messages.create(model="nobody", max_tokens=5, messages=hello)),
    ("a bad message", anthropic.BadRequestError, lambda: client.messages.create(model="openai", max_tokens=5, messages=[{"role": "wizard", "content": "x"}])),
):
    try:
        call()
        sys.exit(f"{what}: no exception")
    except error as e:
        check(what, e.body["type"] == "error" and bool(e.body["request_id"]), e.body)
print(f"anthropic {anthropic.__version__}: {checks} checks, {len(routes)} routes")
