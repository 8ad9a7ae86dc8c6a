// OpenAI's library for Node at the endpoints whose requests and answers pass as they are.
import OpenAI, { toFile } from 'openai';
import assert from 'node:assert/strict';

const [base, key] = process.argv.slice(2);
const client = new OpenAI({ apiKey: key, baseURL: base, maxRetries: 0, timeout: 30_000 });
const bytes = Uint8Array.from({ length: 1024 }, (_, i) => i);
const file = (name) => toFile(bytes, name);

const completion = await client.completions.create({ model: 'completion', prompt: 'hello there', max_tokens: 50 });
assert.match(completion.choices[0].text, /hello there/);
let text = '';
for await (const chunk of await client.completions.create({ model: 'completion', prompt: 'hello there', stream: true })) text += chunk.choices[0].text;
assert.match(text, /hello there/);

assert.equal((await client.moderations.create({ model: 'moderation', input: 'kill' })).results[0].flagged, true);

const images = await client.images.generate({ model: 'image', prompt: 'a cat', n: 2 });
assert.equal(images.data.length, 2);
const kinds = [];
for await (const event of await client.images.generate({ model: 'image', prompt: 'a cat', stream: true, partial_images: 1 })) kinds.push(event.type);
assert.deepEqual(kinds, ['image_generation.partial_image', 'image_generation.completed']);
const edited = await client.images.edit({ model: 'image', image: [await file('a.png'), await file('b.png')], prompt: 'a dog' });
assert.equal(Buffer.from(edited.data[0].b64_json, 'base64').length, 1000);
assert.equal((await client.images.createVariation({ model: 'image', image: await file('a.png') })).data.length, 1);

const speech = await client.audio.speech.create({ model: 'speech', voice: 'alloy', input: 'hello there', response_format: 'wav' });
assert.equal(speech.headers.get('content-type'), 'audio/wav');
assert.equal((await speech.arrayBuffer()).byteLength, 1000);

const heard = await client.audio.transcriptions.create({ model: 'transcription', file: await file('song.wav'), timestamp_granularities: ['word'], response_format: 'verbose_json' });
assert.match(heard.text, /1024 bytes of song\.wav/);
let deltas = '', done;
for await (const event of await client.audio.transcriptions.create({ model: 'transcription-4o', file: await file('song.wav'), stream: true })) {
  if (event.type === 'transcript.text.delta') deltas += event.delta;
  else done = event;
}
assert.equal(done.text, deltas);
assert.match((await client.audio.translations.create({ model: 'transcription', file: await file('ü.wav') })).text, /1024 bytes/);

await assert.rejects(client.images.generate({ model: 'anthropic', prompt: 'x' }), (e) => e instanceof OpenAI.NotFoundError && e.param === 'model');
console.log('openai-node: other endpoints');
