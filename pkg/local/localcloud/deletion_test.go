package localcloud_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
)

// tenantIsDeleted deletes the tenant while its clients send, by workers that are killed. Three quarters of total entries
// are stored already. Nothing of the tenant is left, and another tenant has all it had.
func tenantIsDeleted(r *retained, total int) {
	tombstones, err := fileblob.Open(r.t.TempDir())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = tombstones.Close() })
	r.stores.Tombstones, r.services.Stores.Tombstones = tombstones, tombstones
	r.stores.DrainPeriod = 2 * time.Second // here a consumer has no old record of the tenant
	tenant := r.admin.tenant
	other := &retained{reconciled: r.reconciled, admin: r.admin.as("Bearer "+string(tenant)+"-other", tenant+"-other")}
	r.createTenant(other.admin.tenant)
	r.t.Cleanup(func() {
		if _, err := r.services.Stores.Index.Purge(context.Background(), other.admin.tenant, 100_000); err != nil {
			r.t.Error(err)
		}
	})
	const others = 300
	other.send(others, func(int) time.Time { return time.Now() })
	r.fillPlaces()

	clients := r.sendAlways(total / 4)
	before, err := r.services.Stores.Entries.Count(r.t.Context(), tenant, time.Time{}, time.Time{})
	if err != nil {
		r.t.Fatal(err)
	}
	if least := int64(total) * 3 / 4; before < least {
		r.t.Errorf("%d entries are stored before the deletion, want %d at least", before, least)
	}
	if n := r.indexed(); n == 0 {
		r.t.Error("the index has no entry of the tenant before the deletion, want some")
	}
	operator := r.admin.as("Bearer "+operatorToken, "")
	var job jobAnswer
	for range 2 { // the second finds the job
		got := operator.do("DELETE", "/tenants/"+string(tenant), "", nil)
		if got.status != http.StatusAccepted {
			r.t.Fatalf("delete the tenant: got status %d, want %d: %s", got.status, http.StatusAccepted, got.body)
		}
		got.decode(r.t, &job)
	}
	if got := r.admin.do("POST", "/tenants/"+string(tenant)+"/legal-holds", `{"matter":"Case 17","reason":"late"}`, nil); got.status/100 == 2 {
		r.t.Errorf("a hold during the deletion: got status %d, want a refusal: %s", got.status, got.body)
	}
	r.workKilled(faults{kills: 15, apart: 30})
	sent := clients.stop()
	r.overdue()
	r.handle()
	r.deliverLate()

	onDeleted := r.admin.as(operator.authorization, tenant)
	r.wantDeletionCertified(onDeleted, job.ID, before, before+sent)
	if left := r.leftOf(tenant); len(left) > 0 {
		r.t.Errorf("of the tenant is left: %v, want nothing", left)
	}
	r.wantEmptyStores()
	if got := operator.do("POST", "/tenants", fmt.Sprintf(`{"id":%q,"name":"again"}`, tenant), nil); got.status != http.StatusConflict {
		r.t.Errorf("the id for a new tenant: got status %d, want %d: %s", got.status, http.StatusConflict, got.body)
	}
	other.wantCounts("after the deletion of another tenant", counts{stored: others, indexed: others, visible: others})
}

// fillPlaces puts something of the tenant where there is nothing yet.
func (r *retained) fillPlaces() {
	r.t.Helper()
	tenant := r.admin.tenant
	entry := audit.Entry{ID: audit.NewEntryID(time.Now(), [10]byte{7}), Tenant: tenant, UserID: "u", Action: "A", ResourceType: "order", Timestamp: time.Now(), ReceivedAt: time.Now()}
	rejected := []audit.Rejection{{Code: audit.CodeUnstorable, Reason: "a test"}}
	if err := r.services.Quarantine().Add(r.t.Context(), tenant, audit.StepPersist, []audit.Entry{entry}, rejected); err != nil {
		r.t.Fatal(err)
	}
	if err := r.stores.Archive.Create(r.t.Context(), tenant, "month=2025-01/part-000001.parquet", export.ContentOf([]byte("PAR1"), "")); err != nil {
		r.t.Fatal(err)
	}
	if got := r.admin.do("POST", "/tenants/"+string(tenant)+"/api-keys", `{"name":"k","permissions":["logs:read"]}`, nil); got.status != http.StatusCreated {
		r.t.Errorf("create an API key: got status %d, want %d: %s", got.status, http.StatusCreated, got.body)
	}
}

