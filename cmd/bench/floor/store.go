package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	_ "modernc.org/sqlite" // the driver that the embedded engine uses
)

// entry is what the floor decodes of an entry. encoding/json checks the rest of the text.
type entry struct {
	UserID       string    `json:"user_id"`
	Action       string    `json:"action"`
	ResourceType string    `json:"resource_type"`
	Timestamp    time.Time `json:"timestamp"`
}

// row is an entry as it is stored.
type row struct {
	id     [16]byte
	tenant string
	millis int64
	doc    []byte
}

func newRows(tenant string, body []byte, split func([]byte) ([]json.RawMessage, error)) ([]row, error) {
	docs, err := split(body)
	if err != nil {
		return nil, err
	}
	rows := make([]row, len(docs))
	for i, doc := range docs {
		var e entry
		if err := json.Unmarshal(doc, &e); err != nil {
			return nil, err
		}
		if e.UserID == "" || e.Action == "" || e.ResourceType == "" {
			return nil, errors.New("an entry lacks a required field")
		}
		rows[i] = row{tenant: tenant, millis: e.Timestamp.UnixMilli(), doc: doc}
		_, _ = rand.Read(rows[i].id[:]) // never fails, see crypto/rand
	}
	return rows, nil
}

// store is the file. One goroutine writes to it.
type store struct {
	pool    *sql.DB
	writes  chan write
	written chan struct{} // closed once the writer has ended
}

type write struct {
	rows []row
	done chan error
}

const schema = `
CREATE TABLE entries (id BLOB NOT NULL, tenant TEXT NOT NULL, time INTEGER NOT NULL, doc BLOB NOT NULL);
CREATE INDEX entries_by_time ON entries (tenant, time);
`

func openStore(ctx context.Context, path string) (*store, error) {
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{
		"_journal_mode": {"wal"}, "_pragma": {"busy_timeout(5000)", "page_size(8192)", "synchronous(full)", "cache_size(-65536)", "wal_autocheckpoint(4000)"},
	}.Encode()}
	pool, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if _, err := pool.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), pool.Close())
	}
	s := &store{pool: pool, writes: make(chan write), written: make(chan struct{})}
	go func() {
		defer close(s.written)
		for first := range s.writes {
			s.commitGroup(first)
		}
	}()
	return s, nil
}

// close must come after the last append.
func (s *store) close() error {
	close(s.writes)
	<-s.written
	return s.pool.Close()
}

// append returns nil only once the rows are durable.
func (s *store) append(rows []row) error {
	w := write{rows: rows, done: make(chan error, 1)}
	s.writes <- w
	return <-w.done
}

const maxGroup = 256 // writes of one transaction

// commitGroup commits a write, and those that wait, in one transaction.
func (s *store) commitGroup(first write) {
	group := []write{first}
	for waiting := true; waiting && len(group) < maxGroup; {
		select {
		case w := <-s.writes:
			group = append(group, w)
		default:
			waiting = false
		}
	}
	err := s.insert(group)
	for _, w := range group {
		w.done <- err
	}
}

func (s *store) insert(group []write) error {
	ctx := context.Background()
	tx, err := s.pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	statement, err := tx.PrepareContext(ctx, `INSERT INTO entries (id, tenant, time, doc) VALUES (?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	defer func() { _ = statement.Close() }() // the transaction's result says whether it worked
	for _, w := range group {
		for i := range w.rows {
			r := &w.rows[i]
			if _, err := statement.ExecContext(ctx, r.id[:], r.tenant, r.millis, r.doc); err != nil {
				return err
			}
		}
	}
	return tx.Commit()
}

func (s *store) count(ctx context.Context, tenant string) (n int64, err error) {
	err = s.pool.QueryRowContext(ctx, `SELECT count(*) FROM entries WHERE tenant = ?`, tenant).Scan(&n)
	return n, err
}
