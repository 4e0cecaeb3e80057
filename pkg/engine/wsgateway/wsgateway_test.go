package wsgateway_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/wsgateway"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// service answers the calls of a gateway, each as the next of its faults says.
type service struct {
	t      *testing.T
	faults []http.HandlerFunc // nil: sound; the last one counts for all that follow

	mu    sync.Mutex
	calls []string // method and target, as they came
}

var account = aws.Credentials{AccessKeyID: "KEYID", SecretAccessKey: "secret", SessionToken: "session"}

func newService(t *testing.T, faults ...http.HandlerFunc) (*service, *wsgateway.Gateway) {
	t.Helper()
	s := &service{t: t, faults: faults}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	gateway, err := wsgateway.New(server.URL+"/live/", configOf(account))
	if err != nil {
		t.Fatal(err)
	}
	return s, gateway
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	var fault http.HandlerFunc
	if len(s.faults) > 0 {
		fault = s.faults[min(len(s.calls), len(s.faults)-1)]
	}
	s.calls = append(s.calls, r.Method+" "+r.RequestURI)
	s.mu.Unlock()
	s.checkSignature(r)
	if fault != nil {
		fault(w, r)
	}
}

// made are the calls so far.
func (s *service) made() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// checkSignature signs what came and compares.
func (s *service) checkSignature(r *http.Request) {
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		s.t.Errorf("the date: %v", err)
	}
	again, err := http.NewRequestWithContext(context.Background(), r.Method, "http://"+r.Host+r.RequestURI, nil)
	if err != nil {
		s.t.Error(err)
		return
	}
	if again.ContentLength = r.ContentLength; r.ContentLength > 0 {
		again.Header.Set("Content-Type", r.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	if err := v4.NewSigner().SignHTTP(context.Background(), account, again, digest(body), "execute-api", configOf(account).Region, at); err != nil {
		s.t.Error(err)
	}
	if got, want := r.Header.Get("Authorization"), again.Header.Get("Authorization"); got != want {
		s.t.Errorf("%s %s is signed as\n%s, want\n%s", r.Method, r.RequestURI, got, want)
	}
}

func answers(status int, kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Amzn-Errortype", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // a client that is gone is no concern
	}
}

func cuts(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// callTime is more than all tries of a call may take together.
const callTime = 6 * time.Second

// wantPlain fails the test unless err is an error that is none of the port's.
func wantPlain(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: got no error, want one", what)
	}
	for _, other := range []error{stream.ErrGone, stream.ErrBusy} {
		if errors.Is(err, other) {
			t.Errorf("%s: got error %v, want one other than %v", what, err, other)
		}
	}
}

func TestSendTriesAgainWhereThatMayHelp(t *testing.T) {
	for _, c := range []struct {
		name   string
		faults []http.HandlerFunc
		want   error
		plain  bool // an error that is none of the port's
		calls  int
	}{
		{"sound", nil, nil, false, 1},
		{"gone", []http.HandlerFunc{answers(410, "GoneException", `{"message":"secret text"}`)}, stream.ErrGone, false, 1},
		{"throttled once", []http.HandlerFunc{answers(429, "LimitExceededException", ""), nil}, nil, false, 2},
		{"throttled", []http.HandlerFunc{answers(429, "LimitExceededException", "")}, stream.ErrBusy, false, 5},
		{"too large", []http.HandlerFunc{answers(413, "PayloadTooLargeException", "")}, nil, true, 1},
		{"forbidden", []http.HandlerFunc{answers(403, "ForbiddenException:http://x", `{"message":"secret text"}`)}, nil, true, 1},
		{"bad id", []http.HandlerFunc{answers(400, "BadRequestException", "")}, nil, true, 1},
		{"failed once", []http.HandlerFunc{answers(500, "", ""), nil}, nil, false, 2},
		{"failed, then gone", []http.HandlerFunc{answers(503, "", ""), answers(410, "", "")}, stream.ErrGone, false, 2},
		{"failed", []http.HandlerFunc{answers(502, "secret text", "secret text")}, nil, true, 5},
		{"cut twice", []http.HandlerFunc{cuts, cuts, nil}, nil, false, 3},
		{"cut", []http.HandlerFunc{cuts}, nil, true, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, gateway := newService(t, c.faults...)
			began := time.Now()
			err := gateway.Send(t.Context(), "abc=", []byte("text"))
			if c.plain {
				wantPlain(t, "Send", err)
			} else if !errors.Is(err, c.want) {
				t.Errorf("got error %v, want %v", err, c.want)
			}
			for _, told := range []string{"secret text", "/live"} {
				if err != nil && strings.Contains(err.Error(), told) {
					t.Errorf("got error %v, want it without %q", err, told)
				}
			}
			if len(s.made()) != c.calls {
				t.Errorf("got %d calls, want %d", len(s.made()), c.calls)
			}
			if time.Since(began) > callTime {
				t.Errorf("took %v, want at most %v", time.Since(began), callTime)
			}
		})
	}
}

