// Codex in `exec` mode: streamed Responses with its own tools, which it runs itself.
import { spawnSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ERROR, runCases } from "./cases.mjs";

await runCases((baseURL, apiKey) => {
  const program = new URL("node_modules/@openai/codex/bin/codex.js", import.meta.url).pathname;
  const provider = `{name="qa",base_url="${baseURL}",env_key="QA_KEY",wire_api="responses",request_max_retries=0,stream_max_retries=0}`;
  const run = (prompt) => {
    const home = mkdtempSync(join(tmpdir(), "codex-"));
    const options = ["--skip-git-repo-check", "--sandbox", "read-only", "-C", home, "-m", "m"];
    const settings = ["-c", 'model_provider="qa"', "-c", `model_providers.qa=${provider}`];
    const { status, stdout } = spawnSync(
      process.execPath,
      [program, "exec", ...options, ...settings, prompt],
      {
        env: { ...process.env, CODEX_HOME: home, HOME: home, QA_KEY: apiKey },
        encoding: "utf8", stdio: ["ignore", "pipe", "ignore"], timeout: 120_000,
      },
    );
    if (status) throw new Error(`Codex ended with ${status}`);
    return stdout.trim();
  };
  return {
    plain: () => run("Who?"),
    rounds: () => run("Look around. [[tools=2]]"),
    error: () => run(ERROR),
  };
});
