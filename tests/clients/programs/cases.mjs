// The cases that each client of Node runs, and the form in which it prints their outcomes.
export const ROUNDS = "Weather? [[tools=3]]";
export const ERROR = "Who? [[status=400 retry-after=7 x-ratelimit-remaining-requests=7]]";
const object = (properties) => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});
export const PARAMETERS = object({ city: { type: "string" } });
export const PERSON = object({ name: { type: "string" }, age: { type: "integer" } });

export async function runCases(cases) {
  const [baseURL, apiKey] = process.argv.slice(2);
  const outcomes = {};
  for (const [name, run] of Object.entries(cases(baseURL, apiKey))) {
    try {
      outcomes[name] = await run();
    } catch (error) {
      outcomes[name] = { error: error.constructor.name, status: error.status ?? error.statusCode ?? null };
      if (!name.endsWith("error")) outcomes[name].message = String(error);
    }
  }
  console.log(`\n${JSON.stringify({ outcomes, versions: {} })}`);
}
