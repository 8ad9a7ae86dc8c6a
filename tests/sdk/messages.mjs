// What people do with Anthropic's library for JavaScript, against a gateway: BASE_URL KEY ROUTE...
import Anthropic from '@anthropic-ai/sdk';

const [base, apiKey, ...routes] = process.argv.slice(2);
const client = new Anthropic({ apiKey, baseURL: base.replace(/\/v1$/, ''), maxRetries: 0 });
const tools = [{ name: 'get_weather', input_schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] } }];
let checks = 0;
const check = (what, condition, seen) => {
  checks += 1;
  if (!condition) { console.error(what, JSON.stringify(seen)); process.exit(1); }
};
for (const model of routes) {
  let text = '';
  const hello = client.messages.stream({ model, max_tokens: 300, messages: [{ role: 'user', content: 'hello there' }] });
  const final = await hello.on('text', (delta) => { text += delta; }).finalMessage();
  check(`${model}: stream`, text.includes('hello there') && final.stop_reason === 'end_turn' && final.usage.output_tokens > 0, final);
  const messages = [{ role: 'user', content: 'What is the weather in Paris?' }];
  const called = await client.messages.create({ model, max_tokens: 300, messages, tools });
  const calls = called.content.filter((block) => block.type === 'tool_use');
  check(`${model}: call`, calls.length === 1 && typeof calls[0].input.city === 'string', called);
  const result = { role: 'user', content: [{ type: 'tool_result', tool_use_id: calls[0].id, content: 'sunny' }] };
  const after = [...messages, { role: 'assistant', content: called.content }, result];
  const answered = await client.messages.create({ model, max_tokens: 300, messages: after, tools });
  check(`${model}: after the tool`, answered.content.some((block) => block.text?.includes('sunny')), answered);
}
try {
  await client.messages.create({ model: 'nobody', max_tokens: 5, messages: [{ role: 'user', content: 'x' }] });
  check('an unknown route', false);
} catch (e) {
  check('an unknown route', e.status === 404 && e.error?.error?.type === 'not_found_error', e);
}
console.log(`@anthropic-ai/sdk: ${checks} checks, ${routes.length} routes`);
