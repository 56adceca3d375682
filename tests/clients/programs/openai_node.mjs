// The openai package for Node: Chat Completions and Responses.
import OpenAI from "openai";
import { ERROR, PARAMETERS, PERSON, ROUNDS, runCases } from "./cases.mjs";

await runCases((baseURL, apiKey) => {
  const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
  const user = (content) => [{ role: "user", content }];
  const chat = (text, options) =>
    client.chat.completions.create({ model: "m", messages: user(text), ...options });
  const format = { name: "Person", schema: PERSON, strict: true };
  return {
    plain: async () => (await chat("Who?")).choices[0].message.content,
    streamed: async () => {
      let text = "";
      for await (const part of await chat("Who, streamed?", { stream: true })) {
        text += part.choices[0]?.delta?.content ?? "";
      }
      return text;
    },
    tools: async () => {
      const tools = [{ type: "function", function: { name: "weather", parameters: PARAMETERS } }];
      const messages = user(ROUNDS);
      for (const calls = []; ; ) {
        const { message } = (
          await client.chat.completions.create({ model: "m", messages, tools })
        ).choices[0];
        if (!message.tool_calls) return [...calls, message.content];
        messages.push(message);
        for (const call of message.tool_calls) {
          calls.push(call.function.arguments);
          messages.push({ role: "tool", tool_call_id: call.id, content: "sunny" });
        }
      }
    },
    structured: async () => {
      const response_format = { type: "json_schema", json_schema: format };
      return JSON.parse((await chat("Who? [[schema]]", { response_format })).choices[0].message.content);
    },
    error: async () => chat(ERROR),
    responses: async () =>
      (await client.responses.create({ model: "m", input: "Who, in Responses?" })).output_text,
    responsesStreamed: async () => {
      const events = [];
      const input = "Who, streamed in Responses?";
      for await (const event of await client.responses.create({ model: "m", input, stream: true })) {
        events.push([event.type, event.delta ?? null]);
      }
      return events;
    },
    responsesStructured: async () => {
      const text = { format: { type: "json_schema", ...format } };
      const input = "Who, in Responses? [[schema]]";
      return JSON.parse((await client.responses.create({ model: "m", input, text })).output_text);
    },
    responsesTools: async () => {
      const tools = [{ type: "function", name: "weather", parameters: PARAMETERS, strict: true }];
      const input = user(`Again: ${ROUNDS}`);
      for (;;) {
        const response = await client.responses.create({ model: "m", input, tools });
        const calls = response.output.filter((item) => item.type === "function_call");
        if (!calls.length) return response.output_text;
        input.push(...response.output);
        for (const call of calls) {
          input.push({ type: "function_call_output", call_id: call.call_id, output: "sunny" });
        }
      }
    },
  };
});
