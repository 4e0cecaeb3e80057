package localcloud

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestLoggedTellsTheStatus(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    int
	}{
		{"nothing is written", func(http.ResponseWriter, *http.Request) {}, 200},
		{"a body without a status", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, 200},
		{"a status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, 404},
		{"a status that is not the answer", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(404) }, 404},
		{"a panic", func(http.ResponseWriter, *http.Request) { panic("broken") }, 500},
		{"a panic after the status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(206); panic(http.ErrAbortHandler) }, 206},
		{"a panic within the body", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hel"); panic("broken") }, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []int
			handler := logged(tt.handler, func(r Request) { got = append(got, r.Status) })
			func() {
				defer func() { _ = recover() }() // net/http does so
				handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/x", http.NoBody))
			}()
			if len(got) != 1 {
				t.Fatalf("got %d reports, want 1", len(got))
			}
			if got[0] != tt.want {
				t.Errorf("got status %d, want %d", got[0], tt.want)
			}
		})
	}
}
