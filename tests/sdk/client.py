"""What people do with openai-python, against a gateway: BASE_URL KEY ROUTE..."""
import asyncio
import json
import sys

import openai

base, key, *routes = sys.argv[1:]
client = openai.OpenAI(api_key=key, base_url=base, max_retries=0, timeout=30)
hello = [{"role": "user", "content": "hello there"}]
weather = [{"role": "user", "content": "What is the weather in Paris?"}]
schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
tools = [{"type": "function", "function": {"name": "get_weather", "parameters": schema}}]
checks = 0


def check(what, condition, seen=None):
    global checks
    checks += 1
    if not condition:
        sys.exit(f"{what}: {seen!r}")


def refused(what, error, **request):
    """The call must raise this exception; returns it."""
    try:
        client.chat.completions.create(**{"messages": hello, **request})
    except error as e:
        check(what, type(e) is error, type(e))
        return e
    sys.exit(f"{what}: no exception")


models = [m.id for m in client.models.list()]
check("models", set(routes) <= set(models), models)
check("one model", client.models.retrieve(routes[0]).id == routes[0])

for route in routes:
    whole = client.chat.completions.create(model=route, messages=hello)
    check(f"{route}: whole", "hello there" in whole.choices[0].message.content and whole.model == route, whole)
    check(f"{route}: usage", whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 0, whole.usage)

    called = client.chat.completions.create(model=route, messages=weather, tools=tools)
    call = called.choices[0].message.tool_calls[0]
    check(f"{route}: call", called.choices[0].finish_reason == "tool_calls" and call.function.name == "get_weather", called)
    check(f"{route}: arguments", isinstance(json.loads(call.function.arguments)["city"], str), call)
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    answered = client.chat.completions.create(model=route, tools=tools, messages=[*weather, called.choices[0].message, result])
    check(f"{route}: after the tool", "sunny" in answered.choices[0].message.content, answered)

    text, usage, finish = "", [], []
    for chunk in client.chat.completions.create(model=route, messages=hello, stream=True, stream_options={"include_usage": True}):
        text += chunk.choices[0].delta.content or ""
        finish += [chunk.choices[0].finish_reason] if chunk.choices[0].finish_reason else []
        usage += [chunk.usage] if chunk.usage else []
    check(f"{route}: stream", text == whole.choices[0].message.content and finish == ["stop"], (text, finish))
    check(f"{route}: stream usage", len(usage) == 1 and usage[0].total_tokens > 0, usage)

    with client.chat.completions.stream(model=route, messages=weather, tools=tools) as stream:
        final = stream.get_final_completion()
    call = final.choices[0].message.tool_calls[0]
    check(f"{route}: stream helper", final.choices[0].finish_reason == "tool_calls" and "city" in json.loads(call.function.arguments), final)

error = refused("unknown route", openai.NotFoundError, model="no-such-route")
check("its shape", error.type == "not_found_error" and error.code == 404, (error.type, error.code))
refused("bad request", openai.BadRequestError, model=routes[0], temperature="hot")
limited = refused("limited upstream", openai.RateLimitError, model="script/m+status=429+retry-after=1")
check("retry-after", limited.response.headers["retry-after"] == "1", limited.response.headers)
refused("failing upstream", openai.InternalServerError, model="script/m+status=500")
client.api_key = "tg-wrong"
refused("wrong key", openai.AuthenticationError, model=routes[0])
client.api_key = key

# A break in the middle of a stream is an exception, not a short answer.
text = ""
try:
    for chunk in client.chat.completions.create(model="script/m+chunks=20+cut-after=6", messages=hello, stream=True):
        text += chunk.choices[0].delta.content or ""
    sys.exit("a broken stream ended as if it were whole")
except openai.APIError as e:
    check("a break", text != "" and e.type == "upstream_error", (text, e.type))

# The library's own retries meet a target that recovers.
patient = client.with_options(max_retries=2)
check("retried by the client", "hello there" in patient.chat.completions.create(model="script/r+fail-first=1+status=503", messages=hello).choices[0].message.content)


async def together():
    many = openai.AsyncOpenAI(api_key=key, base_url=base, max_retries=0, timeout=30)

    async def one(route):
        text = ""
        async for chunk in await many.chat.completions.create(model=route, messages=hello, stream=True):
            text += chunk.choices[0].delta.content or ""
        return text

    for text in await asyncio.gather(*[one(route) for route in routes for _ in range(4)]):
        check("together", "hello there" in text, text)


asyncio.run(together())
print(f"openai-python {openai.__version__}: {checks} checks")
