// The `idempotencyKey` of the openai package for Node: the same request twice, then with another body.
import OpenAI from "openai";
import { runCases } from "./cases.mjs";

await runCases((baseURL, apiKey) => {
  const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
  // The package sends the key only in the header that is named here; it names none itself.
  client.idempotencyHeader = "Idempotency-Key";
  const ask = async (text, options) => {
    const messages = [{ role: "user", content: text }];
    const answer = await client.chat.completions.create({ model: "m", messages }, options);
    return answer.choices[0].message.content;
  };
  return {
    first: () => ask("Who?", { idempotencyKey: "k1" }),
    second: () => ask("Who?", { idempotencyKey: "k1" }),
    other: () => ask("Who?", { idempotencyKey: "k2" }),
    error: () => ask("Who else?", { idempotencyKey: "k1" }),
  };
});
