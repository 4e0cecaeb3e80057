package localcloud_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite/postings"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

// wantTokensAlone checks that the index has two tokens, of the only value that can be matched and of its
// key, and that no term has the mark.
func wantTokensAlone(t *testing.T, s *service) {
	t.Helper()
	terms, token := fileTerms, regexp.MustCompile(`^[0-9]+e[a-z2-7]{26}$`) // base32 of 16 bytes
	if len(s.engines.OpenSearchURL) > 0 {
		terms, token = openSearchTerms, regexp.MustCompile(`^values:[A-Za-z0-9+/]{22}$`) // base64 of them
	}
	all, tokens := terms(t, s), 0
	for _, term := range all {
		wantNoMark(t, "a term", []byte(strings.ToLower(term)))
		if token.MatchString(term) {
			tokens++
		}
	}
	if tokens != 2 {
		t.Errorf("%d of the index's terms are tokens of encrypted values, want 2: %q", tokens, all)
	}
}

// fileTerms returns the terms of the embedded index.
func fileTerms(t *testing.T, s *service) (terms []string) {
	t.Helper()
	file, err := sql.Open("sqlite", "file:"+filepath.Join(s.data, embedded.File))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	rows, err := file.QueryContext(t.Context(), `SELECT number, level, docs, first, last, pages, bytes FROM segments WHERE state = 1`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	snapshot := postings.Snapshot{Source: segmentPages{file}}
	for rows.Next() {
		var of postings.Segment
		if err := rows.Scan(&of.Number, &of.Level, &of.Docs, &of.First, &of.Last, &of.Pages, &of.Bytes); err != nil {
			t.Fatal(err)
		}
		snapshot.Segments = append(snapshot.Segments, of)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for token, err := range snapshot.Tokens(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(terms, string(token)) { // each segment has its own
			terms = append(terms, string(token))
		}
	}
	return terms
}

// segmentPages reads the pages of the embedded index. It implements postings.Source.
type segmentPages struct{ file *sql.DB }

func (p segmentPages) Page(ctx context.Context, segment int64, page int) (data []byte, err error) {
	err = p.file.QueryRowContext(ctx, `SELECT data FROM segment_pages WHERE id = ?`, segment<<24|int64(page)).Scan(&data)
	return data, err
}

// openSearchTerms returns the terms of all documents, each behind the name of its field.
func openSearchTerms(t *testing.T, s *service) (terms []string) {
	t.Helper()
	indexes := string(s.engines.OpenSearchURL) + "/"
	var found struct {
		Hits struct {
			Hits []struct {
				Index   string `json:"_index"`
				ID      string `json:"_id"`
				Routing string `json:"_routing"`
			}
		}
	}
	askOpenSearch(t, indexes+s.engines.OpenSearchPrefix+"-*/_search", `{"size":1000,"_source":false}`, &found)
	for _, hit := range found.Hits.Hits {
		var vectors struct {
			Fields map[string]struct{ Terms map[string]any } `json:"term_vectors"`
		}
		path := hit.Index + "/_termvectors/" + url.PathEscape(hit.ID) + "?" + url.Values{"routing": {hit.Routing}}.Encode()
		askOpenSearch(t, indexes+path, `{"fields":["*"],"positions":false,"offsets":false}`, &vectors)
		for field, vector := range vectors.Fields {
			for term := range vector.Terms {
				terms = append(terms, field+":"+term)
			}
		}
	}
	return terms
}

func askOpenSearch(t *testing.T, address, body string, answer any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: got status %d, want %d", address, response.StatusCode, http.StatusOK)
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		t.Fatal(err)
	}
}
