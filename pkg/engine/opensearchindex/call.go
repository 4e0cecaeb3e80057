package opensearchindex

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
)

// call is one request. Everything in its path is made of checked names.
type call struct {
	method string
	path   string
	query  url.Values
	body   []byte
}

// once sends the request and returns the body of its answer. An answer that is
// no success is an *answerError.
func (x *Index) once(ctx context.Context, c call) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, c.method, c.path, bytes.NewReader(c.body))
	if err != nil {
		return nil, err
	}
	request.URL.RawQuery = c.query.Encode()
	if len(c.body) > 0 {
		request.Header.Set("Content-Type", "application/json") // bulk requests take it as well
	} else {
		request.Body = nil
	}
	client, err := x.client()
	if err != nil {
		return nil, err
	}
	response, err := client.Stream(request)
	if response != nil {
		defer func() { _ = response.Body.Close() }() // it has been read
	}
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return nil, newAnswerError(response.StatusCode, body)
	}
	return body, nil
}

// errSilent stands for a context's deadline where the context was one attempt's
// own, or the dialer's: it passes.
var errSilent = errors.New("OpenSearch does not answer in time")

// attempt is once for at most so long.
func (x *Index) attempt(ctx context.Context, most time.Duration, c call) ([]byte, error) {
	bounded, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	body, err := x.once(bounded, c)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, errSilent
	}
	return body, err
}

// try repeats a reading request for a moment while it may succeed later. The
// caller's context bounds it.
func (x *Index) try(ctx context.Context, c call) ([]byte, error) {
	return repeat(ctx, readBudget, func() ([]byte, error) { return x.once(ctx, c) })
}

// insist repeats a request of the writing side within the write budget while it
// may succeed later.
func (x *Index) insist(ctx context.Context, c call) ([]byte, error) {
	return repeat(ctx, x.config.WriteBudget, func() ([]byte, error) { return x.attempt(ctx, x.config.Timeouts.Write, c) })
}

// repeat makes a request, and again within the budget while that may help.
func repeat(ctx context.Context, budget time.Duration, request func() ([]byte, error)) ([]byte, error) {
	pause := newPause(budget)
	for {
		body, err := request()
		if err == nil || !passes(err) || !pause.wait(ctx) {
			return body, failure(err)
		}
	}
}

// answerError is an answer that is no success. Its text holds no content of entries.
type answerError struct {
	status int
	kinds  []string // OpenSearch's types of the error, its root causes and causes
	reason string   // may hold content
}

func (e *answerError) Error() string {
	if len(e.kinds) == 0 {
		return fmt.Sprintf("OpenSearch answers %d", e.status)
	}
	return fmt.Sprintf("OpenSearch answers %d %s", e.status, e.kinds[0])
}

func (e *answerError) has(kinds ...string) bool {
	return slices.ContainsFunc(kinds, func(kind string) bool { return slices.Contains(e.kinds, kind) })
}

// explained adds OpenSearch's reason. It is for requests that hold no content of entries.
func explained(err error) error {
	var answer *answerError
	if errors.As(err, &answer) && answer.reason != "" {
		return fmt.Errorf("%w: %s", err, answer.reason)
	}
	return err
}

// cause is an error as OpenSearch describes it.
type cause struct {
	Type         string  `json:"type"`
	Reason       string  `json:"reason"`
	RootCause    []cause `json:"root_cause"`
	CausedBy     *cause  `json:"caused_by"`
	FailedShards []struct {
		Reason cause `json:"reason"`
	} `json:"failed_shards"`
}

func newAnswerError(status int, body []byte) *answerError {
	var described struct {
		Error cause `json:"error"`
	}
	// Proxies answer with other forms, and some errors of OpenSearch are a
	// plain string: then the status has to do.
	if err := json.Unmarshal(body, &described); err != nil {
		return &answerError{status: status}
	}
	return &answerError{status: status, kinds: described.Error.kinds(nil), reason: described.Error.Reason}
}

func (c *cause) kinds(known []string) []string {
	if c.Type != "" && !slices.Contains(known, c.Type) {
		known = append(known, c.Type)
	}
	for i := range c.RootCause {
		known = c.RootCause[i].kinds(known)
	}
	for i := range c.FailedShards {
		known = c.FailedShards[i].Reason.kinds(known)
	}
	if c.CausedBy != nil {
		known = c.CausedBy.kinds(known)
	}
	return known
}

const (
	kindNotFound      = "index_not_found_exception"
	kindExists        = "resource_already_exists_exception"
	kindClosed        = "index_closed_exception"
	kindTooManyGroups = "too_many_buckets_exception"
)

// isNotFound reports whether the error says that the index or alias does not exist.
func isNotFound(err error) bool {
	var answer *answerError
	return errors.As(err, &answer) && answer.status == http.StatusNotFound && answer.has(kindNotFound)
}

// passes reports whether an error may be gone when the request is repeated.
func passes(err error) bool {
	var answer *answerError
	switch {
	case errors.As(err, &answer):
		return passingStatus(answer.status) && !answer.has(kindTooManyGroups)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	}
	return true // the connection
}

func passingStatus(status int) bool {
	return status == http.StatusTooManyRequests || status >= 500
}

// failure makes every error an *audit.UnavailableError but the end of what the
// caller wanted and the request's own faults. The rest is the cluster's, also
// where it answers with a 4xx: an index that is closed or blocked, a role that
// has expired, no shards left. People mend that; until then others can answer
// and writers can wait.
func failure(err error) error {
	var unavailable *audit.UnavailableError
	var answer *answerError
	switch {
	case err == nil, errors.As(err, &unavailable), errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &answer) && answer.has(ownFaults()...):
		return err
	}
	return &audit.UnavailableError{Err: err}
}

// ownFaults are the errors that are of the request itself: it asks for too much,
// or is not OpenSearch's language, which is a fault of this package.
func ownFaults() []string {
	return append(tooComplex(), kindTooManyGroups, "parsing_exception", "x_content_parse_exception", "json_parse_exception")
}

// pause is the waits between the attempts at one thing.
type pause struct {
	end      time.Time
	failures int
}

func newPause(budget time.Duration) *pause {
	return &pause{end: time.Now().Add(budget)}
}

// wait waits between half and the whole of a time that doubles with every call.
// It returns false without waiting when the budget does not allow for it, and
// false when the context ends.
func (p *pause) wait(ctx context.Context) bool {
	p.failures++
	// The jitter spreads writers that the cluster refused at the same time.
	length := backoff.Policy{First: 50 * time.Millisecond, Max: 5 * time.Second, Jitter: backoff.EqualJitter}.Delay(p.failures)
	return !time.Now().Add(length).After(p.end) && backoff.Sleep(ctx, length) == nil
}
