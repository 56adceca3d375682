// The AI SDK with `createOpenAI` (Responses and Chat Completions) and `createOpenAICompatible` (Chat Completions).
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, Output, stepCountIs, streamText, tool } from "ai";
import { ERROR, PARAMETERS, PERSON, ROUNDS, runCases } from "./cases.mjs";

await runCases((baseURL, apiKey) => {
  const models = {
    responses: createOpenAI({ baseURL, apiKey })("m"),
    chat: createOpenAI({ baseURL, apiKey }).chat("m"),
    compatible: createOpenAICompatible({
      name: "qa", baseURL, apiKey, supportsStructuredOutputs: true,
    })("m"),
  };
  const weather = tool({
    description: "Return the weather of a city.",
    inputSchema: jsonSchema(PARAMETERS),
    execute: ({ city }) => `sunny in ${city}`,
  });
  const output = Output.object({ schema: jsonSchema(PERSON) });
  const cases = {};
  for (const [name, model] of Object.entries(models)) {
    const ask = (prompt, options) => generateText({ model, prompt, maxRetries: 0, ...options });
    const label = (text) => `${name}: ${text}`;
    cases[`${name}_plain`] = async () => (await ask(label("Who?"))).text;
    cases[`${name}_streamed`] = async () =>
      streamText({ model, prompt: label("Who, streamed?"), maxRetries: 0 }).text;
    cases[`${name}_tools`] = async () => {
      const result = await ask(label(ROUNDS), { tools: { weather }, stopWhen: stepCountIs(9) });
      return [result.steps.length, result.text];
    };
    cases[`${name}_structured`] = async () => (await ask(label("Who? [[schema]]"), { output })).output;
  }
  cases.error = async () => (await generateText({ model: models.responses, prompt: ERROR, maxRetries: 0 })).text;
  return cases;
});
