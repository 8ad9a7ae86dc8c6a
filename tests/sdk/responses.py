"""What people do with the Responses API of openai-python, against a gateway: BASE_URL KEY ROUTE..."""
import json
import sys

import openai
import pydantic

base, key, *routes = sys.argv[1:]
client = openai.OpenAI(api_key=key, base_url=base, max_retries=0, timeout=30)
weather = [{"role": "user", "content": "What is the weather in Paris?"}]
schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
tools = [{"type": "function", "name": "get_weather", "parameters": schema, "strict": False}]
checks = 0


class City(pydantic.BaseModel):
    city: str


def check(what, condition, seen=None):
    global checks
    checks += 1
    if not condition:
        sys.exit(f"{what}: {seen!r}")


for route in routes:
    whole = client.responses.create(model=route, input="hello there")
    check(f"{route}: whole", "hello there" in whole.output_text and whole.model == route and whole.status == "completed", whole)
    check(f"{route}: usage", whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens > 0, whole.usage)
    with client.responses.stream(model=route, input="hello there") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    check(f"{route}: stream", text == final.output_text == whole.output_text, (text, final))

    with client.responses.stream(model=route, input=weather, tools=tools, store=False, include=["reasoning.encrypted_content"]) as stream:
        called = stream.get_final_response()
    calls = [item for item in called.output if item.type == "function_call"]
    check(f"{route}: call", [call.name for call in calls] == ["get_weather"], called)
    check(f"{route}: arguments", isinstance(json.loads(calls[0].arguments)["city"], str), calls)
    back = [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in called.output]
    result = {"type": "function_call_output", "call_id": calls[0].call_id, "output": "sunny"}
    answered = client.responses.create(model=route, tools=tools, store=False, input=[*weather, *back, result])
    check(f"{route}: after the tool", "sunny" in answered.output_text, answered)

parsed = client.responses.parse(model="anthropic", input="hello there", text_format=City)
check("parse", isinstance(parsed.output_parsed, City), parsed)

for what, error, call in (
    ("a wrong key", openai.AuthenticationError, lambda: openai.OpenAI(api_key="tg-no", base_url=base, max_retries=0).responses.create(model=routes[0], input="x")),
    ("an unknown route", openai.NotFoundError, lambda: client.responses.create(model="nobody", input="x")),
    ("something stored", openai.BadRequestError, lambda: client.responses.create(model="anthropic", input="x", previous_response_id="resp_1")),
    ("a stored response", openai.NotFoundError, lambda: client.responses.retrieve("resp_1")),
):
    try:
        call()
        sys.exit(f"{what}: no exception")
    except error as e:
        check(what, bool(e.body["message"]), e.body)
print(f"openai {openai.__version__}, responses: {checks} checks, {len(routes)} routes")
