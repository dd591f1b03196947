// Go with pgx 5 (or, with the other import, 4): a pass, a claim with its build in one transaction, the plan, a report, and who hears of it.
//
//	go run . adas-workspace
//
// The environment (PGHOST, PGDATABASE and so on) says where the control plane is.
package main

import (
	"context"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/jackc/pgx/v5"
)

const (
	version = "10000000-0000-4000-8000-000000000005"
	ada     = "10000000-0000-4000-8000-000000000002"
)

//go:embed claim_build.sql
var claimBuild string

// agentIDs returns the agents of a message on the channel workspace_agent_metadata_batch.
func agentIDs(payload string) ([]string, error) {
	if len(payload)%22 != 0 {
		return nil, fmt.Errorf("payload of %d characters", len(payload))
	}
	ids := make([]string, len(payload)/22)
	for i := range ids {
		id, err := base64.RawStdEncoding.DecodeString(payload[i*22 : i*22+22])
		if err != nil {
			return nil, err
		}
		ids[i] = fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	}
	return ids, nil
}

// claim gives a prebuild to Ada, with the build that makes it hers: both or neither.
func claim(ctx context.Context, conn *pgx.Conn, name string) (workspace string, err error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return "", err
	}
	defer tx.Rollback(ctx) // does nothing after the commit
	err = tx.QueryRow(ctx,
		"SELECT id FROM prebuild_claim(prebuild_find_preset($1::text::uuid, $2, $3), $4::text::uuid, $5)",
		version, []string{"region"}, []string{"eu"}, ada, name).Scan(&workspace)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", errors.New("no prebuild is ready")
	}
	if err != nil {
		return "", err
	}
	if _, err := tx.Exec(ctx, claimBuild, workspace, ada); err != nil {
		return "", err
	}
	return workspace, tx.Commit(ctx)
}

func run(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, "")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	listener, err := pgx.Connect(ctx, "")
	if err != nil {
		return err
	}
	defer listener.Close(ctx)

	var created int32
	if err := conn.QueryRow(ctx, "SELECT created FROM prebuild_reconcile()").Scan(&created); err != nil {
		return err
	}
	fmt.Println("a pass created", created)

	workspace, err := claim(ctx, conn, name)
	if err != nil {
		return err
	}
	fmt.Println("claimed", name)

	rows, err := conn.Query(ctx, "SELECT action, count FROM prebuild_plan()")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var action string
		var count int32
		if err := rows.Scan(&action, &count); err != nil {
			return err
		}
		fmt.Println("the plan:", action, count)
	}
	if err := rows.Err(); err != nil {
		return err
	}

	if _, err := listener.Exec(ctx, "LISTEN workspace_agent_metadata_batch"); err != nil {
		return err
	}
	var agent string
	if err := conn.QueryRow(ctx, `SELECT a.id FROM workspace_builds b
		JOIN workspace_resources r ON r.job_id = b.job_id
		JOIN workspace_agents a ON a.resource_id = r.id WHERE b.workspace_id = $1::text::uuid`,
		workspace).Scan(&agent); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "SELECT prebuild_agent_metadata_report($1::text::uuid, $2, $3)",
		agent, []string{"cpu"}, []string{"12 %"}); err != nil {
		return err
	}
	message, err := listener.WaitForNotification(ctx)
	if err != nil {
		return err
	}
	ids, err := agentIDs(message.Payload)
	for _, id := range ids {
		fmt.Println("heard of agent", id)
	}
	return err
}

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		log.Fatal(err)
	}
}
