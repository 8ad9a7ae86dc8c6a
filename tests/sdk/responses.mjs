// What people do with the Responses API of OpenAI's library for JavaScript, against a gateway: BASE_URL KEY ROUTE...
import OpenAI from 'openai';

const [baseURL, apiKey, ...routes] = process.argv.slice(2);
const client = new OpenAI({ apiKey, baseURL, maxRetries: 0 });
const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false };
const tools = [{ type: 'function', name: 'get_weather', parameters, strict: false }];
let checks = 0;
const check = (what, condition, seen) => {
  checks += 1;
  if (!condition) { console.error(what, JSON.stringify(seen)); process.exit(1); }
};
for (const model of routes) {
  let text = '';
  const stream = client.responses.stream({ model, input: 'hello there' });
  for await (const event of stream) if (event.type === 'response.output_text.delta') text += event.delta;
  const final = await stream.finalResponse();
  check(`${model}: stream`, text.includes('hello there') && final.output_text === text && final.usage.output_tokens > 0, final);
  const input = [{ role: 'user', content: 'What is the weather in Paris?' }];
  const called = await client.responses.create({ model, input, tools, store: false, include: ['reasoning.encrypted_content'] });
  const calls = called.output.filter((item) => item.type === 'function_call');
  check(`${model}: call`, calls.length === 1 && typeof JSON.parse(calls[0].arguments).city === 'string', called);
  const result = { type: 'function_call_output', call_id: calls[0].call_id, output: 'sunny' };
  const answered = await client.responses.create({ model, input: [...input, ...called.output, result], tools, store: false });
  check(`${model}: after the tool`, answered.output_text.includes('sunny'), answered);
}
try {
  await client.responses.create({ model: 'nobody', input: 'x' });
  check('an unknown route', false);
} catch (e) {
  check('an unknown route', e.status === 404 && e.type === 'not_found_error', e);
}
console.log(`openai, responses: ${checks} checks, ${routes.length} routes`);
