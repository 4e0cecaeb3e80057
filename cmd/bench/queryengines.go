package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

// queryEngines opens SQLite in a new folder, and the servers that the environment names.
func (b *bench) queryEngines(ctx context.Context) (engines []*queryEngine, err error) {
	settings, err := config.ReadDev()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			for _, e := range engines {
				err = errors.Join(err, e.end(context.WithoutCancel(ctx)))
			}
		}
	}()
	for _, open := range []func() (*queryEngine, error){
		func() (*queryEngine, error) { return b.querySQLite(ctx) },
		func() (*queryEngine, error) { return queryOpenSearch(settings.Engines) },
		func() (*queryEngine, error) { return queryMongo(settings.Engines) },
	} {
		engine, err := open()
		if err != nil {
			return engines, err
		}
		engines = append(engines, engine)
	}
	return engines, nil
}

func (b *bench) querySQLite(ctx context.Context) (*queryEngine, error) {
	data := filepath.Join(b.folder, "queries")
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	db, err := sqlite.Open(ctx, filepath.Join(data, embedded.File))
	if err != nil {
		return nil, err
	}
	known := map[audit.TenantID]bool{}
	put := func(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) error {
		if !known[tenant] {
			if err := db.Tenants().Create(ctx, tenantOf(tenant)); err != nil {
				return err
			}
			known[tenant] = true
		}
		appended, err := db.Entries().Append(ctx, tenant, entries)
		if err != nil {
			return err
		}
		rejections, err := search.PutEntries(ctx, db.Index(), tenant, entries)
		return errors.Join(err, allTaken(append(rejections, appended.Rejections...)))
	}
	return &queryEngine{
		name: "SQLite", index: db.Index(), put: put, awaitFound: nothingToDo, forget: nothingToDo,
		size: func(context.Context) (int64, error) { return folderBytes(data) },
		end:  func(context.Context) error { return db.Close() },
	}, nil
}

// folderBytes returns the size of the files in a folder.
func folderBytes(folder string) (bytes int64, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return 0, fmt.Errorf("measure the data folder: %w", err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return 0, fmt.Errorf("measure the data folder: %w", err)
		}
		bytes += info.Size()
	}
	return bytes, nil
}

// benchPrefix begins the names of the indexes in OpenSearch, and is the name of the database
// in MongoDB. Runs on one server do not meet.
func benchPrefix() string { return fmt.Sprintf("bench%d", time.Now().UnixMilli()) }

func queryOpenSearch(engines config.Engines) (*queryEngine, error) {
	address := string(engines.OpenSearchURL)
	if address == "" {
		return &queryEngine{
			name: "OpenSearch", absent: "set OPENSEARCH_URL, or run `make bench`, which starts one", index: notThere{},
			awaitFound: nothingToDo, end: nothingToDo,
		}, nil
	}
	prefix := benchPrefix()
	opened, err := opensearchindex.Open(opensearchindex.Config{URLs: []string{address}, Prefix: prefix, WriteBudget: time.Minute})
	if err != nil {
		return nil, err
	}
	inPool := func(context.Context, audit.TenantID) ([]audit.Placement, error) {
		return []audit.Placement{{Family: audit.PoolName(0)}}, nil
	}
	index := opened.WithPlacements(inPool)
	admin := openSearchAdmin{address: strings.TrimSuffix(address, "/"), indexes: prefix + "-p00-*"}
	put := func(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) error {
		rejections, err := search.PutEntries(ctx, index, tenant, entries)
		return errors.Join(err, allTaken(rejections))
	}
	end := func(ctx context.Context) error { return errors.Join(admin.remove(ctx), index.Close()) }
	return &queryEngine{name: "OpenSearch", index: index, put: put, awaitFound: admin.awaitFound, forget: admin.forget, size: admin.size, end: end}, nil
}

// openSearchAdmin does to the indexes of the query times what no use case needs.
type openSearchAdmin struct {
	address string
	indexes string // a pattern
}