// clients send entries of the tenant until they are refused, while consumers work.
type clients struct {
	group    sync.WaitGroup
	accepted atomic.Int64
	stopped  context.CancelFunc
}

// sendAlways starts clients, and returns once they have sent so many entries.
func (r *retained) sendAlways(n int) *clients {
	r.t.Helper()
	ctx, stop := context.WithCancel(r.t.Context())
	c := &clients{stopped: stop}
	for client := range 2 {
		c.group.Go(func() { r.sendUntilRefused(client, &c.accepted) })
	}
	c.group.Go(func() {
		for ctx.Err() == nil {
			for _, name := range []manifest.QueueName{manifest.QueueIngest, manifest.QueueArrival, manifest.QueueIndex} {
				if err := r.handleQueue(name); err != nil && !audit.IsUnavailable(err) && ctx.Err() == nil {
					r.t.Error(err)
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	for deadline := time.Now().Add(2 * time.Minute); c.accepted.Load() < int64(n); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.stop()
			r.t.Fatalf("%d entries are accepted after two minutes, want %d", c.accepted.Load(), n)
		}
	}
	return c
}

// stop waits for the end of the clients. It returns how many entries were accepted.
func (c *clients) stop() int64 {
	c.stopped()
	c.group.Wait()
	return c.accepted.Load()
}

func (r *retained) sendUntilRefused(client int, accepted *atomic.Int64) {
	const bulk = 250
	for n := 0; ; n++ {
		entries := make([]string, bulk)
		for i := range entries {
			entries[i] = fmt.Sprintf(`{"user_id":"u%d","action":"SEND","resource_type":"order","message":"keptword","metadata":{"client":%d,"n":%d}}`, i%100, client, n*bulk+i)
		}
		got := r.admin.do("POST", "/logs/bulk", "["+strings.Join(entries, ",")+"]", nil)
		switch got.status {
		case http.StatusAccepted:
			accepted.Add(bulk)
		case http.StatusForbidden:
			return
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			time.Sleep(50 * time.Millisecond)
		default:
			r.t.Errorf("send to a tenant that is being deleted: got status %d, want %d: %s", got.status, http.StatusForbidden, got.body)
			return
		}
	}
}

// deliverLate hands messages of the deleted tenant to the functions, as if they had been under way. They are dropped.
func (r *retained) deliverLate() {
	r.t.Helper()
	entry := audit.Entry{ID: audit.NewEntryID(time.Now(), [10]byte{8}), Tenant: r.admin.tenant, UserID: "u", Action: "LATE", ResourceType: "order", Timestamp: time.Now(), ReceivedAt: time.Now()}
	messages, err := envelope.Pack(r.admin.tenant, []audit.Entry{entry})
	if err != nil {
		r.t.Fatal(err)
	}
	functions := localcloud.QueueFunctions(r.services)
	for _, function := range []string{"persist-logs", "order-logs", "index-logs"} {
		for i, err := range functions[function](r.t.Context(), messages) {
			if err != nil {
				r.t.Errorf("%s: message %d of the deleted tenant: got error %v, want it dropped", function, i, err)
			}
		}
	}
	r.handle()
}

// wantDeletionCertified checks the job and its certificate, which counts from least to most entries.
func (r *retained) wantDeletionCertified(operator caller, id string, least, most int64) {
	r.t.Helper()
	var job struct {
		jobAnswer
		Certificate string
	}
	operator.get("/jobs/"+id, nil).decode(r.t, &job)
	if job.State != "succeeded" {
		r.t.Fatalf("the deletion is %s (%s), want it to succeed", job.State, job.Error)
	}
	var certificate struct {
		Statement struct {
			Kind   string
			Tenant audit.TenantID `json:"tenant_id"`
			Places []struct {
				Place   string
				Removed int64
			}
		}
	}
	operator.as("", "").get(strings.TrimPrefix(job.Certificate, manifest.BasePath), nil).decode(r.t, &certificate)
	if got := certificate.Statement; got.Kind != "deletion" || got.Tenant != r.admin.tenant {
		r.t.Errorf("got a certificate of the %s of %s, want one of the deletion of %s", got.Kind, got.Tenant, r.admin.tenant)
	}
	removed := map[string]int64{}
	for _, place := range certificate.Statement.Places {
		removed[place.Place] = place.Removed
	}
	const own = 50 // more than the service records of the tenant meanwhile
	if got := removed["entries"]; got < least || got > most+own {
		r.t.Errorf("the certificate counts %d entries, want from %d to %d", got, least, most+own)
	}
	if got := int64(job.Count); got != removed["entries"] {
		r.t.Errorf("the job counts %d entries, want %d as the certificate", got, removed["entries"])
	}
	for _, place := range []string{"quarantine", "API keys", "archive"} {
		if got := removed[place]; got != 1 {
			r.t.Errorf("the certificate counts %d records of %s, want 1", got, place)
		}
	}
}

// indexed counts what the index has of the tenant. It needs no record of the tenant.
func (r *retained) indexed() int64 {
	r.t.Helper()
	stats, err := r.stores.Index.Stats(r.t.Context(), r.admin.tenant, audit.Filter{}, audit.StatsRequest{})
	if err != nil {
		r.t.Fatal(err)
	}
	return stats.Total
}

// wantEmptyStores asks the ports of the stores for what they have of the tenant.
func (r *retained) wantEmptyStores() {
	r.t.Helper()
	ctx, tenant := r.t.Context(), r.admin.tenant
	items, _, err := r.stores.Quarantine.List(ctx, tenant, []quarantine.Resource(nil), "", 10)
	if err != nil {
		r.t.Fatal(err)
	}
	archived, err := r.stores.Archive.List(ctx, tenant, "", "", 10)
	if err != nil {
		r.t.Fatal(err)
	}
	exports, err := r.stores.Exports.List(ctx, tenant, "", "", 10)
	if err != nil {
		r.t.Fatal(err)
	}
	for place, got := range map[string]int64{
		"stored entries": int64(len(r.stored(time.Now().AddDate(1, 0, 0)))), "indexed entries": r.indexed(), "items in quarantine": int64(len(items)),
		"files of the archive": int64(len(archived)), "files of exports": int64(len(exports)),
	} {
		if got > 0 {
			r.t.Errorf("%d %s are left, want none", got, place)
		}
	}
}

// keptPlaces have what outlives a tenant: its id and its jobs, the numbers of tenants in the file, and the turns of its
// messages. Of its keys only those that are not destroyed count.
var keptPlaces = map[string]bool{"tenants": true, "jobs": true, "tenant_numbers": true, "tenant_turns": true}

const keysPlace, wrappedKey = "tenant_keys", "wrapped"

// leftInFile counts the rows of the tenant in each table of the file.
func leftInFile(t *testing.T, path string, tenant audit.TenantID) map[string]int {
	t.Helper()
	left := map[string]int{}
	inFile(t, path, func(file *sql.DB) error {
		var number int64
		if err := file.QueryRowContext(t.Context(), `SELECT coalesce((SELECT number FROM tenant_numbers WHERE id = ?), -1)`, tenant).Scan(&number); err != nil {
			return err
		}
		var list string
		err := file.QueryRowContext(t.Context(), `SELECT json_group_array(t.name) FROM sqlite_master t JOIN pragma_table_info(t.name) c ON c.name = 'tenant' WHERE t.type = 'table'`).Scan(&list)
		var tables []string
		if err == nil {
			err = json.Unmarshal([]byte(list), &tables)
		}
		if err == nil && len(tables) < 10 {
			t.Errorf("the file has the tables %v with tenants, want all", tables)
		}
		for _, table := range tables {
			n, query := 0, `SELECT count(*) FROM "`+table+`" WHERE (tenant = ? OR tenant = ?)`
			if table == keysPlace {
				query += ` AND ` + wrappedKey + ` IS NOT NULL`
			}
			if err == nil {
				err = file.QueryRowContext(t.Context(), query, string(tenant), number).Scan(&n)
			}
			if n > 0 && !keptPlaces[table] {
				left[table] = n
			}
		}
		return err
	})
	return left
}
