"""OpenAI's library for Python at the endpoints whose requests and answers pass as they are."""

import base64
import io
import sys

import openai

base, key = sys.argv[1:3]
client = openai.OpenAI(api_key=key, base_url=base, max_retries=0, timeout=30)
checks = 0


def check(what, ok, detail):
    global checks
    checks += 1
    if not ok:
        sys.exit(f"{what}: {detail}")


def wav(name="song.wav", size=1000):
    file = io.BytesIO(bytes(range(256)) * (size // 256 + 1))
    file.name = name
    return file


completion = client.completions.create(model="completion", prompt="hello there", max_tokens=50)
check("completion", "hello there" in completion.choices[0].text and completion.usage.total_tokens > 0, completion)
text = "".join(chunk.choices[0].text for chunk in client.completions.create(model="completion", prompt="hello there", stream=True))
check("completion streamed", text == completion.choices[0].text or "hello there" in text, text)

moderation = client.moderations.create(model="moderation", input=["peace", "kill"])
check("moderation", len(moderation.results) == 2 and moderation.results[0].flagged, moderation)

images = client.images.generate(model="image", prompt="a cat", n=2)
check("images", len(images.data) == 2 and len(base64.b64decode(images.data[0].b64_json)) == 1000 and images.usage.total_tokens > 0, images)
kinds = [event.type for event in client.images.generate(model="image", prompt="a cat", stream=True, partial_images=2)]
check("images streamed", kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"], kinds)
for image in [wav("a.png"), [wav("a.png"), wav("b.png")]]:
    edited = client.images.edit(model="image", image=image, prompt="a dog", mask=wav("m.png"))
    check("edit", len(base64.b64decode(edited.data[0].b64_json)) == 1000, edited)
varied = client.images.create_variation(model="image", image=wav("a.png"), n=2)
check("variation", len(varied.data) == 2, varied)

speech = client.audio.speech.create(model="speech", voice="alloy", input="hello there")
check("speech", len(speech.read()) == 1000 and speech.response.headers["content-type"] == "audio/mpeg", speech.response.headers)
with client.audio.speech.with_streaming_response.create(model="speech", voice="alloy", input="hello", response_format="wav") as streamed:
    check("speech streamed", sum(len(piece) for piece in streamed.iter_bytes(100)) == 1000, streamed.headers)

heard = client.audio.transcriptions.create(model="transcription", file=wav(size=2000), language="en")
check("transcription", "2048 bytes of song.wav" in heard.text and heard.usage.seconds == 128, heard)
verbose = client.audio.transcriptions.create(model="transcription", file=wav(), response_format="verbose_json", timestamp_granularities=["word", "segment"])
check("verbose", verbose.duration == 64, verbose)
plain = client.audio.transcriptions.create(model="transcription-4o", file=wav("\u00fcber \"uns\".wav"), response_format="text")
check("plain", "1024 bytes" in plain, plain)
events = list(client.audio.transcriptions.create(model="transcription-4o", file=wav(), stream=True))
check("transcription streamed", events[-1].type == "transcript.text.done" and events[-1].usage.total_tokens > 0, events)
check("its deltas", "".join(event.delta for event in events[:-1]) == events[-1].text, events)
translated = client.audio.translations.create(model="transcription", file=wav())
check("translation", "1024 bytes" in translated.text, translated)

try:
    client.images.generate(model="anthropic", prompt="x")
    sys.exit("Claude makes no images")
except openai.NotFoundError as e:
    check("no images", e.param == "model" and "`openai`" in e.message, e.message)
try:
    client.audio.speech.create(model="speech", voice="alloy", input="x", speed=9)
    sys.exit("no speech is so fast")
except openai.BadRequestError as e:
    check("a provider's refusal", e.param == "speed", e.body)
print(f"openai-python {openai.__version__}, other endpoints: {checks} checks")
