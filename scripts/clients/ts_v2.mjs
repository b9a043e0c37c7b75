// The TypeScript SDK, version 2: ts_v2.mjs MODULES NAME ERA SLEEPER stdio COMMAND... | http URL.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

import { run } from "./checks.mjs";

const [modules, name, era, sleeper, transport, ...target] = process.argv.slice(2);
const resolve = createRequire(`${modules}/`).resolve;
const load = (path) => import(pathToFileURL(resolve(`@modelcontextprotocol/client${path}`)));
const { Client, StreamableHTTPClientTransport } = await load("");
const { StdioClientTransport } = await load("/stdio");

const client = new Client({ name, version: "1" }, { versionNegotiation: { mode: era } });
await client.connect(
  transport === "stdio"
    ? new StdioClientTransport({ command: target[0], args: target.slice(1), stderr: "ignore" })
    : new StreamableHTTPClientTransport(new URL(target[0])),
);
await run({
  sleeper,
  tools: async () => (await client.listTools()).tools.map((tool) => tool.name),
  call: (tool, given, options) => client.callTool({ name: tool, arguments: given }, options),
});
await client.close();
