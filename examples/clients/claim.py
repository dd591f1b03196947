"""Python with psycopg 3: a pass, a claim with its build in one transaction, the plan, a report, and who hears of it.

    python3 claim.py adas-workspace

libpq's environment (PGHOST, PGDATABASE and so on) says where the control plane is.
"""

import base64
import pathlib
import sys
import uuid

import psycopg

VERSION = "10000000-0000-4000-8000-000000000005"
ADA = "10000000-0000-4000-8000-000000000002"
# psycopg writes parameters as %s
CLAIM_BUILD = pathlib.Path(__file__).with_name("claim_build.sql").read_text()
CLAIM_BUILD = CLAIM_BUILD.replace("$1", "%(workspace)s").replace("$2", "%(owner)s")


def agent_ids(payload):
    """The agents of a message on the channel workspace_agent_metadata_batch."""
    pieces = [payload[i : i + 22] for i in range(0, len(payload), 22)]
    return [uuid.UUID(bytes=base64.b64decode(piece + "==", validate=True)) for piece in pieces]


def main(name):
    with (
        psycopg.connect(autocommit=True) as listener,
        psycopg.connect(autocommit=True) as connection,
    ):
        (created,) = connection.execute("SELECT created FROM prebuild_reconcile()").fetchone()
        print("a pass created", created)

        # a new owner without the build would have a workspace that never becomes theirs
        with connection.transaction():
            claimed = connection.execute(
                "SELECT id, name FROM prebuild_claim(prebuild_find_preset(%s, %s, %s), %s, %s)",
                (VERSION, ["region"], ["eu"], ADA, name),
            ).fetchone()
            if claimed is None:
                sys.exit("no prebuild is ready")
            connection.execute(CLAIM_BUILD, {"workspace": claimed[0], "owner": ADA})
        print("claimed", claimed[1])

        for action, count in connection.execute("SELECT action, count FROM prebuild_plan()"):
            print("the plan:", action, count)

        listener.execute("LISTEN workspace_agent_metadata_batch")
        (agent,) = connection.execute(
            """SELECT a.id FROM workspace_builds b
               JOIN workspace_resources r ON r.job_id = b.job_id
               JOIN workspace_agents a ON a.resource_id = r.id WHERE b.workspace_id = %s""",
            (claimed[0],),
        ).fetchone()
        connection.execute(
            "SELECT * FROM prebuild_agent_metadata_report(%s, %s, %s)", (agent, ["cpu"], ["12 %"])
        )
        for message in listener.notifies():
            for heard in agent_ids(message.payload):
                print("heard of agent", heard)
            break


main(sys.argv[1])