func TestIDsAreEscapedAsTheyAreSigned(t *testing.T) {
	for id, want := range map[string]string{
		"JaWwEeHxIAMCFZA=": "JaWwEeHxIAMCFZA%3D", "a/b+c-d_e": "a%2Fb%2Bc-d_e", "../x": "..%2Fx", "a b?c#d%3D": "a%20b%3Fc%23d%253D", "é~": "%C3%A9~",
	} {
		s, gateway := newService(t)
		if err := errors.Join(gateway.Send(t.Context(), id, []byte("text")), gateway.Cut(t.Context(), id)); err != nil {
			t.Errorf("%q: %v", id, err)
		}
		if want := []string{"POST /live/@connections/" + want, "DELETE /live/@connections/" + want}; !slices.Equal(s.made(), want) {
			t.Errorf("%q: calls %q, want %q", id, s.made(), want)
		}
	}
}

func TestSendMakesNoCallThatCannotSucceed(t *testing.T) {
	s, gateway := newService(t)
	for _, id := range []string{"", ".", ".."} {
		if err := gateway.Send(t.Context(), id, []byte("text")); !errors.Is(err, stream.ErrGone) {
			t.Errorf("%q: got error %v, want %v", id, err, stream.ErrGone)
		}
	}
	if err := gateway.Send(t.Context(), "abc=", make([]byte, stream.MaxFrameBytes+1)); !errors.Is(err, audit.ErrTooLarge) {
		t.Errorf("too much: got error %v, want %v", err, audit.ErrTooLarge)
	}
	if calls := s.made(); len(calls) > 0 {
		t.Errorf("got calls %q, want none", calls)
	}
}

func TestCutOfWhoIsGone(t *testing.T) {
	_, gateway := newService(t, answers(410, "GoneException", ""))
	if err := gateway.Cut(t.Context(), "abc="); err != nil {
		t.Error(err)
	}
	_, gateway = newService(t, answers(403, "ForbiddenException", ""))
	if err := gateway.Cut(t.Context(), "abc="); err == nil || !strings.Contains(err.Error(), "403, ForbiddenException") {
		t.Errorf("got error %v, want one with %q", err, "403, ForbiddenException")
	}
}

func TestSendWaitsForNoAnswerLong(t *testing.T) {
	hangs := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	s, gateway := newService(t, hangs, nil)
	began := time.Now()
	if err := gateway.Send(t.Context(), "abc=", []byte("text")); err != nil {
		t.Error(err)
	} else if len(s.made()) != 2 {
		t.Errorf("got %d calls, want 2", len(s.made()))
	} else if time.Since(began) > callTime {
		t.Errorf("took %v, want at most %v", time.Since(began), callTime)
	}
	_, gateway = newService(t, hangs)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := gateway.Send(ctx, "abc=", []byte("text")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestNewRefusesWhatIsNoAddress(t *testing.T) {
	for _, endpoint := range []string{"", "x", "ftp://secret.example", "http://", "https://secret.example/a?b=c", "://secret", "wss://secret.example/live"} {
		if _, err := wsgateway.New(endpoint, configOf(account)); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got error %v, want one without the address", endpoint, err)
		}
	}
}
