// LangChain for Node: `ChatOpenAI` with both APIs, `bindTools` and `withStructuredOutput`.
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import { ERROR, PARAMETERS, PERSON, ROUNDS, runCases } from "./cases.mjs";

await runCases((baseURL, apiKey) => {
  const weather = {
    type: "function",
    function: { name: "weather", description: "Return the weather.", parameters: PARAMETERS },
  };
  const cases = {};
  for (const useResponsesApi of [false, true]) {
    const name = useResponsesApi ? "responses" : "chat";
    const model = new ChatOpenAI({
      model: "m", apiKey, useResponsesApi, maxRetries: 0, configuration: { baseURL },
    });
    cases[`${name}_plain`] = async () => (await model.invoke(`${name}: Who?`)).text;
    cases[`${name}_streamed`] = async () => {
      const parts = [];
      for await (const part of await model.stream(`${name}: Who, streamed?`)) parts.push(part.text);
      return parts;
    };
    cases[`${name}_tools`] = async () => {
      const bound = model.bindTools([weather]);
      const messages = [new HumanMessage(`${name}: ${ROUNDS}`)];
      for (;;) {
        const answer = await bound.invoke(messages);
        if (!answer.tool_calls.length) return answer.text;
        messages.push(answer);
        for (const call of answer.tool_calls) {
          messages.push(new ToolMessage({ content: "sunny", tool_call_id: call.id }));
        }
      }
    };
    cases[`${name}_structured`] = async () =>
      model.withStructuredOutput(PERSON, { name: "Person", strict: true }).invoke(`${name}? [[schema]]`);
    cases[`${name}_error`] = async () => (await model.invoke(`${name}: ${ERROR}`)).text;
  }
  return cases;
});
