// Command floor is the least that a durable log over SQLite can be: what the embedded service is
// compared with. It has one table with one index, and commits requests in groups. It checks no
// identity, has no queue and no full text.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: floor FOLDER")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

// run serves a file in the folder until ctx ends. It prints its address first.
func run(ctx context.Context, folder string) error {
	s, err := openStore(ctx, filepath.Join(folder, "floor.db"))
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, s.close())
	}
	server := &http.Server{Handler: routes(s), ReadHeaderTimeout: 10 * time.Second}
	fmt.Printf("http://%s/\n", listener.Addr())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err = <-served:
	case <-ctx.Done():
		err = server.Shutdown(context.WithoutCancel(ctx))
	}
	return errors.Join(err, s.close())
}

func routes(s *store) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /api/v1/logs", func(w http.ResponseWriter, r *http.Request) {
		s.accept(w, r, func(body []byte) ([]json.RawMessage, error) { return []json.RawMessage{body}, nil })
	})
	mux.HandleFunc("POST /api/v1/logs/bulk", func(w http.ResponseWriter, r *http.Request) {
		s.accept(w, r, func(body []byte) (docs []json.RawMessage, err error) {
			err = json.Unmarshal(body, &docs)
			return docs, err
		})
	})
	mux.HandleFunc("GET /api/v1/logs/stats", func(w http.ResponseWriter, r *http.Request) {
		total, err := s.count(r.Context(), r.Header.Get("X-Tenant-Id"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]int64{"total": total}) // the client has gone
	})
	return mux
}

// accept stores the entries of a request and answers 202 once they are durable.
func (s *store) accept(w http.ResponseWriter, r *http.Request, split func([]byte) ([]json.RawMessage, error)) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	rows, err := newRows(r.Header.Get("X-Tenant-Id"), body, split)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	if err := s.append(rows); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(map[string]int{"accepted": len(rows)}) // the client has gone
}