// awaitFound waits until searches find everything and the merges have ended.
func (a openSearchAdmin) awaitFound(ctx context.Context) error {
	if _, err := a.do(ctx, http.MethodPost, "/_refresh"); err != nil {
		return err
	}
	for {
		body, err := a.do(ctx, http.MethodGet, "/_stats/merge?filter_path=_all.total.merges.current")
		if err != nil {
			return err
		}
		var stats struct {
			All struct {
				Total struct {
					Merges struct {
						Current int `json:"current"`
					} `json:"merges"`
				} `json:"total"`
			} `json:"_all"`
		}
		if err := json.Unmarshal(body, &stats); err != nil {
			return fmt.Errorf("read the merges of OpenSearch: %w", err)
		}
		if stats.All.Total.Merges.Current == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// size returns the bytes of the primary shards.
func (a openSearchAdmin) size(ctx context.Context) (int64, error) {
	body, err := a.do(ctx, http.MethodGet, "/_stats/store?filter_path=_all.primaries.store.size_in_bytes")
	if err != nil {
		return 0, err
	}
	var stats struct {
		All struct {
			Primaries struct {
				Store struct {
					Bytes int64 `json:"size_in_bytes"`
				} `json:"store"`
			} `json:"primaries"`
		} `json:"_all"`
	}
	if err := json.Unmarshal(body, &stats); err != nil {
		return 0, fmt.Errorf("read the size of OpenSearch's indexes: %w", err)
	}
	return stats.All.Primaries.Store.Bytes, nil
}

// forget empties the cache of answers.
func (a openSearchAdmin) forget(ctx context.Context) error {
	_, err := a.do(ctx, http.MethodPost, "/_cache/clear?request=true")
	return err
}

// remove deletes the indexes one by one: many clusters refuse a pattern.
func (a openSearchAdmin) remove(ctx context.Context) error {
	body, err := a.do(ctx, http.MethodGet, "/_settings?filter_path=*.settings.index.uuid")
	if err != nil {
		return err
	}
	var found map[string]json.RawMessage
	if err := json.Unmarshal(body, &found); err != nil {
		return fmt.Errorf("list the indexes of OpenSearch: %w", err)
	}
	for name := range found {
		one := openSearchAdmin{address: a.address, indexes: name}
		if _, err := one.do(ctx, http.MethodDelete, ""); err != nil {
			return err
		}
	}
	return nil
}

func (a openSearchAdmin) do(ctx context.Context, method, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, a.address+"/"+a.indexes+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask OpenSearch: %w", err)
	}
	body, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return nil, fmt.Errorf("ask OpenSearch: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: OpenSearch answered %s", method, path, response.Status)
	}
	return body, nil
}

// notThere is the index of an engine that is not there. Every engine but MongoDB is asked
// everything.
type notThere struct{ search.Index }

func (notThere) Find(context.Context, audit.TenantID, audit.Filter, audit.PageRequest) (audit.Page, error) {
	return audit.Page{}, errNotThere
}

func (notThere) Stats(context.Context, audit.TenantID, audit.Filter, audit.StatsRequest) (audit.Stats, error) {
	return audit.Stats{}, errNotThere
}

var errNotThere = errors.New("the engine is not there")

func queryMongo(engines config.Engines) (*queryEngine, error) {
	uri, there := string(engines.MongoURI), len(engines.MongoURI) > 0
	if !there {
		uri = "mongodb://127.0.0.1:1" // nobody connects to it
	}
	db, err := mongostore.Open(uri, benchPrefix())
	if err != nil {
		return nil, err
	}
	shared := func(context.Context, audit.TenantID) (audit.Isolation, error) { return audit.IsolationShared, nil }
	engine := &queryEngine{
		name: "MongoDB", index: db.Index(shared), absent: "set MONGODB_URI and OPENSEARCH_URL", awaitFound: nothingToDo, forget: nothingToDo, size: sizeUnknown, end: db.Close,
	}
	if !there {
		return engine, nil
	}
	entries, filled := db.Entries(shared), map[audit.TenantID]bool{}
	engine.put = func(ctx context.Context, tenant audit.TenantID, batch []audit.Entry) error {
		filled[tenant] = true
		appended, err := entries.Append(ctx, tenant, batch)
		return errors.Join(err, allTaken(appended.Rejections))
	}
	engine.end = func(ctx context.Context) error {
		for tenant := range filled {
			if err := purgeAll(ctx, entries, tenant); err != nil {
				return errors.Join(err, db.Close(ctx))
			}
		}
		return db.Close(ctx)
	}
	return engine, nil
}

// sizeUnknown is the size of an engine that does not tell it without a right of its own.
func sizeUnknown(context.Context) (int64, error) { return 0, nil }

// purgeAll removes a tenant's entries. The empty collections stay.
func purgeAll(ctx context.Context, entries *mongostore.Entries, tenant audit.TenantID) error {
	for {
		if n, err := entries.Purge(ctx, tenant, 10_000); err != nil || n == 0 {
			return err
		}
	}
}

func allTaken(rejections []audit.Rejection) error {
	if len(rejections) > 0 {
		return fmt.Errorf("%d entries were rejected: %s", len(rejections), rejections[0].Reason)
	}
	return nil
}
