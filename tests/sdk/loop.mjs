// The loop that people write by hand: lines split out of whatever a read brings, `choices[0]` of every chunk, no guard
// for anything. BASE_URL KEY ROUTE...
const [base, key, ...routes] = process.argv.slice(2);

for (const route of routes) {
  const response = await fetch(`${base}/chat/completions`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${key}` },
    body: JSON.stringify({ model: route, messages: [{ role: 'user', content: 'hello there' }], stream: true, stream_options: { include_usage: true } }),
  });
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = '', rest = '', usage = null, finished = false;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const lines = (rest + decoder.decode(value, { stream: true })).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith('data: ')) continue;
      const data = line.slice('data: '.length);
      if (data === '[DONE]') {
        finished = true;
        continue;
      }
      const chunk = JSON.parse(data);
      text += chunk.choices[0].delta.content ?? '';
      if (chunk.usage) usage = chunk.usage;
    }
  }
  if (!finished || !text.includes('hello there') || !(usage?.total_tokens > 0) || rest !== '') {
    console.error(route, { text, finished, usage, rest });
    process.exit(1);
  }
}
console.log(`the loop of the documentation: ${routes.length} routes`);
