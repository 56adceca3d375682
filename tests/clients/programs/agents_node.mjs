// openai-agents for Node, with both APIs.
import { Agent, OpenAIProvider, Runner, tool } from "@openai/agents";
import OpenAI from "openai";
import { z } from "zod";
import { ERROR, ROUNDS, runCases } from "./cases.mjs";

await runCases((baseURL, apiKey) => {
  const openAIClient = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
  const weather = tool({
    name: "weather",
    description: "Return the weather of a city.",
    parameters: z.object({ city: z.string() }),
    execute: ({ city }) => `sunny in ${city}`,
  });
  const plain = new Agent({ name: "plain", model: "m" });
  const withTools = new Agent({ name: "tools", model: "m", tools: [weather] });
  const typed = new Agent({
    name: "typed", model: "m", outputType: z.object({ name: z.string(), age: z.number().int() }),
  });
  const cases = {};
  for (const useResponses of [false, true]) {
    const name = useResponses ? "responses" : "chat";
    const modelProvider = new OpenAIProvider({ openAIClient, useResponses });
    const runner = new Runner({ modelProvider, tracingDisabled: true });
    const run = async (agent, text) => (await runner.run(agent, `${name}: ${text}`)).finalOutput;
    const stream = async (agent, text) => {
      const result = await runner.run(agent, `${name}: ${text}`, { stream: true });
      const types = [];
      for await (const event of result) types.push(event.type);
      await result.completed;
      return [...types, result.finalOutput];
    };
    cases[`${name}_plain`] = () => run(plain, "Who?");
    cases[`${name}_streamed`] = () => stream(plain, "Who, streamed?");
    cases[`${name}_tools`] = () => run(withTools, ROUNDS);
    cases[`${name}_streamed_tools`] = () => stream(withTools, `Streamed: ${ROUNDS}`);
    cases[`${name}_structured`] = () => run(typed, "Who? [[schema]]");
    cases[`${name}_error`] = () => run(plain, ERROR);
  }
  return cases;
});
