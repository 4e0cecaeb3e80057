package localcloud

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

// failing is a function that fails.
func failing(context.Context, events.EventBridgeEvent) error { return errors.New("the store is down") }

// startInvocations serves one function that counts its runs in ran, and one that fails.
func startInvocations(t *testing.T, ran *int) (folder string, served *invocations) {
	t.Helper()
	folder = t.TempDir()
	counted := func(context.Context, events.EventBridgeEvent) error { *ran++; return nil }
	quiet := slog.New(slog.DiscardHandler)
	served, err := serveInvocations(t.Context(), folder, []*scheduler{
		{name: "retain-logs", timeout: time.Second, function: counted, log: quiet},
		{name: "plan-jobs", timeout: time.Second, function: failing, log: quiet},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return folder, served
}

func TestInvoke(t *testing.T) {
	ran := 0
	folder, served := startInvocations(t, &ran)
	if err := Invoke(t.Context(), folder, "retain-logs"); err != nil {
		t.Errorf("got error %v, want none", err)
	}
	if ran != 1 {
		t.Errorf("the function ran %d times, want 1", ran)
	}
	if err := Invoke(t.Context(), folder, "plan-jobs"); err == nil || errors.Is(err, ErrNotRunning) {
		t.Errorf("a function that fails: got error %v, want its failure", err)
	}
	stale, err := os.ReadFile(filepath.Join(folder, invocationsFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := served.close(); err != nil {
		t.Fatal(err)
	}
	if err := Invoke(t.Context(), folder, "retain-logs"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the end: got error %v, want %v", err, ErrNotRunning)
	}
	if err := os.WriteFile(filepath.Join(folder, invocationsFile), stale, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Invoke(t.Context(), folder, "retain-logs"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("with the file of a killed service: got error %v, want %v", err, ErrNotRunning)
	}
}

// Only the secret's owner may invoke, and no page in a browser can.
func TestInvocationsAreGuarded(t *testing.T) {
	ran := 0
	folder, served := startInvocations(t, &ran)
	text, err := os.ReadFile(filepath.Join(folder, invocationsFile))
	if err != nil {
		t.Fatal(err)
	}
	var endpoint invocationsEndpoint
	if err := json.Unmarshal(text, &endpoint); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, method, path, secret, host, origin string
		want                                     int
	}{
		{"no secret", http.MethodPost, "/invoke/retain-logs", "", "", "", http.StatusUnauthorized},
		{"another secret", http.MethodPost, "/invoke/retain-logs", "x" + endpoint.Secret, "", "", http.StatusUnauthorized},
		{"a name as Host", http.MethodPost, "/invoke/retain-logs", endpoint.Secret, "localhost", "", http.StatusForbidden},
		{"an Origin", http.MethodPost, "/invoke/retain-logs", endpoint.Secret, "", "http://" + endpoint.Address, http.StatusForbidden},
		{"GET", http.MethodGet, "/invoke/retain-logs", endpoint.Secret, "", "", http.StatusMethodNotAllowed},
		{"a function without a schedule", http.MethodPost, "/invoke/persist-logs", endpoint.Secret, "", "", http.StatusNotFound},
	} {
		request, err := http.NewRequestWithContext(t.Context(), tt.method, "http://"+endpoint.Address+tt.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = tt.host // "": the address
		request.Header.Set("Authorization", "Bearer "+tt.secret)
		if tt.origin != "" {
			request.Header.Set("Origin", tt.origin)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != tt.want {
			t.Errorf("%s: got status %d, want %d", tt.name, response.StatusCode, tt.want)
		}
	}
	if ran != 0 {
		t.Errorf("the function ran %d times, want 0", ran)
	}
	if err := served.close(); err != nil {
		t.Error(err)
	}
}
