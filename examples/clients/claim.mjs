// Node with pg 8: a pass, a claim with its build in one transaction, the plan, a report, and who hears of it.
//
//	npm install && node claim.mjs adas-workspace
//
// The environment (PGHOST, PGDATABASE and so on) says where the control plane is.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import pg from "pg";

const version = "10000000-0000-4000-8000-000000000005";
const ada = "10000000-0000-4000-8000-000000000002";
const claimBuild = await readFile(new URL("claim_build.sql", import.meta.url), "utf8");

// The agents of a message on the channel workspace_agent_metadata_batch.
function agentIds(payload) {
  const pieces = payload.match(/.{22}/g) ?? [];
  return pieces.map((piece) => {
    const hex = Buffer.from(piece, "base64").toString("hex");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  });
}

// Give a prebuild to Ada, with the build that makes it hers: both or neither.
async function claim(client, name) {
  await client.query("BEGIN");
  try {
    const { rows } = await client.query(
      "SELECT id, name FROM prebuild_claim(prebuild_find_preset($1, $2, $3), $4, $5)",
      [version, ["region"], ["eu"], ada, name],
    );
    if (rows.length === 0) throw new Error("no prebuild is ready");
    await client.query(claimBuild, [rows[0].id, ada]);
    await client.query("COMMIT");
    return rows[0];
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  }
}

const client = new pg.Client();
const listener = new pg.Client();
await client.connect();
await listener.connect();

const pass = await client.query("SELECT created FROM prebuild_reconcile()");
console.log("a pass created", pass.rows[0].created);

const workspace = await claim(client, process.argv[2]);
console.log("claimed", workspace.name);

const plan = await client.query("SELECT action, count FROM prebuild_plan()");
for (const { action, count } of plan.rows) console.log("the plan:", action, count);

await listener.query("LISTEN workspace_agent_metadata_batch");
const heard = once(listener, "notification");
const agents = await client.query(
  `SELECT a.id FROM workspace_builds b
   JOIN workspace_resources r ON r.job_id = b.job_id
   JOIN workspace_agents a ON a.resource_id = r.id WHERE b.workspace_id = $1`,
  [workspace.id],
);
await client.query("SELECT prebuild_agent_metadata_report($1, $2, $3)", [agents.rows[0].id, ["cpu"], ["12 %"]]);
const [message] = await heard;
for (const id of agentIds(message.payload)) console.log("heard of agent", id);

await client.end();
await listener.end();
