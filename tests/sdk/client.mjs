// What people do with openai-node, against a gateway: BASE_URL KEY ROUTE...
import OpenAI from 'openai';
import assert from 'node:assert/strict';

const [base, key, ...routes] = process.argv.slice(2);
const client = new OpenAI({ apiKey: key, baseURL: base, maxRetries: 0, timeout: 30_000 });
const hello = [{ role: 'user', content: 'hello there' }];
const weather = [{ role: 'user', content: 'What is the weather in Paris?' }];
const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const tools = [{ type: 'function', function: { name: 'get_weather', parameters } }];

const models = [];
for await (const model of client.models.list()) models.push(model.id);
for (const route of routes) assert(models.includes(route), route);

for (const route of routes) {
  const whole = await client.chat.completions.create({ model: route, messages: hello });
  assert.match(whole.choices[0].message.content, /hello there/, route);
  assert(whole.usage.total_tokens > 0, route);

  const called = await client.chat.completions.create({ model: route, messages: weather, tools });
  assert.equal(called.choices[0].finish_reason, 'tool_calls', route);
  assert.equal(typeof JSON.parse(called.choices[0].message.tool_calls[0].function.arguments).city, 'string', route);

  let text = '', usage = 0;
  const stream = await client.chat.completions.create({ model: route, messages: hello, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) {
    text += chunk.choices[0].delta.content ?? '';
    if (chunk.usage) usage += 1;
  }
  assert.equal(text, whole.choices[0].message.content, route);
  assert.equal(usage, 1, route);

  const final = await client.chat.completions.stream({ model: route, messages: weather, tools }).finalChatCompletion();
  assert.equal(final.choices[0].message.tool_calls[0].function.name, 'get_weather', route);
}

const raises = async (kind, request, options) => {
  const call = new OpenAI({ apiKey: key, baseURL: base, maxRetries: 0, ...options }).chat.completions.create({ messages: hello, ...request });
  return assert.rejects(call, (e) => e instanceof kind && e.error.code === e.status);
};
await raises(OpenAI.NotFoundError, { model: 'no-such-route' });
await raises(OpenAI.BadRequestError, { model: routes[0], temperature: 'hot' });
await raises(OpenAI.RateLimitError, { model: 'script/n+status=429' });
await raises(OpenAI.InternalServerError, { model: 'script/n+status=500' });
await raises(OpenAI.AuthenticationError, { model: routes[0] }, { apiKey: 'tg-wrong' });

// A break in the middle of a stream is an exception, not a short answer.
let said = '';
await assert.rejects(async () => {
  for await (const chunk of await client.chat.completions.create({ model: 'script/n+chunks=20+cut-after=6', messages: hello, stream: true })) {
    said += chunk.choices[0].delta.content ?? '';
  }
});
assert.notEqual(said, '');

// A client that aborts is heard: the next request is served as ever.
const endless = await client.chat.completions.create({ model: 'script/n+chunks=10000+pace=20ms', messages: hello, stream: true });
for await (const _ of endless) break;
assert.match((await client.chat.completions.create({ model: routes[0], messages: hello })).choices[0].message.content, /hello/);
console.log(`openai-node: ${routes.length} routes`);
