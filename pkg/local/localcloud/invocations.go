package localcloud

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// invocationsFile names, within the data folder, where a running service takes invocations.
const invocationsFile = "invocations.json"

// invocationsEndpoint is what the file says. The secret is that of one run, so that a file which
// a killed service left behind opens nothing.
type invocationsEndpoint struct {
	Address string `json:"address"` // host:port
	Secret  string `json:"secret"`
}

// invocations runs scheduled functions at once, for who can read the data folder. It listens on
// the loopback interface alone, at a port of its own. It takes no request that a page in a browser
// can make: those have an Origin, or the name of a host instead of the address.
type invocations struct {
	endpoint   invocationsEndpoint
	file       string
	schedulers []*scheduler
	server     *http.Server
}

// serveInvocations serves until close. The requests end with ctx.
func serveInvocations(ctx context.Context, data string, schedulers []*scheduler, report func(Request)) (*invocations, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	i := &invocations{
		endpoint:   invocationsEndpoint{Address: listener.Addr().String(), Secret: rand.Text()},
		file:       filepath.Join(data, invocationsFile),
		schedulers: schedulers,
	}
	text, err := json.Marshal(i.endpoint)
	if err == nil {
		_ = os.Remove(i.file) // of a killed service, perhaps with other permissions
		err = os.WriteFile(i.file, text, 0o600)
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /invoke/{function}", i.invoke)
	i.server = &http.Server{
		Handler: logged(i.guard(mux), report), ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	go func() { _ = i.server.Serve(listener) }() // returns after close
	return i, nil
}

// guard refuses who is not the command invoke.
func (i *invocations) guard(next http.Handler) http.Handler {
	want := "Bearer " + i.endpoint.Secret
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host != i.endpoint.Address || r.Header.Get("Origin") != "":
			http.Error(w, "ask by the command invoke", http.StatusForbidden)
		case subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(want)) == 0:
			http.Error(w, "the secret is not that of this run", http.StatusUnauthorized)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// invoke runs the function that the path names.
func (i *invocations) invoke(w http.ResponseWriter, r *http.Request) {
	for _, s := range i.schedulers {
		if s.name != r.PathValue("function") {
			continue
		}
		if s.invoke(r.Context()) != nil {
			http.Error(w, "the function failed", http.StatusInternalServerError) // it is in the log
			return
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	http.Error(w, "no schedule has this function", http.StatusNotFound)
}

// close waits for requests whose context has ended, and removes the file.
func (i *invocations) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	return errors.Join(i.server.Shutdown(ctx), os.Remove(i.file))
}

// ErrNotRunning says that no service runs over a data folder.
var ErrNotRunning = errors.New("no service runs over the data folder")

// Invoke has the service of a data folder run a scheduled function now. It waits for its end, and
// returns ErrNotRunning if no service runs over the folder.
func Invoke(ctx context.Context, data, function string) error {
	text, err := os.ReadFile(filepath.Join(data, invocationsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotRunning
	}
	if err != nil {
		return err
	}
	var endpoint invocationsEndpoint
	if err := json.Unmarshal(text, &endpoint); err != nil {
		return fmt.Errorf("read %s: %w", invocationsFile, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+endpoint.Address+"/invoke/"+function, http.NoBody)
	if err != nil {
		return fmt.Errorf("read %s: %w", invocationsFile, err)
	}
	request.Header.Set("Authorization", "Bearer "+endpoint.Secret)
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if failed := (*net.OpError)(nil); errors.As(err, &failed) && failed.Op == "dial" {
		return ErrNotRunning
	}
	if err != nil {
		return err
	}
	_ = response.Body.Close() // the status says it all
	switch response.StatusCode {
	case http.StatusNoContent:
		return nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrNotRunning // another program has the port now
	}
	return fmt.Errorf("%s: %s, see the output of the service", function, response.Status)
}

// ScheduledFunctions returns the names of the functions that run by a schedule.
func ScheduledFunctions() []string {
	var names []string
	for _, f := range manifest.Functions() {
		if f.Trigger.Schedule != nil {
			names = append(names, f.Name)
		}
	}
	return names
}
